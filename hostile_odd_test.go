package imsg_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// TestOwnEndPassed lets a peer pass its own end of the channel, in a way that
// the channel must hold it, and go: its end is open as long as the channel is,
// so there is no end of the stream to be seen, ever. A deadline ends the wait,
// and closing frees everything.
func TestOwnEndPassed(t *testing.T) {
	for _, tt := range []struct {
		name string
		d    imsg.Dialect
		send func(peer *imsgtest.Socket, fd int)
	}{
		{"claimed by half a message", imsg.Current, func(peer *imsgtest.Socket, fd int) {
			peer.Write(testutil.Frame(imsg.Current, 2, 100, true)[:50], fd)
		}},
		{"claimed by nobody", imsg.Legacy, func(peer *imsgtest.Socket, fd int) {
			peer.Write(testutil.Frame(imsg.Legacy, 2, 0, false), fd)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{Dialect: tt.d, AllowFDPass: true}
			t.Run("buf", func(t *testing.T) {
				peer, s := imsgtest.Sockets(t)
				b := imsg.NewBuf(s.FD, cfg)
				tt.send(peer, peer.FD)
				peer.Close()
				for range 5 {
					if err := b.ReadSocket(); err != nil {
						t.Fatalf("%v, but the peer's end is open here", err)
					}
				}
				b.Clear()
				if err := b.ReadSocket(); err == nil {
					t.Error("no end after Clear has closed the peer's end")
				}
			})
			t.Run("conn", func(t *testing.T) {
				peer, s := imsgtest.Sockets(t)
				c, err := imsg.NewConn(s.Take(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				tt.send(peer, peer.FD)
				peer.Close()
				c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				for {
					m, err := c.Receive(testutil.DeadlineCtx(t))
					if m.Close(); err == nil {
						continue
					}
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%v, but the peer's end is open here", err)
					}
					break
				}
			})
		})
	}
}

// TestOutOfBand sends out-of-band data, which are not part of the stream: they
// are dropped, and do not keep the socket readable.
func TestOutOfBand(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p := testutil.NewProbe(t)
		peer.Write(testutil.Frame(imsg.Current, 1, 3, false))
		testutil.MustNext(t, s, 1, 3).Close()
		err := unix.Sendmsg(peer.FD, []byte("!"), unix.UnixRights(p.Fd()), nil, unix.MSG_OOB|unix.MSG_NOSIGNAL)
		if err != nil {
			t.Skipf("no out-of-band data here: %v", err)
		}
		p.W.Close()
		peer.Write(testutil.Frame(imsg.Current, 2, 5, false))
		testutil.MustNext(t, s, 2, 5).Close()
		if !p.Closed() {
			t.Error("the file that came out of band is open")
		}
	})
	t.Run("poll", func(t *testing.T) {
		peer, s := imsgtest.Sockets(t)
		b := imsg.NewBuf(s.FD, nil)
		if err := unix.Sendto(peer.FD, []byte("!"), unix.MSG_OOB|unix.MSG_NOSIGNAL, nil); err != nil {
			t.Skipf("no out-of-band data here: %v", err)
		}
		testutil.WaitFD(t, s.FD, unix.POLLIN)
		if err := b.ReadSocket(); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.FD), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
			t.Errorf("readable again, with nothing to read: %d, %v", n, err)
		}
	})
}

// TestResetBehindMessages lets a peer go that has not read an answer, which is a
// reset, but has sent messages before: they come first, also to a receiver that
// expects files, for one has just come.
func TestResetBehindMessages(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p := testutil.NewProbe(t)
		peer.Write(testutil.Frame(imsg.Current, 1, 3, true), p.Fd())
		testutil.MustNext(t, s, 1, 3).Close()
		if err := s.Send(imsg.Header{Type: 9}, nil); err != nil {
			t.Fatal(err)
		}
		peer.Write(testutil.Frame(imsg.Current, 2, 5, true), p.Fd())
		peer.Write(testutil.Frame(imsg.Current, 3, 0, true), p.Fd())
		peer.Write(testutil.Frame(imsg.Current, 4, 7, false))
		peer.Close()
		for i, n := range []int{5, 0, 7} {
			m := testutil.MustNext(t, s, uint32(i+2), n)
			if m.HasFile() != (i < 2) {
				t.Errorf("message %d: file %v", i+2, m.HasFile())
			}
			m.Close()
		}
		if err := testutil.ReceiveError(t, s); !errors.Is(err, syscall.ECONNRESET) && (err != io.EOF || runtime.GOOS == "linux") {
			t.Errorf("the end: %v", err)
		}
	})
}
