package imsg_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// stressSize is the payload of message i: mostly small, a few of the maximum.
func stressSize(i int) int {
	if i%97 == 0 {
		return imsg.DefaultMaxSize - imsg.HeaderSize
	}
	return i * 131 % 2500
}

// TestStress sends with many goroutines and receives with some, in both
// directions at the same time: each message once, whole, each sender's in
// order as far as one receiver can tell.
func TestStress(t *testing.T) {
	const senders, each = 16, 500
	for _, tt := range []struct {
		name      string
		receivers int
		small     bool
	}{
		{"one receiver, small buffers", 1, true},
		{"many receivers, small buffers", 5, true},
		{"many receivers", 5, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			if tt.small {
				a, b = smallPair(t)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 6*testutil.Bound)
			defer cancel()
			f := testutil.DevNull(t)
			defer f.Close()
			var wg sync.WaitGroup
			exchange := func(from, to *imsg.Conn) {
				for s := range senders {
					wg.Go(func() {
						for i := range each {
							var file *os.File
							if i%50 == s {
								file = f
							}
							h := imsg.Header{Type: uint32(s + 1), ID: uint32(i)}
							if err := from.Send(ctx, h, file, testutil.Pattern(h.Type+h.ID, stressSize(i))); err != nil {
								t.Errorf("sender %d message %d: %v", s, i, err)
								cancel()
								return
							}
						}
					})
				}
				var mu sync.Mutex
				var got [senders][each]bool
				left := senders * each
				rest, enough := context.WithCancel(ctx)
				t.Cleanup(enough)
				for range tt.receivers {
					wg.Go(func() {
						defer enough()
						var last [senders]int
						for m, err := range to.All(rest) {
							if rest.Err() != nil {
								m.Close()
								return
							}
							if err != nil {
								t.Error(err)
								return
							}
							s, i := int(m.Type())-1, int(m.ID())
							err := checkStress(m, i, i%50 == s)
							m.Close()
							mu.Lock()
							if err == nil && (got[s][i] || i < last[s]) {
								err = fmt.Errorf("twice (%v), or behind message %d", got[s][i], last[s])
							}
							got[s][i], last[s] = true, i
							left--
							done := left == 0
							mu.Unlock()
							if err != nil {
								t.Errorf("sender %d message %d: %v", s, i, err)
								cancel()
								return
							}
							if done {
								return
							}
						}
					})
				}
			}
			exchange(a, b)
			exchange(b, a)
			wg.Wait()
			for _, c := range []*imsg.Conn{a, b} {
				s := c.Stats()
				if s.Sent.Messages != senders*each || s.Received.Messages != senders*each || s.Sent.Bytes != s.Received.Bytes || s.Sent.Files != s.Received.Files || c.QueueLen() != 0 {
					t.Errorf("%+v, %d queued", s, c.QueueLen())
				}
			}
			if _, err := f.Stat(); err != nil {
				t.Errorf("the borrowed file: %v", err)
			}
		})
	}
}

func checkStress(m imsg.Message, i int, file bool) error {
	if want := testutil.Pattern(m.Type()+m.ID(), stressSize(i)); string(m.Bytes()) != string(want) {
		return fmt.Errorf("%d bytes, or others than sent, want %d", m.Len(), len(want))
	}
	if m.HasFile() != file || m.FileErr() != nil {
		return fmt.Errorf("file %v, %v", m.HasFile(), m.FileErr())
	}
	return nil
}

// TestStressQueue mixes Queue, Flush, Send and Builders.
func TestStressQueue(t *testing.T) {
	const senders, each = 8, 300
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, &imsg.Config{MaxQueueBytes: 20_000, MaxQueueFiles: 4})
	ctx := testutil.DeadlineCtx(t)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				h := imsg.Header{Type: uint32(s + 1), ID: uint32(i)}
				p := testutil.Pattern(h.Type+h.ID, stressSize(i))
				var err error
				if i%3 == 0 {
					err = a.Send(ctx, h, nil, p)
				} else {
					for {
						file := (*os.File)(nil)
						if i%50 == s {
							file = testutil.DevNull(t)
						}
						if err = a.Compose(h, file, p); err == nil {
							break
						}
						file.Close()
						if err = a.Flush(ctx); err != nil {
							break
						}
					}
				}
				if err != nil {
					t.Errorf("sender %d message %d: %v", s, i, err)
					return
				}
			}
			if err := a.Flush(ctx); err != nil {
				t.Errorf("sender %d: %v", s, err)
			}
		})
	}
	next := [senders]int{}
	for range senders * each {
		m, err := b.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s, i := int(m.Type())-1, int(m.ID())
		if err := checkStress(m, i, i%50 == s && i%3 != 0); err != nil || i != next[s] {
			t.Fatalf("sender %d message %d, want %d: %v", s, i, next[s], err)
		}
		next[s]++
		m.Close()
	}
	wg.Wait()
	expect(t, "queue", a.QueueLen(), 0)
}
