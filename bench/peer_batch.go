package main

import (
	"fmt"
	"sync"

	"example.org/imsg"
	engine "example.org/imsg/internal/stream"
)

// takeAtOnce is how many messages the peers "with batches" take and close, or
// queue, at a time.
const takeAtOnce = 64

// bufBatchSink is bufSink with GetBatch and CloseAll.
func bufBatchSink(int) error {
	b, ms := imsg.NewBuf(channel, nil), make([]imsg.Message, takeAtOnce)
	for count := uint32(0); ; {
		if err := b.ReadSocket(); err != nil {
			return ended(err)
		}
		for n := b.GetBatch(ms); n > 0; n = b.GetBatch(ms) {
			for _, m := range ms[:n] {
				if m.Type() != typeSync {
					count++
					continue
				}
				if err := b.Compose(imsg.Header{Type: typeSync, ID: count}, nil); err != nil {
					return err
				}
				count = 0
			}
			imsg.CloseAll(ms[:n])
		}
		if err := b.Flush(); err != nil {
			return err
		}
	}
}

// bufBatchStream is bufStream with ComposeBatch.
func bufBatchStream(size int) (step, error) {
	b := imsg.NewBuf(channel, nil)
	sync := func(n int) error { return bufSync(b, n) }
	return batchStream(size, b.ComposeBatch, b.Flush, sync), nil
}

// connBatchStream is connStream with ComposeBatch.
func connBatchStream(size int) (step, error) {
	c, err := imsg.NewConn(channel, nil)
	if err != nil {
		return nil, err
	}
	sync := func(n int) error { return connSync(c, n) }
	return batchStream(size, c.ComposeBatch, func() error { return c.Flush(background) }, sync), nil
}

func batchStream(size int, queue func([]imsg.Outgoing) (int, error), flush func() error, sync step) step {
	payload, many := make([]byte, size), batchOf(size, batch)
	ms := make([]imsg.Outgoing, min(takeAtOnce, many))
	for i := range ms {
		ms[i] = imsg.Outgoing{Header: imsg.Header{Type: typeData}, Data: payload}
	}
	return func(n int) error {
		for left := n; left > 0; {
			for k := min(left, many); k > 0; {
				queued, err := queue(ms[:min(k, len(ms))])
				if err != nil {
					return err
				}
				k, left = k-queued, left-queued
			}
			if err := flush(); err != nil {
				return err
			}
		}
		return sync(n)
	}
}

// connBatchSink is connSink with ReceiveBatch and CloseAll.
func connBatchSink(int) error {
	c, err := imsg.NewConn(channel, nil)
	if err != nil {
		return err
	}
	ms := make([]imsg.Message, takeAtOnce)
	for count := uint32(0); ; {
		n, err := c.ReceiveBatch(background, ms)
		if err != nil {
			return ended(err)
		}
		for _, m := range ms[:n] {
			if m.Type() != typeSync {
				count++
				continue
			}
			if err := c.Send(background, imsg.Header{Type: typeSync, ID: count}, nil); err != nil {
				return err
			}
			count = 0
		}
		imsg.CloseAll(ms[:n])
	}
}

// framerBatchDecode is framerDecode with messages that are closed together.
func framerBatchDecode(size int) (step, error) {
	return decoding(size, func(f *engine.Framer) (count int) {
		for m, n := f.NextRun(takeAtOnce); n > 0; m, n = f.NextRun(takeAtOnce) {
			m.CloseRun(n)
			count += n
		}
		return count
	})
}

// receivers is a server with k goroutines in Receive, one of which answers.
func receivers(k int) peer {
	return peer{name: fmt.Sprint("k=", k), drive: connPing, serve: func(int) error {
		c, err := imsg.NewConn(channel, nil)
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		errs := make(chan error, k)
		for range k {
			all.Go(func() {
				for m, err := range c.All(background) {
					if err == nil {
						err = c.Send(background, m.Header(), nil, m.Bytes())
					}
					if err != nil {
						errs <- err
						return
					}
					m.Close()
				}
			})
		}
		all.Wait()
		close(errs)
		return <-errs
	}}
}

// limitedSenders is connSenders with a queue that is smaller than what all of
// them have to send.
func limitedSenders(goroutines int) func(size int) (step, error) {
	return senders(goroutines, &imsg.Config{MaxQueueBytes: 64 << 10})
}
