package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
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
			f := testutil.OwnFile(t)
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
			testutil.WantOpen(t, "the borrowed file", f)
		})
	}
}

// TestStressCollected is the same with a garbage collection for every few
// messages.
func TestStressCollected(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	t.Run("stress", TestStress)
	t.Run("queue", TestStressQueue)
	t.Run("chaos", TestChaos)
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
			testutil.WantError(t, fmt.Sprintf("sender %d", s), a.Flush(ctx), nil)
		})
	}
	next := [senders]int{}
	for range senders * each {
		m := testutil.Receive(t, b)
		s, i := int(m.Type())-1, int(m.ID())
		if err := checkStress(m, i, i%50 == s && i%3 != 0); err != nil || i != next[s] {
			t.Fatalf("sender %d message %d, want %d: %v", s, i, next[s], err)
		}
		next[s]++
		m.Close()
	}
	wg.Wait()
	testutil.Equal(t, "queue", a.QueueLen(), 0)
}

// TestChaos mixes everything that senders can do, with contexts, deadlines and
// limits that end it at any moment. What the calls promised must be what the
// receiver sees: nil is once, an error is at most once, all in order and whole.
func TestChaos(t *testing.T) {
	const senders, each = 6, 120
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{MaxQueueBytes: 30_000, MaxQueueFiles: 3, MaxQueueMessages: 20}
			a, b := imsgtest.Pair(t, cfg)
			shrink(t, a, b)
			f := testutil.OwnFile(t)
			all := newPromises(senders, each)
			read := testutil.Go(func() error { return all.receive(b) })
			var wg sync.WaitGroup
			var over atomic.Bool
			for s := range senders {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(s)))
					for i := range each {
						h := imsg.Header{Type: uint32(s + 1), ID: uint32(i)}
						all.promised[all.index(h)] = chaos(t, a, rnd, f, h)
					}
				})
			}
			deadlines := make(chan struct{})
			go func() { // and somebody plays with the deadline
				defer close(deadlines)
				for n := 0; !over.Load(); n++ {
					a.SetWriteDeadline(time.Now().Add(time.Duration(n%300) * time.Microsecond))
					a.SetWriteDeadline(time.Time{})
				}
			}()
			wg.Wait()
			over.Store(true)
			<-deadlines
			a.SetWriteDeadline(time.Time{})
			testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 99}, nil))
			testutil.Must(t, <-read)
			whole := all.check(t) + 1
			sent, received := a.Stats().Sent, b.Stats().Received
			if a.QueueLen() != 0 || sent.Messages != whole || received.Messages != whole || sent.Bytes != received.Bytes || sent.Files != received.Files {
				t.Errorf("%d queued, sent %+v, received %+v, %d messages", a.QueueLen(), sent, received, whole)
			}
		})
	}
}

// chaos sends one message somehow and reports whether it was promised to arrive.
func chaos(t *testing.T, c *imsg.Conn, rnd *rand.Rand, f *os.File, h imsg.Header) bool {
	size := rnd.IntN(3000)
	if rnd.IntN(10) == 0 {
		size = rnd.IntN(16369)
	}
	p := testutil.Pattern(h.Type+h.ID, size)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(4000))*time.Microsecond)
	defer cancel()
	var owned *os.File
	if rnd.IntN(3) == 0 {
		owned = testutil.DevNull(t)
	}
	var err error
	switch rnd.IntN(3) {
	case 0:
		if owned.Close(); rnd.IntN(2) == 0 {
			f = nil
		}
		err = c.Send(ctx, h, f, p)
	case 1:
		if err = c.Compose(h, owned, p); err != nil {
			owned.Close()
		} else if rnd.IntN(3) == 0 {
			c.Flush(ctx)
		}
	case 2:
		var bd *imsg.Builder
		if bd, err = c.Create(h, 0); err == nil {
			bd.Add(p)
			bd.SetFile(owned)
			if err = bd.Commit(); err != nil {
				bd.Discard()
			}
		}
	}
	if errors.Is(err, imsg.ErrQueueFull) {
		c.Flush(ctx)
	} else if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("sender %d message %d: %v", h.Type, h.ID, err)
	}
	return err == nil
}

// promises are what senders were told of their messages, of which each sends as
// many, and how often each was received.
type promises struct {
	each     int
	promised []bool
	got      []int
}

func newPromises(senders, each int) *promises {
	return &promises{each, make([]bool, senders*each), make([]int, senders*each)}
}

func (p *promises) index(h imsg.Header) int { return int(h.Type-1)*p.each + int(h.ID) }

// receive receives up to the message of type 99: each whole, and each sender's
// in order.
func (p *promises) receive(c *imsg.Conn) error {
	last := map[uint32]uint32{}
	for {
		m, err := c.Receive(context.Background())
		if err != nil || m.Type() == 99 {
			m.Close()
			return err
		}
		if string(m.Bytes()) != string(testutil.Pattern(m.Type()+m.ID(), m.Len())) || m.ID()+1 <= last[m.Type()] || m.FileErr() != nil {
			return fmt.Errorf("sender %d message %d of %d bytes is torn or out of order, or %v", m.Type(), m.ID(), m.Len(), m.FileErr())
		}
		last[m.Type()] = m.ID() + 1
		p.got[p.index(m.Header())]++
		m.Close()
	}
}

// check fails the test unless what was promised was received once, and all else
// once or never. It returns how many were received.
func (p *promises) check(t *testing.T) (whole uint64) {
	t.Helper()
	failed := 0
	for i, promised := range p.promised {
		if promised && p.got[i] != 1 || p.got[i] > 1 {
			t.Errorf("sender %d message %d: promised %v, received %d times", i/p.each, i%p.each, promised, p.got[i])
		}
		if !promised {
			failed++
		}
		whole += uint64(p.got[i])
	}
	t.Logf("%d of %d failed", failed, len(p.promised))
	return whole
}
