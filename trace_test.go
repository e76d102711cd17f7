package imsg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
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
		testutil.Must(t, errors.Join(sends...))
		if err := s.Send(imsg.Header{Type: 4}, nil, make([]byte, 16369)); err == nil {
			t.Fatal("too large")
		}
		peer.Write(testutil.Frame(imsg.Current, 5, 1, false))
		testutil.MustNext(t, s, 5, 1).Close()
		peer.Write(testutil.Frame(imsg.Current, 6, 0, true), 0)
		testutil.MustNext(t, s, 6, 0).Close()
		peer.Write(slices.Concat(testutil.Frame(imsg.Current, 7, 0, true), testutil.RawHeader(imsg.Current, 8, 40, false)))
		testutil.MustNext(t, s, 7, 0).Close()
		testutil.Equal(t, "trace", *seen, []string{
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
		testutil.Equal(t, "stats", s.Stats(), want)
		peer.Close()
		testutil.ReceiveError(t, s) // moves no bytes
		testutil.Equal(t, "stats at the end", s.Stats(), want)
		s.Clear()
		testutil.Equal(t, "stats after Clear", s.Stats(), want)
	})
}

// TestStatsOfWhatIsNotSent counts neither what waits nor what was discarded.
func TestStatsOfWhatIsNotSent(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	f := testutil.OwnFile(t)
	n := testutil.FillConn(t, a)
	for range 2 {
		testutil.Must(t, a.Compose(imsg.Header{Type: 1}, testutil.DevNull(t), []byte("queued")))
	}
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	done := make(chan error, 2)
	for _, file := range []*os.File{nil, f} {
		go func() { done <- a.Send(ctx, imsg.Header{Type: 2}, file, []byte("cancelled")) }()
	}
	testutil.WaitBlocked(t, 2, "(*Conn).Send")
	testutil.Equal(t, "while all wait", a.Stats().Sent, imsg.Counters{})
	cancel()
	for range 2 {
		testutil.WantError(t, "the error", <-done, context.Canceled)
	}
	testutil.Equal(t, "after the cancel", a.Stats().Sent, imsg.Counters{})
	testutil.Equal(t, "queue", a.QueueLen(), 2)
	testutil.DrainConn(t, b, n)
	testutil.Must(t, a.Flush(testutil.DeadlineCtx(t)))
	want := imsg.Counters{Messages: 2, Bytes: 44, Files: 2, Calls: 2}
	if runtime.GOOS == "linux" {
		want.Calls = 1 // sendmmsg
	}
	testutil.Equal(t, "after the flush", a.Stats().Sent, want)
	for range 3 {
		testutil.Must(t, a.Compose(imsg.Header{Type: 1}, testutil.DevNull(t), []byte("discarded")))
	}
	a.Close()
	testutil.Equal(t, "after Close", a.Stats().Sent, want)
}

// TestCallsAfterRemoval removes the first message of a queue: a write that
// moves nothing is not a call.
func TestCallsAfterRemoval(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	n := testutil.FillConn(t, a)
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	done := testutil.Go(func() error { return a.Send(ctx, imsg.Header{Type: 2}, nil, []byte("cancelled")) })
	testutil.WaitBlocked(t, 1, "(*Conn).Send")
	testutil.Must(t, a.Compose(imsg.Header{Type: 3}, testutil.DevNull(t), testutil.Pattern(3, 5)))
	cancel()
	testutil.WantError(t, "Send", <-done, context.Canceled)
	testutil.DrainConn(t, b, n)
	testutil.Must(t, a.Flush(testutil.DeadlineCtx(t)))
	testutil.ReceiveAll(t, b, 3)
	testutil.Equal(t, "stats", a.Stats().Sent, imsg.Counters{Messages: 1, Bytes: 21, Files: 1, Calls: 1})
}

// wantPanic fails the test unless f panics as the Trace of these tests does.
func wantPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() { testutil.Equal(t, what+" panics with", recover(), "trace") }()
	f()
}

