package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestCloseWakesAll closes a Conn while many goroutines wait for it.
func TestCloseWakesAll(t *testing.T) {
	const n = 8
	testutil.NoLeak(t)
	for _, cancellable := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancellable %v", cancellable), func(t *testing.T) {
			a, b := imsgtest.Pair(t, nil)
			ctx := context.Background()
			if cancellable {
				ctx = testutil.DeadlineCtx(t)
			}
			p, q := testutil.NewProbe(t), testutil.NewProbe(t)
			testutil.FillConn(t, a)
			if err := a.Compose(imsg.Header{Type: 1}, q.W, []byte("queued")); err != nil {
				t.Fatal(err)
			}
			errs := make(chan error, 3*n)
			for i := range n {
				go func() { _, err := a.Receive(ctx); errs <- err }()
				go func() {
					f := p.W
					if i%2 == 0 {
						f = nil
					}
					errs <- a.Send(ctx, imsg.Header{Type: 2}, f, make([]byte, 10_000*(i%2)))
				}()
				go func() { errs <- a.Flush(ctx) }()
			}
			testutil.WaitBlocked(t, n, "(*Conn).Receive")
			testutil.WaitBlocked(t, n, "(*Conn).Send")
			testutil.WaitBlocked(t, n, "(*Conn).Flush")
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			for range 3 * n {
				select {
				case err := <-errs:
					var oe *imsg.OpError
					if !errors.Is(err, net.ErrClosed) || !errors.As(err, &oe) || oe.Timeout() {
						t.Errorf("%v, want net.ErrClosed", err)
					}
				case <-time.After(testutil.Bound):
					t.Fatal("somebody still waits")
				}
			}
			if !q.Closed() {
				t.Error("the queued file is open")
			}
			if _, err := p.W.Stat(); err != nil {
				t.Errorf("the borrowed file: %v", err)
			}
			if err := a.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			b.Close()
		})
	}
}

// TestAfterClose calls everything on a closed Conn.
func TestAfterClose(t *testing.T) {
	for _, queued := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d queued", queued), func(t *testing.T) {
			testutil.NoLeak(t)
			ctx := context.Background()
			a, b := imsgtest.Pair(t, nil)
			if err := b.Send(ctx, imsg.Header{Type: 1}, nil, []byte("received")); err != nil {
				t.Fatal(err)
			}
			m, err := a.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := b.Send(ctx, imsg.Header{Type: 2}, nil, []byte("too late")); err != nil {
					t.Fatal(err)
				}
			}
			for range queued {
				if err := a.Compose(imsg.Header{Type: 1}, nil); err != nil {
					t.Fatal(err)
				}
			}
			bd, err := a.Create(imsg.Header{Type: 5}, 10)
			if err != nil {
				t.Fatal(err)
			}
			defer bd.Discard()
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			f := testutil.DevNull(t)
			defer f.Close()
			for _, tt := range []struct {
				name string
				do   func() error
			}{
				{"Receive", func() error { _, err := a.Receive(ctx); return err }},
				{"Send", func() error { return a.Send(ctx, imsg.Header{Type: 1}, nil) }},
				{"Send a file", func() error { return a.Send(ctx, imsg.Header{Type: 1}, f) }},
				{"Queue", func() error { return a.Compose(imsg.Header{Type: 1}, f) }},
				{"Flush", func() error { return a.Flush(ctx) }},
				{"Commit", bd.Commit},
				{"SetDeadline", func() error { return a.SetDeadline(time.Now()) }},
				{"SetReadDeadline", func() error { return a.SetReadDeadline(time.Time{}) }},
				{"SetWriteDeadline", func() error { return a.SetWriteDeadline(time.Time{}) }},
				{"PeerCred", func() error { _, err := a.PeerCred(); return err }},
				{"File", func() error { _, err := a.File(); return err }},
				{"Close", a.Close},
				{"All", func() error {
					for _, err := range a.All(ctx) {
						return err
					}
					return nil
				}},
			} {
				for range 2 {
					err := tt.do()
					var oe *imsg.OpError
					if !errors.Is(err, net.ErrClosed) || !errors.As(err, &oe) {
						t.Errorf("%s: %#v, want net.ErrClosed in an OpError", tt.name, err)
					}
				}
			}
			if a.QueueLen() != 0 {
				t.Errorf("%d queued", a.QueueLen())
			}
			if string(m.Bytes()) != "received" {
				t.Errorf("a message received before: %q", m.Bytes())
			}
			m.Close()
			if _, err := f.Stat(); err != nil {
				t.Errorf("the refused file: %v", err)
			}
		})
	}
}

// TestCloseRaces closes a Conn at any moment of an exchange.
func TestCloseRaces(t *testing.T) {
	testutil.NoLeak(t)
	for round := range 200 {
		a, b := imsgtest.Pair(t, nil)
		f := testutil.DevNull(t)
		done := make(chan error, 4)
		start := make(chan bool)
		send := func(c *imsg.Conn) {
			<-start
			for {
				if err := c.Send(context.Background(), imsg.Header{Type: 1}, f, make([]byte, 3000)); err != nil {
					done <- nil // EPIPE or closed
					return
				}
			}
		}
		receive := func(c *imsg.Conn) {
			<-start
			for m, err := range c.All(context.Background()) {
				if err != nil {
					break
				}
				m.Close()
			}
			done <- nil
		}
		go send(a)
		go receive(b)
		go send(b)
		go receive(a)
		close(start)
		for a.Stats().Sent.Messages < uint64(round%20) {
		}
		first, second := a, b
		if round%2 == 0 {
			first, second = b, a
		}
		testutil.Within(t, "Close", func() { first.Close() })
		for range 4 {
			select {
			case <-done:
			case <-time.After(testutil.Bound):
				t.Fatal("somebody still waits")
			}
		}
		second.Close()
		f.Close()
	}
}

// TestCloseBehindSend closes a Conn as soon as the peer has its last message:
// the Send of which may not have returned, but has done its work.
func TestCloseBehindSend(t *testing.T) {
	testutil.NoLeak(t)
	ctx := testutil.DeadlineCtx(t)
	for i := range 3000 {
		a, b, err := imsg.Pair(nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- a.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, i%2*8000)) }()
		m, err := b.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		if err := <-done; err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		m.Close()
		b.Close()
	}
}
