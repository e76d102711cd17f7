package main

import (
	"context"
	"errors"
	"os"

	"example.org/imsg"
)

var background = context.Background()

// connStream queues messages and flushes them in batches.
func connStream(size int) (step, error) {
	c, err := imsg.NewConn(channel, nil)
	if err != nil {
		return nil, err
	}
	many, payload := batchOf(size, batch), make([]byte, size)
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, many)
			for range k {
				if err := c.Compose(imsg.Header{Type: typeData}, nil, payload); err != nil {
					return err
				}
			}
			if err := c.Flush(background); err != nil {
				return err
			}
			left -= k
		}
		return connSync(c, n)
	}, nil
}

// connSend sends one message after the other.
func connSend(size int) (step, error) { return connSenders(1)(size) }

// connSenders lets several goroutines send on one Conn.
func connSenders(goroutines int) func(size int) (step, error) { return senders(goroutines, nil) }

func senders(goroutines int, cfg *imsg.Config) func(size int) (step, error) {
	return func(size int) (step, error) {
		c, err := imsg.NewConn(channel, cfg)
		if err != nil {
			return nil, err
		}
		payload := make([]byte, size)
		send := func(n int) error {
			for range n {
				if err := c.Send(background, imsg.Header{Type: typeData}, nil, payload); err != nil {
					return err
				}
			}
			return nil
		}
		shares, errs := make(chan int), make(chan error, goroutines)
		for range goroutines - 1 { // they stay: their stacks have grown
			go func() {
				for n := range shares {
					errs <- send(n)
				}
			}()
		}
		return func(n int) error {
			k := min(n, goroutines)
			for i := range k - 1 {
				shares <- (n + i) / k
			}
			err := send((n + k - 1) / k)
			for range k - 1 {
				err = errors.Join(err, <-errs)
			}
			if err != nil {
				return err
			}
			return connSync(c, n)
		}, nil
	}
}

// connSync waits until the server has got all n messages.
func connSync(c *imsg.Conn, n int) error {
	if err := c.Send(background, imsg.Header{Type: typeSync}, nil); err != nil {
		return err
	}
	m, err := c.Receive(background)
	if err != nil {
		return err
	}
	defer m.Close()
	return counted(m.ID(), n)
}

func connSink(int) error { return connCount(nil, func(imsg.Message) bool { return true }) }

// connCount is a server that counts the messages which match.
func connCount(cfg *imsg.Config, match func(imsg.Message) bool) error {
	c, err := imsg.NewConn(channel, cfg)
	if err != nil {
		return err
	}
	count := uint32(0)
	for m, err := range c.All(background) {
		if err != nil {
			return err
		}
		if m.Type() == typeSync {
			if err := c.Send(background, imsg.Header{Type: typeSync, ID: count}, nil); err != nil {
				return err
			}
			count = 0
		} else if match(m) {
			count++
		}
		m.Close()
	}
	return nil
}

func connPing(size int) (step, error)     { return connRoundTrips(size, nil) }
func connEcho(int) error                  { return connAnswer(nil) }
func connBusyPing(size int) (step, error) { return connRoundTrips(size, &imsg.Config{BusyPoll: busy}) }
func connBusyEcho(int) error              { return connAnswer(&imsg.Config{BusyPoll: busy}) }

func connRoundTrips(size int, cfg *imsg.Config) (step, error) {
	c, err := imsg.NewConn(channel, cfg)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	return func(n int) error {
		for range n {
			if err := c.Send(background, imsg.Header{Type: typeData}, nil, payload); err != nil {
				return err
			}
			m, err := c.Receive(background)
			if err != nil {
				return err
			}
			m.Close()
		}
		return nil
	}, nil
}

func connAnswer(cfg *imsg.Config) error {
	c, err := imsg.NewConn(channel, cfg)
	if err != nil {
		return err
	}
	for m, err := range c.All(background) {
		if err != nil {
			return err
		}
		if err := c.Send(background, m.Header(), nil, m.Bytes()); err != nil {
			return err
		}
		m.Close()
	}
	return nil
}

// connFile passes one file that it keeps, one message a Send.
func connFile(size int) (step, error) {
	c, err := imsg.NewConn(channel, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	send := func(k int) error {
		for range k {
			if err := c.Send(background, imsg.Header{Type: typeData}, null, payload); err != nil {
				return err
			}
		}
		return nil
	}
	sync := func(k int) error { return connSync(c, k) }
	return func(n int) error { return window(n, send, sync) }, nil
}

// connQueueFile passes duplicates of one file, which the queue owns and closes.
func connQueueFile(size int) (step, error) {
	c, err := imsg.NewConn(channel, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return nil, err
	}
	send, err := sendDups(c.Compose, func() error { return c.Flush(background) }, size)
	if err != nil {
		return nil, err
	}
	sync := func(k int) error { return connSync(c, k) }
	return func(n int) error { return window(n, send, sync) }, nil
}

func connFileSink(int) error { return connCount(&imsg.Config{AllowFDPass: true}, closeFile) }
