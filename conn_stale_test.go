package imsg_test

import (
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestStaleHandle closes messages twice, as a deferred Close does, while
// another goroutine uses what is in their memory now. Neither goroutine knows
// the other's messages. The race detector watches.
func TestStaleHandle(t *testing.T) {
	noLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := deadlineCtx(t)
	receive := func() imsg.Message {
		if err := a.Send(ctx, imsg.Header{Type: 1}, nil, []byte("payload")); err != nil {
			t.Error(err)
		}
		m, err := b.Receive(ctx)
		if err != nil {
			t.Error(err)
		}
		return m
	}
	turn, done := make(chan bool), make(chan bool)
	go func() {
		for range turn {
			m := receive() // where the other goroutine's message was
			if m.Len() != 7 {
				t.Errorf("%d bytes", m.Len())
			}
			m.Close()
		}
		close(done)
	}()
	for range 100 {
		func() {
			m := receive()
			defer m.Close()
			m.Close()
			turn <- true
		}()
	}
	close(turn)
	<-done
}
