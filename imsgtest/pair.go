package imsgtest

import (
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// Pair returns the two sides of a channel with file passing, which are closed
// when the test ends. cfg may be nil.
func Pair(t testing.TB, cfg *imsg.Config) (a, b *imsg.Conn) {
	t.Helper()
	var c imsg.Config
	if cfg != nil {
		c = *cfg
	}
	c.AllowFDPass = true
	a, b, err := imsg.Pair(&c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// Sockets returns two connected non-blocking stream sockets, which are closed
// when the test ends unless they were closed or taken before.
func Sockets(t testing.TB) (a, b *Socket) {
	t.Helper()
	fa, fb, err := unixmsg.Pair(true)
	if err != nil {
		t.Fatal(err)
	}
	a, b = &Socket{t, fa}, &Socket{t, fb}
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	return a, b
}

// A Socket is a bare socket for what a well-behaved channel would never send.
type Socket struct {
	t  testing.TB
	FD int // -1 after Close or Take
}

// Write sends the bytes of p whole, with the descriptors fds, if any, in one
// control message. The descriptors stay the caller's.
func (s *Socket) Write(p []byte, fds ...int) {
	s.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for first := true; first || len(p) > 0; first = false {
		n, err := unix.SendmsgN(s.FD, p, oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EAGAIN {
			if err = unixmsg.Poll(s.FD, true, 10_000); err == nil {
				continue
			}
		}
		if err != nil {
			s.t.Fatalf("write of %d bytes and %d descriptors: %v", len(p), len(fds), err)
		}
		p, oob = p[n:], nil
	}
}

// Take returns the descriptor, which is the caller's from here on.
func (s *Socket) Take() int {
	fd := s.FD
	s.FD = -1
	return fd
}

// Close closes the socket. Closing twice does nothing.
func (s *Socket) Close() {
	if s.FD >= 0 {
		unix.Close(s.Take())
	}
}
