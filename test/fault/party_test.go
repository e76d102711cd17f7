//go:build imsgfault && linux

package fault_test

import (
	"context"
	"errors"
	"os"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// A party is one side of a conversation: a Conn or a Buf and the program
// around it. None of its methods may hang.
type party interface {
	queue(h imsg.Header, f *os.File, p []byte) error // f is the channel's if the error is nil
	build(h imsg.Header, f *os.File, p []byte) error // the same, with a Builder
	send(h imsg.Header, f *os.File, p []byte) (owned bool, err error)
	flush() error
	next() (imsg.Message, error)
	stats() imsg.Stats
	cred() (imsg.Cred, error)
	close() error
}

// parties are the programs that take part.
var parties = map[string]func(w *world, fd int, cfg *imsg.Config) party{
	"conn":          func(w *world, fd int, cfg *imsg.Config) party { return newConnParty(w, fd, cfg, false) },
	"conn-deadline": func(w *world, fd int, cfg *imsg.Config) party { return newConnParty(w, fd, cfg, true) },
	"buf":           func(w *world, fd int, cfg *imsg.Config) party { return newBufParty(w, fd, cfg, false) },
	"buf-loop":      func(w *world, fd int, cfg *imsg.Config) party { return newBufParty(w, fd, cfg, true) },
	"raw":           newRawPeer,
}

// A connParty is bounded by a context or by a deadline, which go different ways.
type connParty struct {
	*imsg.Conn
	ctx  context.Context
	stop func()
}

func newConnParty(w *world, fd int, cfg *imsg.Config, deadline bool) *connParty {
	c, err := imsg.NewConn(fd, cfg)
	if err != nil {
		w.fatalf("%v", err)
	}
	if deadline {
		c.SetDeadline(time.Now().Add(3 * testutil.Bound))
		return &connParty{c, context.Background(), func() {}}
	}
	ctx, stop := context.WithTimeout(context.Background(), 3*testutil.Bound)
	return &connParty{c, ctx, stop}
}

func (c *connParty) queue(h imsg.Header, f *os.File, p []byte) error {
	return c.Compose(h, f, p[:len(p)/2], p[len(p)/2:])
}

func (c *connParty) build(h imsg.Header, f *os.File, p []byte) error {
	b, err := c.Create(h, 0)
	return build(b, err, f, p)
}

func (c *connParty) send(h imsg.Header, f *os.File, p []byte) (owned bool, err error) {
	return false, c.Send(c.ctx, h, f, p)
}

func (c *connParty) flush() error                { return c.Flush(c.ctx) }
func (c *connParty) next() (imsg.Message, error) { return c.Receive(c.ctx) }
func (c *connParty) stats() imsg.Stats           { return c.Stats() }
func (c *connParty) cred() (imsg.Cred, error)    { return c.PeerCred() }

func (c *connParty) close() error {
	c.stop()
	return c.Close()
}

// A bufParty flushes or, with loop set, writes as an event loop does.
type bufParty struct {
	*imsg.Buf
	w    *world
	fd   int
	loop bool
}

func newBufParty(w *world, fd int, cfg *imsg.Config, loop bool) *bufParty {
	return &bufParty{imsg.NewBuf(fd, cfg), w, fd, loop}
}

func (b *bufParty) queue(h imsg.Header, f *os.File, p []byte) error {
	return b.Compose(h, f, p[:len(p)/2], p[len(p)/2:])
}

func (b *bufParty) build(h imsg.Header, f *os.File, p []byte) error {
	m, err := b.Create(h, len(p))
	return build(m, err, f, p)
}

func (b *bufParty) send(h imsg.Header, f *os.File, p []byte) (owned bool, err error) {
	if err := b.Compose(h, f, p); err != nil {
		return false, err
	}
	return true, b.flush()
}

func (b *bufParty) flush() error {
	if b.loop {
		for {
			if err := b.WriteSocket(); err != nil || b.QueueLen() == 0 {
				return err
			}
			testutil.WaitFD(b.w.t, b.fd, unix.POLLOUT)
		}
	}
	for {
		err := b.Flush()
		call := (*os.SyscallError)(nil)
		if !errors.As(err, &call) || call.Syscall != "poll" {
			return err
		}
		checkError(b.w, err, b.w.failed(len(b.w.events)-1)) // not the stream's error: try again
	}
}

func (b *bufParty) next() (imsg.Message, error) { return testutil.BufSide(b.w.t, b.Buf, b.fd).Next() }

func (b *bufParty) stats() imsg.Stats        { return b.Stats() }
func (b *bufParty) cred() (imsg.Cred, error) { return b.PeerCred() }

func (b *bufParty) close() error {
	b.Clear()
	return unix.Close(b.fd)
}

func build(b *imsg.Builder, err error, f *os.File, p []byte) error {
	if err != nil {
		return err
	}
	b.SetFile(f)
	if err = b.Add(p); err == nil {
		err = b.Commit()
	}
	if err != nil {
		b.TakeFile()
		b.Discard()
	}
	return err
}

// checkError fails the run unless err is what the documentation says of a
// call that failed.
func checkError(w *world, err error, want ending) {
	w.t.Helper()
	var op *imsg.OpError
	var call *os.SyscallError
	switch {
	case !errors.As(err, &op) || op.Op == "":
		w.fatalf("not an OpError: %v", err)
	case !errors.Is(err, want.errno):
		w.fatalf("%v, want %v", err, want.errno)
	case want.errno != unix.EAGAIN && (!errors.As(err, &call) || call.Syscall != want.call):
		w.fatalf("not of %s: %v", want.call, err)
	}
}
