package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		work()
		return
	}
	imsgtest.Main(m)
}

// TestSoak soaks for a second, or for longer where a second is too short for
// something of everything.
func TestSoak(t *testing.T) {
	for d := time.Second; ; d *= 4 {
		// Every ending is among the first channels of this seed.
		s, err := run(context.Background(), options{seed: 2, workers: 8, duration: d}, func(line string) { t.Log(line) })
		t.Log(s.line())
		testutil.Must(t, err)
		if s.lost.Load() != 0 {
			t.Error("something was lost")
		}
		missing := s.missing()
		if missing == "" {
			return
		}
		if d > 10*time.Second {
			t.Fatalf("%s in %v", missing, d)
		}
	}
}

// missing names something that has not happened.
func (s *soak) missing() string {
	for f := range s.ended {
		if s.ended[f].Load() == 0 {
			return fmt.Sprintf("no channel that ended as %v", ending(f))
		}
	}
	switch {
	case s.received.Load() == 0:
		return "no message was received"
	case s.pipes.delivered.Load() == 0:
		return "no file was delivered"
	case s.forwarded.Load() == 0:
		return "nothing was forwarded"
	}
	return ""
}

// TestLedger tells a ledger of messages that are not what was sent, or not in
// order.
func TestLedger(t *testing.T) {
	const from = 7
	message := func(seq, last uint32) stamp { return stamp{from: from, lane: 1, seq: seq, last: last} }
	for _, tt := range []struct {
		name    string
		s       stamp
		payload string
		damage  func(*imsg.Header)
		want    string // "": no error
	}{
		{name: "next", s: message(4, 3), payload: "x"},
		{name: "empty", s: message(4, 3)},
		{name: "behind a failed one", s: message(9, 3)},
		{name: "behind one that failed and arrived", s: message(5, 2)},
		{name: "gap", s: message(5, 4), want: "lost"},
		{name: "again", s: message(3, 2), want: "comes behind 3"},
		{name: "other lane", s: stamp{from: from, lane: 2, seq: 2, last: 1}, want: "lost"},
		{name: "other channel", s: stamp{from: from + 2, lane: 1, seq: 4, last: 3}, want: "want one from"},
		{name: "damaged payload", s: message(4, 3), payload: "x", damage: func(h *imsg.Header) { h.PID++ }, want: "checksum"},
		{name: "damaged header", s: message(4, 3), damage: func(h *imsg.Header) { h.ID ^= 1 << 20 }, want: "checksum"},
		{name: "forwarded, damaged", s: stamp{from, 1, wasForwarded, 4, 3}, payload: strings.Repeat("x", innerSize+1), want: "forwarded"},
		{name: "forwarded, short", s: stamp{from, 1, wasForwarded, 4, 3}, payload: "x", want: "forwarded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g ledger
			g.lane[1].got.Store(3)
			h := tt.s.header([]byte(tt.payload))
			if tt.damage != nil {
				tt.damage(&h)
			}
			got, err := g.receive(from, h, []byte(tt.payload))
			if err == nil && (tt.want != "" || got != tt.s) || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%+v, %v, want %+v, %q", got, err, tt.s, tt.want)
			}
		})
	}
}

func TestAudit(t *testing.T) {
	for _, tt := range []struct {
		begun, told, got uint64
		all              bool
		lost             uint64
		ok               bool
	}{
		{5, 3, 3, true, 0, true},
		{5, 3, 5, true, 0, true},
		{5, 3, 2, false, 0, true},
		{5, 3, 1, true, 2, false},
		{5, 3, 6, true, 0, false},
		{5, 3, 6, false, 0, false},
	} {
		var from, to ledger
		from.lane[4].begun.Store(tt.begun)
		from.lane[4].told.Store(tt.told)
		to.lane[4].got.Store(tt.got)
		if lost, err := audit(&from, &to, tt.all); lost != tt.lost || (err == nil) != tt.ok {
			t.Errorf("%+v: lost %d, %v", tt, lost, err)
		}
	}
}

// TestPipes lets a pipe tell of files that went astray.
func TestPipes(t *testing.T) {
	a, b := stamp{from: 2, seq: 1}.header(), stamp{from: 2, seq: 2, last: 1}.header()
	type says struct {
		kind, channel uint32
		h             imsg.Header
	}
	for _, tt := range []struct {
		name      string
		says      []says
		delivered int64
		closed    int64
		ok        bool
	}{
		{"unsent", nil, 0, 0, true},
		{"delivered twice", []says{{saysSent, 1, a}, {saysGot, 1, a}, {saysSent, 2, b}, {saysGot, 2, b}}, 2, 0, true},
		{"closed on its way", []says{{saysSent, 1, a}, {saysGot, 1, a}, {saysSent, 2, b}}, 1, 1, true},
		{"with another message", []says{{saysSent, 1, a}, {saysGot, 1, b}}, 0, 0, false},
		{"on another channel", []says{{saysSent, 1, a}, {saysGot, 2, a}}, 0, 0, false},
		{"received twice", []says{{saysSent, 1, a}, {saysGot, 1, a}, {saysGot, 1, a}}, 1, 0, false},
		{"unsent and received", []says{{saysGot, 1, a}}, 0, 0, false},
		{"kept by a sender who said that it is sent", []says{{saysSent, 1, a}, {saysSent, 1, b}}, 0, 0, false},
		{"torn", []says{{}}, 0, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := os.Create(t.TempDir() + "/pipe")
			testutil.Must(t, err)
			defer f.Close()
			for _, s := range tt.says {
				if s.kind == 0 {
					f.WriteString("x")
				} else if err := say(f, s.kind, s.channel, s.h); err != nil {
					t.Fatal(err)
				}
			}
			all, err := os.ReadFile(f.Name())
			testutil.Must(t, err)
			ps := pipes{closes: make(map[uint32]uint64)}
			err = ps.watch(bytes.NewReader(all))
			if (err == nil) != tt.ok || ps.delivered.Load() != tt.delivered || ps.closed.Load() != tt.closed {
				t.Errorf("%d delivered, %d closed, %v", ps.delivered.Load(), ps.closed.Load(), err)
			}
		})
	}
}
