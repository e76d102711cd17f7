package imsg_test

import (
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestStaleHandle closes messages twice, as a deferred Close does, while
// another goroutine uses what is in their memory now. Neither goroutine knows
// the other's messages. The race detector watches.
func TestStaleHandle(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := testutil.DeadlineCtx(t)
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

// TestCloseElsewhere closes messages on another goroutine than the one that
// receives: a message that is being closed must not touch the next one in its
// memory, neither its bytes nor its file.
func TestCloseElsewhere(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := testutil.DeadlineCtx(t)
	f := testutil.DevNull(t)
	defer f.Close()
	const n, size = 4000, 16_000
	go func() {
		p := testutil.Pattern(1, size)
		for i := range n {
			file := f
			if i%4 > 0 {
				file = nil
			}
			if err := a.Send(ctx, imsg.Header{Type: 1}, file, p); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	closing := make(chan imsg.Message)
	done := make(chan struct{})
	go func() {
		for m := range closing {
			m.Close()
		}
		close(done)
	}()
	want := string(testutil.Pattern(1, size))
	for i := range n {
		m, err := b.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Bytes()) != want || m.HasFile() != (i%4 == 0) {
			t.Fatalf("message %d: %d bytes, or others than sent; file %v", i, m.Len(), m.HasFile())
		}
		if file := m.TakeFile(); file != nil {
			if _, err := file.Stat(); err != nil {
				t.Fatalf("message %d: its file: %v", i, err)
			}
			file.Close()
		}
		closing <- m
	}
	close(closing)
	<-done
}
