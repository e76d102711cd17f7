package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

// tracer returns a Trace callback and what it has seen.
func tracer() (func(imsg.Event), *[]string) {
	seen := new([]string)
	return func(e imsg.Event) {
		*seen = append(*seen, fmt.Sprintf("%v %d/%d/%d %q file %v lost %v",
			e.Direction, e.Header.Type, e.Header.ID, e.Header.PID, e.Payload.Bytes(), e.HasFile, e.FileLost))
	}, seen
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// TestTraceAndStats watches a known exchange.
func TestTraceAndStats(t *testing.T) {
	trace, seen := tracer()
	testutil.BothSides(t, imsg.Config{AllowFDPass: true, Trace: trace}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		*seen = nil
		f := testutil.DevNull(t)
		sends := []error{
			s.Send(imsg.Header{Type: 1, ID: 2, PID: 3}, nil, []byte("ab"), []byte("c")),
			s.Send(imsg.Header{Type: 2}, f, []byte("with")),
			s.Send(imsg.Header{Type: 3, PID: -1}, nil),
		}
		f.Close()
		if err := errors.Join(sends...); err != nil {
			t.Fatal(err)
		}
		if err := s.Send(imsg.Header{Type: 4}, nil, make([]byte, 16369)); err == nil {
			t.Fatal("too large")
		}
		peer.Write(testutil.Frame(imsg.Current, 5, 1, false))
		testutil.MustNext(t, s, 5, 1).Close()
		peer.Write(testutil.Frame(imsg.Current, 6, 0, true), 0)
		testutil.MustNext(t, s, 6, 0).Close()
		peer.Write(slices.Concat(testutil.Frame(imsg.Current, 7, 0, true), testutil.RawHeader(imsg.Current, 8, 40, false)))
		testutil.MustNext(t, s, 7, 0).Close()
		expect(t, "trace", *seen, []string{
			`sent 1/2/3 "abc" file false lost false`,
			fmt.Sprintf(`sent 2/0/%d "with" file true lost false`, os.Getpid()),
			`sent 3/0/-1 "" file false lost false`,
			fmt.Sprintf("received 5/6/7 %q file false lost false", testutil.Pattern(5, 1)),
			`received 6/7/8 "" file true lost false`,
			`received 7/8/9 "" file false lost true`,
		})
		want := imsg.Stats{
			Sent:     imsg.Counters{Messages: 3, Bytes: 3*16 + 7, Files: 1, Calls: 3},
			Received: imsg.Counters{Messages: 3, Bytes: 4*16 + 1, Files: 1, Calls: 3},
		}
		expect(t, "stats", s.Stats(), want)
		peer.Close()
		testutil.ReceiveError(t, s) // moves no bytes
		expect(t, "stats at the end", s.Stats(), want)
		s.Clear()
		expect(t, "stats after Clear", s.Stats(), want)
	})
}

// TestStatsOfWhatIsNotSent counts neither what waits nor what was discarded.
func TestStatsOfWhatIsNotSent(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	f := testutil.DevNull(t)
	defer f.Close()
	n := testutil.FillConn(t, a)
	for range 2 {
		if err := a.Compose(imsg.Header{Type: 1}, testutil.DevNull(t), []byte("queued")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	done := make(chan error, 2)
	for _, file := range []*os.File{nil, f} {
		go func() { done <- a.Send(ctx, imsg.Header{Type: 2}, file, []byte("cancelled")) }()
	}
	testutil.WaitBlocked(t, 2, "(*Conn).Send")
	expect(t, "while all wait", a.Stats().Sent, imsg.Counters{})
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	expect(t, "after the cancel", a.Stats().Sent, imsg.Counters{})
	expect(t, "queue", a.QueueLen(), 2)
	testutil.DrainConn(t, b, n)
	if err := a.Flush(testutil.DeadlineCtx(t)); err != nil {
		t.Fatal(err)
	}
	want := imsg.Counters{Messages: 2, Bytes: 44, Files: 2, Calls: 2}
	expect(t, "after the flush", a.Stats().Sent, want)
	for range 3 {
		if err := a.Compose(imsg.Header{Type: 1}, testutil.DevNull(t), []byte("discarded")); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	expect(t, "after Close", a.Stats().Sent, want)
}

// TestCallsAfterRemoval removes the first message of a queue: a write that
// moves nothing is not a call.
func TestCallsAfterRemoval(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	n := testutil.FillConn(t, a)
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	done := make(chan error, 1)
	go func() { done <- a.Send(ctx, imsg.Header{Type: 2}, nil, []byte("cancelled")) }()
	testutil.WaitBlocked(t, 1, "(*Conn).Send")
	if err := a.Compose(imsg.Header{Type: 3}, testutil.DevNull(t), testutil.Pattern(3, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	testutil.DrainConn(t, b, n)
	if err := a.Flush(testutil.DeadlineCtx(t)); err != nil {
		t.Fatal(err)
	}
	testutil.ReceiveAll(t, b, 3)
	expect(t, "stats", a.Stats().Sent, imsg.Counters{Messages: 1, Bytes: 21, Files: 1, Calls: 1})
}

// TestDirectionString names the directions.
func TestDirectionString(t *testing.T) {
	expect(t, "names", fmt.Sprint(imsg.Sent, imsg.Received, imsg.Current, imsg.Legacy, imsg.Auto, imsg.Dialect(9)),
		"sent received current legacy auto dialect 9")
}

// TestStatsAtEOF does not count the read that finds the end of the stream.
func TestStatsAtEOF(t *testing.T) {
	testutil.BothSides(t, imsg.Config{}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		peer.Write(testutil.Frame(imsg.Current, 1, 3, false))
		testutil.MustNext(t, s, 1, 3).Close()
		peer.Close()
		testutil.ReceiveError(t, s)
		expect(t, "stats", s.Stats().Received, imsg.Counters{Messages: 1, Bytes: 19, Calls: 1})
	})
}