// TestTracePanics has a Trace that panics in every call that can run it. Who
// recovers goes on with the channel, and a message that nobody got is closed.
func TestTracePanics(t *testing.T) {
	testutil.NoLeak(t)
	bad := false
	a, b := imsgtest.Pair(t, &imsg.Config{AllowFDPass: true, Trace: func(imsg.Event) {
		if bad {
			panic("trace")
		}
	}})
	ctx := testutil.DeadlineCtx(t)
	h := imsg.Header{Type: 1}
	panics := func(what string, f func()) {
		t.Helper()
		bad = true
		wantPanic(t, what, f)
		bad = false
	}
	p := testutil.NewProbe(t)
	panics("Send", func() { a.Send(ctx, h, p.W) })
	panics("Compose", func() { a.Compose(h, nil) })
	panics("Commit", func() {
		bd, err := a.Create(h, 0)
		if err != nil {
			t.Error(err)
			return
		}
		bd.Commit()
	})
	if err := a.Flush(ctx); err != nil { // they were queued
		t.Fatal(err)
	}
	p.W.Close()
	panics("Receive that waits", func() { b.Receive(ctx) })
	testutil.WantClosed(t, "the file of the message that nobody got", p)
	panics("Receive", func() { b.Receive(ctx) })
	testutil.Must(t, a.Send(ctx, h, nil))
	testutil.Must(t, take(b, 2)) // Commit's, and that one
}

// TestTracePanicsInABatch: the messages in front of the one whose Trace panics
// are closed, as the caller is not told how many there are.
func TestTracePanicsInABatch(t *testing.T) {
	ctx := testutil.DeadlineCtx(t)
	n := 0
	cfg := imsg.Config{AllowFDPass: true, Trace: func(e imsg.Event) {
		if e.Direction != imsg.Received {
			return
		}
		if n++; n == 3 {
			panic("trace")
		}
	}}
	ms := make([]imsg.Message, 8)
	check := func(what string, compose func(imsg.Header, *os.File, ...[]byte) error, batch func()) {
		t.Helper()
		n = 0
		for i := range uint32(4) {
			testutil.Must(t, compose(imsg.Header{Type: i}, nil, []byte("payload")))
		}
		wantPanic(t, what, batch)
		for i, m := range ms {
			if m.Bytes() != nil {
				t.Errorf("%s: message %d is open", what, i)
			}
		}
	}
	a, b := bufs(t, cfg)
	check("GetBatch", a.Compose, func() {
		testutil.Must(t, a.Flush())
		testutil.Must(t, b.ReadSocket())
		b.GetBatch(ms)
	})
	x, y := imsgtest.Pair(t, &cfg)
	check("ReceiveBatch", x.Compose, func() {
		testutil.Must(t, x.Flush(ctx))
		y.ReceiveBatch(ctx, ms)
	})
}

// TestDirectionString names the directions.
func TestDirectionString(t *testing.T) {
	testutil.Equal(t, "names", fmt.Sprint(imsg.Sent, imsg.Received, imsg.Current, imsg.Legacy, imsg.Auto, imsg.Dialect(9)),
		"sent received current legacy auto dialect 9")
}

// TestStatsAtEOF does not count the read that finds the end of the stream.
func TestStatsAtEOF(t *testing.T) {
	testutil.BothSides(t, imsg.Config{}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		peer.Write(testutil.Frame(imsg.Current, 1, 3, false))
		testutil.MustNext(t, s, 1, 3).Close()
		peer.Close()
		testutil.ReceiveError(t, s)
		testutil.Equal(t, "stats", s.Stats().Received, imsg.Counters{Messages: 1, Bytes: 19, Calls: 1})
	})
}

// TestEventText says which channel an event is of, whose peer, and names the type.
func TestEventText(t *testing.T) {
	testutil.NoLeak(t)
	var events []imsg.Event
	var text []string
	cfg := &imsg.Config{TypeNames: map[uint32]string{7: "OPEN"}, Trace: func(e imsg.Event) {
		events = append(events, e)
		text = append(text, e.String())
	}}
	a, b := imsgtest.Pair(t, cfg)
	for _, typ := range []uint32{7, 8} {
		testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: typ, ID: 3, PID: 4}, nil, []byte("secret")))
		testutil.Receive(t, b).Close()
	}
	if len(events) != 4 || events[0].Channel == 0 || events[0].Channel == events[1].Channel || events[0].Channel != events[2].Channel {
		t.Fatalf("%+v", events)
	}
	cred, err := a.PeerCred()
	testutil.Must(t, err)
	n, m := events[0].Channel, events[1].Channel
	testutil.Equal(t, "text", text, []string{
		fmt.Sprintf("channel %d peer %d: sent OPEN (7) id 3 pid 4, 6 bytes", n, cred.PID),
		fmt.Sprintf("channel %d peer %d: received OPEN (7) id 3 pid 4, 6 bytes", m, cred.PID),
		fmt.Sprintf("channel %d peer %d: sent type 8 id 3 pid 4, 6 bytes", n, cred.PID),
		fmt.Sprintf("channel %d peer %d: received type 8 id 3 pid 4, 6 bytes", m, cred.PID),
	})
}

