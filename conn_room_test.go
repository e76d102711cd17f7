package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// TestWaitForRoom sends to a full queue, which waits for room, and gives up.
func TestWaitForRoom(t *testing.T) {
	for _, tt := range []struct {
		name string
		want error
		end  func(c *imsg.Conn, cancel func())
	}{
		{"room", nil, nil},
		{"cancel", context.Canceled, func(_ *imsg.Conn, cancel func()) { cancel() }},
		{"deadline", os.ErrDeadlineExceeded, func(c *imsg.Conn, _ func()) { c.SetWriteDeadline(time.Unix(1, 0)) }},
		{"close", net.ErrClosed, func(c *imsg.Conn, _ func()) { c.Close() }},
	} {
		for _, cfg := range []imsg.Config{{MaxQueueMessages: 2}, {MaxQueueBytes: 100}, {MaxQueueFiles: 2}} {
			t.Run(fmt.Sprintf("%s %d %d %d", tt.name, cfg.MaxQueueMessages, cfg.MaxQueueBytes, cfg.MaxQueueFiles), func(t *testing.T) {
				testutil.NoLeak(t)
				a, b := imsgtest.Pair(t, &cfg)
				n := testutil.FillConn(t, a)
				for typ := range uint32(2) {
					if err := a.Compose(imsg.Header{Type: typ + 1}, testutil.DevNull(t), testutil.Pattern(typ+1, 30)); err != nil {
						t.Fatal(err)
					}
				}
				f := testutil.DevNull(t)
				defer f.Close()
				const senders = 3
				errs := make(chan error, senders)
				ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
				defer cancel()
				for range senders {
					go func() { errs <- a.Send(ctx, imsg.Header{Type: 3}, f, testutil.Pattern(3, 30)) }()
				}
				testutil.WaitBlocked(t, senders, "(*Conn).Send")
				expect(t, "queue", a.QueueLen(), 2)
				if tt.end != nil {
					tt.end(a, cancel)
					for range senders {
						if err := <-errs; !errors.Is(err, tt.want) {
							t.Errorf("%v, want %v", err, tt.want)
						}
					}
					if tt.want == net.ErrClosed {
						return
					}
					expect(t, "queue", a.QueueLen(), 2)
					a.SetWriteDeadline(time.Time{})
					go func() {
						if err := a.Flush(testutil.DeadlineCtx(t)); err != nil {
							t.Error(err)
						}
					}()
				}
				testutil.DrainConn(t, b, n)
				testutil.ReceiveAll(t, b, 1, 2)
				if tt.end == nil {
					testutil.ReceiveAll(t, b, 3, 3, 3)
					for range senders {
						if err := <-errs; err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
}

// TestClosedFile gives a channel a file that is closed, which is the caller's
// mistake: it must not cost the others their channel.
func TestClosedFile(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	sa, _ := imsgtest.Sockets(t)
	buf := imsg.NewBuf(sa.FD, &imsg.Config{AllowFDPass: true})
	t.Cleanup(buf.Clear)
	f := testutil.DevNull(t)
	f.Close()
	if err := a.Compose(imsg.Header{Type: 1}, nil, testutil.Pattern(1, 3)); err != nil {
		t.Fatal(err)
	}
	whole := ibuf.New(3)
	whole.SetFile(f)
	bd, err := a.Create(imsg.Header{Type: 2}, 0)
	if err != nil {
		t.Fatal(err)
	}
	bd.SetFile(f)
	for what, err := range map[string]error{
		"Send":          a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 2}, f, []byte("x")),
		"Queue":         a.Compose(imsg.Header{Type: 2}, f, []byte("x")),
		"Commit":        bd.Commit(),
		"Compose":       buf.Compose(imsg.Header{Type: 2}, f, []byte("x")),
		"ComposeBuffer": buf.ComposeBuffer(imsg.Header{Type: 2}, whole),
	} {
		var oe *imsg.OpError
		if !errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) || !errors.As(err, &oe) || oe.Type != 2 {
			t.Errorf("%s: %v, want os.ErrClosed", what, err)
		}
	}
	expect(t, "queue", buf.QueueLen(), 0)
	if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 3}, nil, testutil.Pattern(3, 3)); err != nil {
		t.Fatalf("the next message: %v", err)
	}
	testutil.ReceiveAll(t, b, 1, 3)
}

// TestNewConnDescriptor looks at what a Conn does to its descriptor.
func TestNewConnDescriptor(t *testing.T) {
	testutil.NoLeak(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, err := imsg.NewConn(fds[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "other")
	b, err := imsg.FileConn(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || i == 0 && flags&unix.FD_CLOEXEC == 0 || !nonblocking(t, fd) {
			t.Errorf("descriptor %d: flags %#x, non-blocking %v, %v", i, flags, nonblocking(t, fd), err)
		}
	}
	if err := f.Close(); err != nil { // it stayed ours
		t.Error(err)
	}
	if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil, testutil.Pattern(1, 3)); err != nil {
		t.Fatal(err)
	}
	testutil.ReceiveAll(t, b, 1)
	dup, err := b.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	c, err := imsg.FileConn(dup, nil) // the duplicate outlives the Conn
	if err != nil {
		t.Fatal(err)
	}
	dup.Close()
	if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 2}, nil, testutil.Pattern(2, 3)); err != nil {
		t.Fatal(err)
	}
	testutil.ReceiveAll(t, c, 2)
	a.Close()
	c.Close()
}
