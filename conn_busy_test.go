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

// busyPair returns two Conns that would poll busily for an hour.
func busyPair(t *testing.T) (a, b *imsg.Conn) {
	testutil.NoLeak(t)
	return imsgtest.Pair(t, &imsg.Config{BusyPoll: time.Hour})
}

func TestBusyPoll(t *testing.T) {
	a, b := busyPair(t)
	ctx := testutil.DeadlineCtx(t)
	go func() {
		for m, err := range b.All(ctx) {
			if err == nil {
				err = b.Send(ctx, m.Header(), nil, m.Bytes())
				m.Close()
			}
			if err != nil {
				return // a misses the answer
			}
		}
	}()
	for i := range uint32(1000) {
		if err := a.Send(ctx, imsg.Header{Type: i + 1}, nil, []byte("ping")); err != nil {
			t.Fatal(err)
		}
		m, err := a.Receive(ctx)
		if err != nil || m.Type() != i+1 || string(m.Bytes()) != "ping" {
			t.Fatalf("round %d: type %d, %v", i, m.Type(), err)
		}
		m.Close()
	}
}

// TestBusyPollEnds lets everything that ends a Receive end one that polls.
func TestBusyPollEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(c *imsg.Conn, cancel func())
		want error
	}{
		{"close", func(c *imsg.Conn, _ func()) { c.Close() }, net.ErrClosed},
		{"cancel", func(_ *imsg.Conn, cancel func()) { cancel() }, context.Canceled},
		{"deadline", func(c *imsg.Conn, _ func()) { c.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := busyPair(t)
			ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := a.Receive(ctx)
				done <- err
			}()
			tt.end(a, cancel)
			if err := <-done; !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
