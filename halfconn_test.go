package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

// wakeUps is how many times the scheduler has let a goroutine run so far. It
// counts one in eight.
func wakeUps() (n int) {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(s)
	for _, k := range s[0].Value.Float64Histogram().Counts {
		n += int(k)
	}
	return 8 * n
}

// TestOneIsWoken has a thousand goroutines that wait: each message wakes a few,
// and not all. Other things are woken, too, the more so on a busy machine: who
// wakes all does so every time.
func TestOneIsWoken(t *testing.T) {
	const waiting, messages, most, tries = 1000, 200, 30, 10
	for _, tt := range []struct {
		name     string
		messages int
		run      func(t *testing.T) (woken int)
	}{
		{"receivers", messages, func(t *testing.T) int { return wakeReceivers(t, waiting, messages) }},
		{"senders, a queue for one", waiting, func(t *testing.T) int { return wakeSenders(t, waiting, 1) }},
		{"senders, a queue for all", waiting, func(t *testing.T) int { return wakeSenders(t, waiting, waiting) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			n := 0
			for range tries {
				if n = tt.run(t); n <= most*tt.messages {
					return
				}
			}
			t.Errorf("%d goroutines were woken for %d messages", n, tt.messages)
		})
	}
}

func wakeReceivers(t *testing.T, waiting, messages int) int {
	a, b := imsgtest.Pair(t, nil)
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	got := make(chan struct{})
	var wg sync.WaitGroup
	for range waiting {
		wg.Go(func() {
			for m, err := range b.All(ctx) {
				if err != nil {
					return
				}
				m.Close()
				got <- struct{}{}
			}
		})
	}
	testutil.WaitBlocked(t, waiting, "(*Conn).Receive")
	before := wakeUps()
	for range messages {
		testutil.Must(t, a.Send(ctx, imsg.Header{Type: 1}, nil))
		<-got
	}
	n := wakeUps() - before
	cancel()
	wg.Wait()
	return n
}

func wakeSenders(t *testing.T, waiting, limit int) int {
	a, b := imsgtest.Pair(t, &imsg.Config{MaxQueueMessages: limit})
	shrink(t, a, b)
	n := testutil.FillConn(t, a)
	ctx := testutil.DeadlineCtx(t)
	var wg sync.WaitGroup
	for range waiting {
		wg.Go(func() { testutil.Check(t, a.Send(ctx, imsg.Header{Type: 1}, nil, testutil.Pattern(1, 1000))) })
	}
	testutil.WaitBlocked(t, waiting, "(*Conn).Send")
	before := wakeUps()
	testutil.DrainConn(t, b, n)
	for range waiting {
		testutil.ReceiveAll(t, b, 1)
	}
	wg.Wait()
	return wakeUps() - before
}

// A half is one direction of a Conn, with a call that waits.
type half struct {
	t                     *testing.T
	method                string // of the call, as stacks name it
	call                  func(context.Context) error
	deadline, other, both func(time.Time) error // set its deadline, the other direction's, both
}

// whenItWaits does f when the call sleeps.
func (h half) whenItWaits(f func()) {
	go func() { testutil.WaitBlocked(h.t, 1, h.method); f() }()
}

func (h half) callWithin(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return h.call(ctx)
}

// givingUp are the ways in which a call that waits is given up.
var givingUp = []struct {
	name    string
	want    error
	timeout bool
	do      func(h half) error
}{
	{"context deadline", context.DeadlineExceeded, true, func(h half) error { return h.callWithin(time.Millisecond) }},
	{"context cancel", context.Canceled, false, func(h half) error {
		ctx, cancel := context.WithCancel(context.Background())
		h.whenItWaits(cancel)
		return h.call(ctx)
	}},
	{"cancelled before", context.Canceled, false, func(h half) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return h.call(ctx)
	}},
	{"deadline soon", os.ErrDeadlineExceeded, true, func(h half) error {
		h.deadline(time.Now().Add(time.Millisecond))
		return h.call(context.Background())
	}},
	{"deadline in the past", os.ErrDeadlineExceeded, true, func(h half) error {
		h.deadline(time.Unix(1, 0))
		return h.call(context.Background())
	}},
	{"deadline while it waits", os.ErrDeadlineExceeded, true, func(h half) error {
		h.whenItWaits(func() { h.deadline(time.Unix(1, 0)) })
		return h.call(context.Background())
	}},
	{"both deadlines while it waits, and a context", os.ErrDeadlineExceeded, true, func(h half) error {
		h.whenItWaits(func() { h.both(time.Unix(1, 0)) })
		return h.callWithin(testutil.Bound)
	}},
	{"both deadlines, and a context", os.ErrDeadlineExceeded, true, func(h half) error {
		h.both(time.Now().Add(time.Millisecond))
		return h.callWithin(testutil.Bound)
	}},
	{"context first, then a deadline", context.DeadlineExceeded, true, func(h half) error {
		h.deadline(time.Now().Add(testutil.Bound))
		return h.callWithin(time.Millisecond)
	}},
	{"a deadline is moved away", context.Canceled, false, func(h half) error {
		ctx, cancel := context.WithCancel(context.Background())
		h.deadline(time.Now().Add(testutil.Bound))
		h.whenItWaits(func() { h.deadline(time.Time{}); cancel() })
		return h.call(ctx)
	}},
	{"the other deadline does not matter", context.Canceled, false, func(h half) error {
		ctx, cancel := context.WithCancel(context.Background())
		h.other(time.Unix(1, 0))
		h.whenItWaits(cancel)
		return h.call(ctx)
	}},
}

