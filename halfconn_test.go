package imsg_test

import (
	"context"
	"runtime/metrics"
	"sync"
	"testing"

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
