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
func wakeUps() (n uint64) {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(s)
	for _, k := range s[0].Value.Float64Histogram().Counts {
		n += k
	}
	return 8 * n
}

// TestOneIsWoken has a thousand goroutines that wait: each message wakes a few,
// and not all.
func TestOneIsWoken(t *testing.T) {
	const waiting, messages, most = 1000, 200, 30
	t.Run("receivers", func(t *testing.T) {
		testutil.NoLeak(t)
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
		if n := wakeUps() - before; n > most*messages {
			t.Errorf("%d goroutines were woken for %d messages", n, messages)
		}
		cancel()
		wg.Wait()
	})
	for _, limit := range []int{1, waiting} {
		t.Run("senders", func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, &imsg.Config{MaxQueueMessages: limit})
			shrink(t, a, b)
			n := testutil.FillConn(t, a)
			ctx := testutil.DeadlineCtx(t)
			var wg sync.WaitGroup
			for range waiting {
				wg.Go(func() {
					testutil.Check(t, a.Send(ctx, imsg.Header{Type: 1}, nil, testutil.Pattern(1, 1000)))
				})
			}
			testutil.WaitBlocked(t, waiting, "(*Conn).Send")
			before := wakeUps()
			testutil.DrainConn(t, b, n)
			for range waiting {
				testutil.ReceiveAll(t, b, 1)
			}
			wg.Wait()
			if n := wakeUps() - before; n > most*waiting {
				t.Errorf("%d goroutines were woken for %d messages", n, waiting)
			}
		})
	}
}