// TestReceiveGivesUp ends a Receive in every way there is; the channel goes on.
func TestReceiveGivesUp(t *testing.T) {
	for _, tt := range givingUp {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			receive := func(ctx context.Context) error { _, err := b.Receive(ctx); return err }
			for round := range 3 {
				err := tt.do(half{t, "(*Conn).Receive", receive, b.SetReadDeadline, b.SetWriteDeadline, b.SetDeadline})
				oe := testutil.WantOp(t, fmt.Sprint("round ", round), err, "receive", tt.want)
				testutil.Equal(t, "timeout", oe.Timeout(), tt.timeout)
				b.SetDeadline(time.Time{})
				testutil.Exchange(t, a, b, 1, 5)
			}
		})
	}
}

// TestPendingBeforeDeadline returns what has arrived already first.
func TestPendingBeforeDeadline(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	for typ := range uint32(3) {
		testutil.Must(t, a.Compose(imsg.Header{Type: typ + 1}, nil, testutil.Pattern(typ+1, 5)))
	}
	testutil.Must(t, a.Flush(testutil.DeadlineCtx(t)))
	testutil.ReceiveAll(t, b, 1)
	b.SetReadDeadline(time.Unix(1, 0))
	testutil.ReceiveAll(t, b, 2, 3)
	_, err := b.Receive(context.Background())
	testutil.WantError(t, "Receive", err, os.ErrDeadlineExceeded)
}

// TestOneOfManyGivesUp cancels each of four waiting goroutines in turn, also
// the one that waits in the kernel for all.
func TestOneOfManyGivesUp(t *testing.T) {
	const n = 4
	for first := range n {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			type result struct {
				who int
				err error
			}
			results := make(chan result, n)
			var cancels [n]func()
			for i := range n {
				ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
				defer cancel()
				cancels[i] = cancel
				go func() {
					m, err := b.Receive(ctx)
					m.Close()
					results <- result{i, err}
				}()
				testutil.WaitBlocked(t, i+1, "(*Conn).Receive")
			}
			cancels[first]()
			if r := <-results; r.who != first || !errors.Is(r.err, context.Canceled) {
				t.Fatalf("goroutine %d: %v, want %d cancelled", r.who, r.err, first)
			}
			testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil))
			if r := <-results; r.err != nil {
				t.Fatalf("goroutine %d: %v", r.who, r.err)
			}
			testutil.WaitBlocked(t, n-2, "(*Conn).Receive")
			b.SetReadDeadline(time.Unix(1, 0))
			for range n - 2 {
				if r := <-results; !errors.Is(r.err, os.ErrDeadlineExceeded) {
					t.Fatalf("goroutine %d: %v", r.who, r.err)
				}
			}
		})
	}
}

// TestWriteDeadlineWakesAll does the same to senders, of messages of all kinds.
func TestWriteDeadlineWakesAll(t *testing.T) {
	const n = 6
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	filler := testutil.FillConn(t, a)
	f := testutil.OwnFile(t)
	errs := make(chan error, n)
	for i := range n {
		go func() {
			file := f
			if i%2 == 0 {
				file = nil
			}
			errs <- a.Send(context.Background(), imsg.Header{Type: 2}, file, make([]byte, 3000*i))
		}()
	}
	testutil.WaitBlocked(t, n, "(*Conn).Send")
	a.SetWriteDeadline(time.Now().Add(-time.Second))
	for range n {
		testutil.WantError(t, "the error", <-errs, os.ErrDeadlineExceeded)
	}
	testutil.Equal(t, "queue", a.QueueLen(), 0)
	a.SetWriteDeadline(time.Time{})
	testutil.DrainConn(t, b, filler)
	testutil.Exchange(t, a, b, 3, 0)
}

// TestDeadlineHammer changes deadlines and cancels contexts at the same time:
// when it is over, no deadline is left behind.
func TestDeadlineHammer(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	var over atomic.Bool
	changed := testutil.Go(func() (err error) {
		for !over.Load() {
			err = errors.Join(err, b.SetReadDeadline(time.Unix(1, 0)), b.SetReadDeadline(time.Time{}))
		}
		return err
	})
	for i := range 300 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Microsecond)
		_, err := b.Receive(ctx)
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	over.Store(true)
	testutil.Check(t, <-changed)
	got := testutil.Go(func() error {
		m, err := b.Receive(context.Background())
		m.Close()
		return err
	})
	testutil.WaitBlocked(t, 1, "(*Conn).Receive")
	testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil))
	testutil.WantError(t, "a call without a deadline", <-got, nil)
}
