package imsg_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// bound is how long anything may take before a test gives up on it.
const bound = 10 * time.Second

var dialects = []imsg.Dialect{imsg.Current, imsg.Legacy, imsg.Auto}

// noLeak fails the test if it ends with other descriptors than it has now.
// Call it first: later cleanups run before its own.
func noLeak(t testing.TB) {
	t.Helper()
	before := imsgtest.OpenFDs()
	t.Cleanup(func() {
		for fd, name := range imsgtest.OpenFDs() {
			if _, ok := before[fd]; !ok {
				t.Errorf("descriptor %d (%s) is left", fd, name)
			}
		}
	})
}

// deadlineCtx returns a context that bounds a failure.
func deadlineCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	t.Cleanup(cancel)
	return ctx
}

// frame is one whole message as dialect d writes it, its payload a pattern
// that depends on the type.
func frame(d imsg.Dialect, typ uint32, payload int, file bool) []byte {
	p := rawHeader(d, typ, imsg.HeaderSize+payload, file)
	return append(p, pattern(typ, payload)...)
}

// rawHeader is a header that may lie about the length.
func rawHeader(d imsg.Dialect, typ uint32, n int, file bool) []byte {
	p := make([]byte, imsg.HeaderSize)
	d.Encode(p, binary.NativeEndian, imsg.Header{Type: typ, ID: typ + 1, PID: int32(typ) + 2}, n, file)
	return p
}

func pattern(seed uint32, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(uint32(i)*7 + seed*13 + 1)
	}
	return p
}

// checkFrame fails the test unless m is what frame or a Send of pattern made.
func checkFrame(t testing.TB, m imsg.Message, typ uint32, payload int) {
	t.Helper()
	if m.Type() != typ || m.Len() != payload || string(m.Bytes()) != string(pattern(typ, payload)) {
		t.Fatalf("message of type %d with %d bytes, want type %d with %d bytes of its pattern", m.Type(), m.Len(), typ, payload)
	}
}

// A side is one side of a channel, a Buf or a Conn, as the tests drive both.
type side struct {
	next  func() (imsg.Message, error) // waits for a message
	send  func(h imsg.Header, f *os.File, data ...[]byte) error
	stats func() imsg.Stats
	clear func() // gives up everything the side holds
	set   func(int) error
}

func bufSide(t testing.TB, b *imsg.Buf, fd int) *side {
	return &side{
		next: func() (imsg.Message, error) {
			for {
				if m, ok := b.Get(); ok {
					return m, nil
				}
				had := b.Stats().Received.Bytes
				if err := b.ReadSocket(); err != nil {
					if m, ok := b.Get(); ok {
						return m, nil
					}
					return imsg.Message{}, err
				}
				if b.Stats().Received.Bytes == had {
					waitFD(t, fd, unix.POLLIN)
				}
			}
		},
		send: func(h imsg.Header, f *os.File, data ...[]byte) error {
			if err := b.Compose(h, f, data...); err != nil {
				return err
			}
			return b.Flush()
		},
		stats: b.Stats,
		clear: b.Clear,
		set:   b.SetMaxSize,
	}
}

func connSide(t testing.TB, c *imsg.Conn) *side {
	return &side{
		next:  func() (imsg.Message, error) { return c.Receive(deadlineCtx(t)) },
		send:  func(h imsg.Header, f *os.File, data ...[]byte) error { return c.Send(deadlineCtx(t), h, f, data...) },
		stats: c.Stats,
		clear: func() { c.Close() },
		set:   c.SetMaxSize,
	}
}

// bothSides runs fn for a Buf and for a Conn, whose peer is a bare socket.
func bothSides(t *testing.T, cfg imsg.Config, fn func(t *testing.T, peer *imsgtest.Socket, s *side)) {
	t.Helper()
	t.Run("buf", func(t *testing.T) {
		noLeak(t)
		peer, b := imsgtest.Sockets(t)
		buf := imsg.NewBuf(b.FD, &cfg)
		t.Cleanup(buf.Clear)
		fn(t, peer, bufSide(t, buf, b.FD))
	})
	t.Run("conn", func(t *testing.T) {
		noLeak(t)
		peer, b := imsgtest.Sockets(t)
		c, err := imsg.NewConn(b.Take(), &cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fn(t, peer, connSide(t, c))
	})
}

// eachDialect runs bothSides for the dialects given.
func eachDialect(t *testing.T, ds []imsg.Dialect, cfg imsg.Config, fn func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *side)) {
	t.Helper()
	for _, d := range ds {
		t.Run(d.String(), func(t *testing.T) {
			cfg.Dialect = d
			bothSides(t, cfg, func(t *testing.T, peer *imsgtest.Socket, s *side) { fn(t, d, peer, s) })
		})
	}
}

// waitFD waits until fd has one of the events.
func waitFD(t testing.TB, fd int, events int16) {
	t.Helper()
	end := time.Now().Add(bound)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(bound/time.Millisecond))
		switch {
		case err == unix.EINTR && time.Now().Before(end):
		case err != nil:
			t.Fatal(err)
		case n == 0:
			t.Fatalf("descriptor %d: no event within %v", fd, bound)
		default:
			return
		}
	}
}

// A probe is a pipe whose write end is passed around: when nobody has it any
// more the read end is at its end.
type probe struct {
	t    testing.TB
	r, w *os.File
}

func newProbe(t testing.TB) *probe {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &probe{t, r, w}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return p
}

// fd is the write end for a raw send; nothing else may use p.w meanwhile.
func (p *probe) fd() (fd int) {
	rc, err := p.w.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := rc.Control(func(f uintptr) { fd = int(f) }); err != nil {
		p.t.Fatal(err)
	}
	return fd
}

// closed reports whether no write end is open anywhere.
func (p *probe) closed() bool {
	p.t.Helper()
	rc, err := p.r.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	var n int
	if cerr := rc.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), make([]byte, 1))
		return true
	}); cerr != nil {
		p.t.Fatal(cerr)
	}
	if err == unix.EAGAIN {
		return false
	}
	if n != 0 || err != nil {
		p.t.Fatalf("probe: %d bytes, %v", n, err)
	}
	return true
}

// works reports whether f is the probe's write end.
func (p *probe) works(f *os.File) error {
	if f == nil {
		return errors.New("no file")
	}
	if _, err := f.Write([]byte("!")); err != nil {
		return err
	}
	b := make([]byte, 2)
	if n, err := p.r.Read(b); err != nil || string(b[:n]) != "!" {
		return fmt.Errorf("read %q, %v", b[:n], err)
	}
	return nil
}

// waitBlocked waits until n goroutines sleep inside the function named, which
// is the only event that such a goroutine gives.
func waitBlocked(t testing.TB, n int, function string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(bound); ; {
		got := 0
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, function+"(") && (strings.Contains(g, "[IO wait") || strings.Contains(g, "[select")) {
				got++
			}
		}
		if got >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines wait in %s, want %d:\n%s", got, function, n, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

// within fails the test if what f does takes longer than bound.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatalf("%s: not done after %v", what, bound)
	}
}
