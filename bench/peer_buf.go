package main

import (
	"os"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// bufStream queues messages and flushes them in batches.
func bufStream(size int) (step, error) { return bufBatches(size, batchOf(size, batch)) }

// bufSend flushes each message.
func bufSend(size int) (step, error) { return bufBatches(size, 1) }

func bufBatches(size, many int) (step, error) {
	b, payload := imsg.NewBuf(channel, nil), make([]byte, size)
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, many)
			for range k {
				if err := b.Compose(imsg.Header{Type: typeData}, nil, payload); err != nil {
					return err
				}
			}
			if err := b.Flush(); err != nil {
				return err
			}
			left -= k
		}
		return bufSync(b, n)
	}, nil
}

// bufSync waits until the server has got all n messages.
func bufSync(b *imsg.Buf, n int) error {
	if err := b.Compose(imsg.Header{Type: typeSync}, nil); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	for {
		if err := b.ReadSocket(); err != nil {
			return err
		}
		if m, ok := b.Get(); ok {
			defer m.Close()
			return counted(m.ID(), n)
		}
	}
}

func bufSink(int) error { return bufCount(nil, func(imsg.Message) bool { return true }) }

// bufCount is a server with blocking reads that counts the messages which match.
func bufCount(cfg *imsg.Config, match func(imsg.Message) bool) error {
	b := imsg.NewBuf(channel, cfg)
	for count := uint32(0); ; {
		if err := b.ReadSocket(); err != nil {
			return ended(err)
		}
		for m := range b.All() {
			if m.Type() == typeSync {
				if err := b.Compose(imsg.Header{Type: typeSync, ID: count}, nil); err != nil {
					return err
				}
				count = 0
			} else if match(m) {
				count++
			}
			m.Close()
		}
		if err := b.Flush(); err != nil {
			return err
		}
	}
}

// bufPing waits in poll(2), as programs with an event loop do.
func bufPing(size int) (step, error) {
	if err := unix.SetNonblock(channel, true); err != nil {
		return nil, err
	}
	b, payload := imsg.NewBuf(channel, nil), make([]byte, size)
	return func(n int) error {
		for range n {
			if err := b.Compose(imsg.Header{Type: typeData}, nil, payload); err != nil {
				return err
			}
			if err := b.Flush(); err != nil {
				return err
			}
			for got := false; !got; {
				if err := waitReadable(); err != nil {
					return err
				}
				if err := b.ReadSocket(); err != nil {
					return err
				}
				for m := range b.All() {
					got = true
					m.Close()
				}
			}
		}
		return nil
	}, nil
}

func bufEcho(int) error {
	if err := unix.SetNonblock(channel, true); err != nil {
		return err
	}
	for b := imsg.NewBuf(channel, nil); ; {
		if err := waitReadable(); err != nil {
			return err
		}
		if err := b.ReadSocket(); err != nil {
			return ended(err)
		}
		for m := range b.All() {
			if err := b.Compose(m.Header(), nil, m.Bytes()); err != nil {
				return err
			}
			m.Close()
		}
		if err := b.Flush(); err != nil {
			return err
		}
	}
}

// fileBatch is how many messages with files are queued before a flush.
const fileBatch = 64

// bufFile passes duplicates of one file, which the queue owns and closes.
func bufFile(size int) (step, error) {
	b := imsg.NewBuf(channel, &imsg.Config{AllowFDPass: true})
	send, err := sendDups(b.Compose, b.Flush, size)
	if err != nil {
		return nil, err
	}
	sync := func(k int) error { return bufSync(b, k) }
	return func(n int) error { return window(n, send, sync) }, nil
}

// sendDups returns a function that queues k messages with a duplicate each and
// flushes them in batches.
func sendDups(queue func(imsg.Header, *os.File, ...[]byte) error, flush func() error, size int) (step, error) {
	null, err := openNull()
	if err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	return func(k int) error {
		for i := 1; i <= k; i++ {
			fd, err := unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := queue(imsg.Header{Type: typeData}, os.NewFile(uintptr(fd), os.DevNull), payload); err != nil {
				return err
			}
			if i%fileBatch == 0 || i == k {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}

func bufFileSink(int) error { return bufCount(&imsg.Config{AllowFDPass: true}, closeFile) }

// closeFile takes the message's file, closes it and reports whether there was
// one.
func closeFile(m imsg.Message) bool {
	fd := m.TakeFD()
	return fd >= 0 && unix.Close(fd) == nil
}