// TestEventLog logs events with log/slog.
func TestEventLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log.Info("message", "imsg", imsg.Event{Channel: 2, Peer: 9, Direction: imsg.Received, Header: imsg.Header{Type: 7, ID: 3, PID: 4},
		TypeName: "OPEN", Payload: ibuf.NewView([]byte("secret")), FileLost: true})
	testutil.Equal(t, "log", out.String(), "level=INFO msg=message imsg.channel=2 imsg.peer=9 imsg.direction=received imsg.type=7 imsg.id=3 "+
		"imsg.pid=4 imsg.len=6 imsg.file=false imsg.name=OPEN imsg.lost=true\n")
}

// TestPrintTrace writes lines that no payload can spoil.
func TestPrintTrace(t *testing.T) {
	e := imsg.Event{Channel: 1, Peer: 2, Header: imsg.Header{Type: 3}, Payload: ibuf.NewView([]byte("a\x1b[2J\nlong")), HasFile: true}
	line := fmt.Sprintf("imsg[%d] channel 1 peer 2: sent type 3 id 0 pid 0, 10 bytes, file", os.Getpid())
	for n, want := range map[int]string{0: "", 6: `: "a\x1b[2J\n"...`, 64: `: "a\x1b[2J\nlong"`} {
		var out bytes.Buffer
		trace := imsg.PrintTrace(&out, n)
		trace(e)
		testutil.Equal(t, fmt.Sprint(n, " bytes"), out.String(), line+want+"\n")
	}
}

// TestTraceVar turns tracing on from the environment, for channels whose
// program knows nothing of it and beside its own trace, but not in a program
// that has more rights than who started it.
func TestTraceVar(t *testing.T) {
	if os.Getenv(testutil.ChildEnv) == t.Name() {
		own := 0
		a, b := pairOf(t, &imsg.Config{Trace: func(imsg.Event) { own++ }})
		ctx := testutil.DeadlineCtx(t)
		testutil.Must(t, a.Send(ctx, imsg.Header{Type: 7}, nil, []byte("secret")))
		if _, err := b.Receive(ctx); err != nil || own != 2 {
			t.Fatal(own, err)
		}
		fmt.Fprintln(os.Stderr, "ids", os.Getuid(), os.Geteuid())
		return
	}
	exe, err := os.Executable()
	testutil.Must(t, err)
	run := func(exe, value string) string {
		cmd := exec.Command(exe, "-test.run=^TestTraceVar$")
		cmd.Env = append(os.Environ(), testutil.ChildEnv+"="+t.Name(), imsg.TraceVar+"="+value)
		out, err := cmd.CombinedOutput()
		if err != nil {
			testutil.NeedExec(t, err)
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), "secret") {
			t.Errorf("the payload is shown:\n%s", out)
		}
		return string(out)
	}
	for value, want := range map[string]int{"1": 2, "0": 0, "": 0} {
		if out := run(exe, value); strings.Count(out, " type 7 id 0 ") != want {
			t.Errorf("%s=%q: want %d lines:\n%s", imsg.TraceVar, value, want, out)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("only root can make a set-user-ID program of another user")
	}
	program, err := os.ReadFile(exe)
	testutil.Must(t, err)
	suid := filepath.Join(t.TempDir(), "suid.test")
	testutil.Must(t, errors.Join(os.WriteFile(suid, program, 0o755), os.Chown(suid, 50000, -1), os.Chmod(suid, 0o755|os.ModeSetuid)))
	out := run(suid, "1")
	if !strings.Contains(out, "ids 0 50000") {
		t.Skipf("set-user-ID programs do not work here:\n%s", out)
	}
	if strings.Contains(out, " type 7 ") {
		t.Errorf("a set-user-ID program traces:\n%s", out)
	}
}
