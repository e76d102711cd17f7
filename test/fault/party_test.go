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

// A faultParty is one side of a conversation: a Conn or a Buf and the program
// around it. None of its methods may hang.
type faultParty interface {
	queue(h imsg.Header, f *os.File, p []byte) error // f is the channel's if the error is nil
	build(h imsg.Header, f *os.File, p []byte) error // the same, with a Builder
	send(h imsg.Header, f *os.File, p []byte) (owned bool, err error)
	flush() error
	next() (imsg.Message, error)
	stats() imsg.Stats
	cred() (imsg.Cred, error)
	close() error
}

// faultParties are the programs that take part.
var faultParties = map[string]func(w *faultWorld, fd int, cfg *imsg.Config) faultParty{
	"conn":          func(w *faultWorld, fd int, cfg *imsg.Config) faultParty { return newFaultConn(w, fd, cfg, false) },
	"conn-deadline": func(w *faultWorld, fd int, cfg *imsg.Config) faultParty { return newFaultConn(w, fd, cfg, true) },
	"buf":           func(w *faultWorld, fd int, cfg *imsg.Config) faultParty { return newFaultBuf(w, fd, cfg, false) },
	"buf-loop":      func(w *faultWorld, fd int, cfg *imsg.Config) faultParty { return newFaultBuf(w, fd, cfg, true) },
	"raw":           newFaultRawPeer,
}

// A faultConn is bounded by a context or by a deadline, which go different ways.
type faultConn struct {
	*imsg.Conn
	ctx  context.Context
	stop func()
}

func newFaultConn(w *faultWorld, fd int, cfg *imsg.Config, deadline bool) *faultConn {
	c, err := imsg.NewConn(fd, cfg)
	if err != nil {
		w.fatalf("%v", err)
	}
	if deadline {
		c.SetDeadline(time.Now().Add(3 * testutil.Bound))
		return &faultConn{c, context.Background(), func() {}}
	}
	ctx, stop := context.WithTimeout(context.Background(), 3*testutil.Bound)
	return &faultConn{c, ctx, stop}
}

func (c *faultConn) queue(h imsg.Header, f *os.File, p []byte) error {
	return c.Compose(h, f, p[:len(p)/2], p[len(p)/2:])
}

func (c *faultConn) build(h imsg.Header, f *os.File, p []byte) error {
	b, err := c.Create(h, 0)
	return faultBuild(b, err, f, p)
}

func (c *faultConn) send(h imsg.Header, f *os.File, p []byte) (owned bool, err error) {
	return false, c.Send(c.ctx, h, f, p)
}

func (c *faultConn) flush() error                { return c.Flush(c.ctx) }
func (c *faultConn) next() (imsg.Message, error) { return c.Receive(c.ctx) }
func (c *faultConn) stats() imsg.Stats           { return c.Stats() }
func (c *faultConn) cred() (imsg.Cred, error)    { return c.PeerCred() }

func (c *faultConn) close() error {
	c.stop()
	return c.Close()
}

// A faultBuf flushes or, with loop set, writes as an event loop does.
type faultBuf struct {
	*imsg.Buf
	w    *faultWorld
	fd   int
	loop bool
}

func newFaultBuf(w *faultWorld, fd int, cfg *imsg.Config, loop bool) *faultBuf {
	return &faultBuf{imsg.NewBuf(fd, cfg), w, fd, loop}
}

func (b *faultBuf) queue(h imsg.Header, f *os.File, p []byte) error {
	return b.Compose(h, f, p[:len(p)/2], p[len(p)/2:])
}

func (b *faultBuf) build(h imsg.Header, f *os.File, p []byte) error {
	m, err := b.Create(h, len(p))
	return faultBuild(m, err, f, p)
}

func (b *faultBuf) send(h imsg.Header, f *os.File, p []byte) (owned bool, err error) {
	if err := b.Compose(h, f, p); err != nil {
		return false, err
	}
	return true, b.flush()
}

func (b *faultBuf) flush() error {
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
		faultCheckError(b.w, err, b.w.failed(len(b.w.events)-1)) // not the stream's error: try again
	}
}

func (b *faultBuf) next() (imsg.Message, error) { return testutil.BufSide(b.w.t, b.Buf, b.fd).Next() }

func (b *faultBuf) stats() imsg.Stats        { return b.Stats() }
func (b *faultBuf) cred() (imsg.Cred, error) { return b.PeerCred() }

func (b *faultBuf) close() error {
	b.Clear()
	return unix.Close(b.fd)
}

func faultBuild(b *imsg.Builder, err error, f *os.File, p []byte) error {
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

// faultCheckError fails the run unless err is what the documentation says of a
// call that failed.
func faultCheckError(w *faultWorld, err error, want faultStop) {
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
