//go:build imsgfault && linux

package fault_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// streams are how the waiting of a Conn can end although nothing gets better.
var streams = []struct {
	name string
	end  func(c *imsg.Conn, cancel func())
	want error
}{
	{"context", func(_ *imsg.Conn, cancel func()) { cancel() }, context.Canceled},
	{"deadline", func(c *imsg.Conn, _ func()) { c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	{"close", func(c *imsg.Conn, _ func()) { c.Close() }, net.ErrClosed},
}

// TestFaultStuckSend: the system takes nothing, or only the beginning of a
// message, and then says that it cannot, again and again, until the sender is
// told to give up. Either the message was never there, or the rest follows.
func TestFaultStuckSend(t *testing.T) {
	for _, how := range streams {
		for _, errno := range []unix.Errno{unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.ETOOMANYREFS} {
			for _, first := range []int{0, 1, 20} {
				t.Run(fmt.Sprintf("%s/%s after %d bytes", how.name, unix.ErrnoName(errno), first), func(t *testing.T) {
					testutil.NoLeak(t)
					w := newWorld(t)
					w.begin(nil)
					w.nudge = func(unixmsg.Call) {} // it stays as it is
					a, b := imsgtest.Pair(t, nil)
					ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
					defer cancel()
					p := newPipeFile(w)
					left, failures := first, 0
					w.let(func(int, unixmsg.Call) unixmsg.Fault {
						if left > 0 {
							left = 0
							return unixmsg.Fault{Max: first}
						}
						if failures++; failures == 1 {
							go how.end(a, cancel) // Close waits for this call
						}
						return unixmsg.Fault{Errno: errno}
					})
					err := a.Send(ctx, imsg.Header{Type: 1}, p.w, testutil.Pattern(1, 100))
					if !errors.Is(err, how.want) {
						t.Fatalf("send: %v, want %v", err, how.want)
					}
					p.closeOurs(w)
					w.let(nil)
					if want := min(first, 1); how.want != net.ErrClosed && a.QueueLen() != want {
						t.Errorf("%d messages are queued, want %d", a.QueueLen(), want)
					}
					stuckRest(t, a, b, how.want == net.ErrClosed, first > 0)
					b.Close()
					p.end(w)
				})
			}
		}
	}
}

// stuckRest looks at what of message 1 arrives, and message 2 behind it.
func stuckRest(t *testing.T, a, b *imsg.Conn, closed, torn bool) {
	ctx := testutil.DeadlineCtx(t)
	if closed {
		_, err := b.Receive(ctx)
		if err == nil {
			t.Fatal("a message from a closed channel")
		}
		return
	}
	a.SetDeadline(time.Time{})
	testutil.Must(t, a.Send(ctx, imsg.Header{Type: 2}, nil, testutil.Pattern(2, 50)))
	if torn {
		m := testutil.ReceiveFrame(t, b, 1, 100)
		if !m.HasFile() {
			t.Errorf("no file: %v", m.FileErr())
		}
		m.Close()
	}
	m := testutil.ReceiveFrame(t, b, 2, 50)
	m.Close()
}

// TestFaultStuckReceive: nothing can be received, it seems, until the receiver
// gives up. What is there can be received afterwards.
func TestFaultStuckReceive(t *testing.T) {
	for _, how := range streams {
		t.Run(how.name, func(t *testing.T) {
			testutil.NoLeak(t)
			w := newWorld(t)
			w.begin(nil)
			w.nudge = func(unixmsg.Call) {}
			a, b := imsgtest.Pair(t, nil)
			testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil, testutil.Pattern(1, 100)))
			ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
			defer cancel()
			calls := 0
			w.let(func(int, unixmsg.Call) unixmsg.Fault {
				if calls++; calls == 1 {
					go how.end(b, cancel)
				}
				return unixmsg.Fault{Errno: unix.EAGAIN}
			})
			if _, err := b.Receive(ctx); !errors.Is(err, how.want) {
				t.Fatalf("receive: %v, want %v", err, how.want)
			}
			w.let(nil)
			if how.want == net.ErrClosed {
				return
			}
			b.SetDeadline(time.Time{})
			m := testutil.ReceiveFrame(t, b, 1, 100)
			m.Close()
		})
	}
}

// TestFaultOneTry: a Receive that must wait asks the system once before it does,
// and once when something has come, also with a context that can end.
func TestFaultOneTry(t *testing.T) {
	testutil.NoLeak(t)
	w := newWorld(t)
	w.begin(nil)
	a, b := imsgtest.Pair(t, nil)
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	defer cancel()
	var calls atomic.Int32
	w.let(func(_ int, c unixmsg.Call) unixmsg.Fault {
		if strings.HasPrefix(c.Name, "recv") {
			calls.Add(1)
		}
		return unixmsg.Fault{}
	})
	done := make(chan error, 1)
	go func() {
		m, err := b.Receive(ctx)
		m.Close()
		done <- err
	}()
	testutil.WaitBlocked(t, 1, "(*Conn).Receive")
	testutil.Must(t, a.Send(ctx, imsg.Header{Type: 1}, nil))
	if err := <-done; err != nil || calls.Load() != 2 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
	w.let(nil)
}
