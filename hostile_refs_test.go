package imsg_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestTooManyRefsEnds ends the wait for the system, which no event of the
// socket ends, for the one who waits and for one behind it.
func TestTooManyRefsEnds(t *testing.T) {
	if !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	testutil.SetMaxFiles(t)
	for _, tt := range []struct {
		name string
		want error
		end  func(c *imsg.Conn)
	}{
		{"close", net.ErrClosed, func(c *imsg.Conn) { c.Close() }},
		{"deadline in the past", os.ErrDeadlineExceeded, func(c *imsg.Conn) { c.SetWriteDeadline(time.Unix(1, 0)) }},
		{"deadline", os.ErrDeadlineExceeded, func(c *imsg.Conn) { c.SetWriteDeadline(time.Now().Add(time.Millisecond)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			f := testutil.DevNull(t)
			defer f.Close()
			errs := make(chan error, 2)
			go func() {
				for {
					if err := a.Send(context.Background(), imsg.Header{Type: 1}, f, testutil.Pattern(1, 3)); err != nil {
						errs <- err
						return
					}
				}
			}()
			testutil.WaitBlocked(t, 1, "(*Conn).Send")
			if a.Stats().Sent.Messages > manyFiles {
				a.Close()
				t.Skipf("no limit on files in flight here: %d sent", a.Stats().Sent.Messages)
			}
			testutil.WaitBlocked(t, 1, "(*sender).pause")
			go func() { errs <- a.Send(context.Background(), imsg.Header{Type: 2}, f, testutil.Pattern(2, 3)) }()
			testutil.WaitBlocked(t, 2, "(*Conn).Send")
			tt.end(a)
			for range 2 {
				select {
				case err := <-errs:
					if !errors.Is(err, tt.want) {
						t.Errorf("%v, want %v", err, tt.want)
					}
				case <-time.After(testutil.Bound):
					t.Fatal("somebody still waits")
				}
			}
			if tt.want == net.ErrClosed {
				return
			}
			expect(t, "queue", a.QueueLen(), 0)
			for range a.Stats().Sent.Messages {
				testutil.ReceiveAll(t, b, 1)
			}
			a.SetWriteDeadline(time.Time{})
			if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 3}, f, testutil.Pattern(3, 3)); err != nil {
				t.Fatal(err)
			}
			testutil.ReceiveAll(t, b, 3)
		})
	}
}
