package capture_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
)

// message is one on the wire in this machine's order.
func message(d imsg.Dialect, typ uint32, payload string, file bool) []byte {
	p := make([]byte, imsg.HeaderSize, imsg.HeaderSize+len(payload))
	d.Encode(p, binary.NativeEndian, imsg.Header{Type: typ, ID: 7, PID: 4242}, cap(p), file)
	return append(p, payload...)
}

// An event is a call, or the end of an end.
type event struct {
	side capture.Side
	sent bool
	capture.Call
}

func side(pid, fd int, inode, peer uint64) capture.Side {
	return capture.Side{Endpoint: capture.Endpoint{PID: pid, FD: fd}, Inode: inode, Peer: peer}
}

// begun is a side whose stream may have begun before.
func begun(s capture.Side) capture.Side {
	s.Begun = true
	return s
}

var t0 = time.Unix(1700000000, 0)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

// line is a record as the tables below have it.
func line(r *capture.Record) string {
	s := fmt.Sprintf("%d %d>%d type %d len %d %q", r.Channel, r.From.PID, r.To.PID, r.Header.Type, r.Len, r.Payload)
	if r.Dir == capture.DirIn {
		s += " in"
	}
	if r.Wait >= 0 {
		s += fmt.Sprintf(" waited %v", r.Wait)
	}
	for _, f := range r.Files {
		s += fmt.Sprintf(" file %d>%d %s", f.From, f.To, f.Path)
		if f.Lost {
			s += "lost"
		}
	}
	if r.Note != "" {
		s += " (" + r.Note + ")"
	}
	return s
}

func assemble(t *testing.T, events []event) (got, problems []string) {
	t.Helper()
	a := capture.NewAssembler(func(r *capture.Record) error {
		got = append(got, line(r))
		return nil
	})
	a.Problem = func(s string) { problems = append(problems, s) }
	for _, e := range events {
		do := a.Received
		if e.sent {
			do = a.Sent
		}
		if err := do(e.side, e.Call); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return got, problems
}

func TestAssembler(t *testing.T) {
	a, b := side(1, 3, 100, 101), side(2, 4, 101, 100)
	one, two := message(imsg.Current, 1, "one", false), message(imsg.Current, 2, "two", false)
	both := slices.Concat(one, two)
	marked := message(imsg.Current, 5, "f", true)
	sent := func(s capture.Side, ms int, p []byte, files ...capture.File) event {
		return event{s, true, capture.Call{Time: at(ms), Bytes: p, Files: files}}
	}
	rcvd := func(s capture.Side, ms int, p []byte, files ...capture.File) event {
		return event{s, false, capture.Call{Time: at(ms), Bytes: p, Files: files}}
	}
	tests := []struct {
		name   string
		events []event
		want   []string
	}{
		{"both ends, two sends in one receive", []event{sent(a, 0, one), sent(a, 1, two), rcvd(b, 5, both)},
			[]string{`1 1>2 type 1 len 19 "one" waited 5ms`, `1 1>2 type 2 len 19 "two" waited 4ms`}},
		{"the receive is seen before the send", []event{rcvd(b, 0, one), sent(a, 0, one), sent(a, 1, two), rcvd(b, 2, two)},
			[]string{`1 1>2 type 1 len 19 "one" waited 0s`, `1 1>2 type 2 len 19 "two" waited 1ms`}},
		{"equal messages", []event{sent(a, 0, one), sent(a, 1, one), rcvd(b, 2, one), rcvd(b, 3, one)},
			[]string{`1 1>2 type 1 len 19 "one" waited 2ms`, `1 1>2 type 1 len 19 "one" waited 2ms`}},
		{"pieces", []event{sent(a, 0, one[:5]), sent(a, 1, one[5:]), rcvd(b, 5, both[:18]), sent(a, 6, two), rcvd(b, 7, both[18:])},
			[]string{`1 1>2 type 1 len 19 "one" waited 7ms`, `1 1>2 type 2 len 19 "two" waited 1ms`}},
		{"one end only", []event{sent(a, 0, one), rcvd(a, 3, two)},
			[]string{`1 1>0 type 1 len 19 "one"`, `1 0>1 type 2 len 19 "two" in`}},
		{"a file", []event{sent(a, 0, slices.Concat(one, marked), capture.File{From: 9, To: -1, Path: "/etc/passwd"}), rcvd(b, 1, slices.Concat(one, marked), capture.File{From: -1, To: 12})},
			[]string{`1 1>2 type 1 len 19 "one" waited 1ms`, `1 1>2 type 5 len 17 "f" waited 1ms file 9>12 /etc/passwd`}},
		{"a lost file", []event{sent(a, 0, marked, capture.File{From: 9, To: -1, Path: "/etc/passwd"}), {b, false, capture.Call{Time: at(1), Bytes: marked, Lost: true}}},
			[]string{`1 1>2 type 5 len 17 "f" waited 1ms file 9>-1 /etc/passwdlost`}},
		{"a file that nobody announces", []event{sent(a, 0, one, capture.File{From: 9, To: -1})},
			[]string{`1 1>0 type 1 len 19 "one" file 9>-1  (a file came along that no header announces)`}},
		{"attached while a message was on its way", []event{sent(a, 0, two), rcvd(b, 1, one), rcvd(b, 2, two), sent(a, 3, two), rcvd(b, 4, two)},
			[]string{`1 1>2 type 2 len 19 "two"`, `1 1>2 type 1 len 19 "one"`, `1 1>2 type 2 len 19 "two" waited 1ms`}},
		{"an answer", []event{sent(a, 0, one), rcvd(b, 1, one), sent(b, 2, two), rcvd(a, 4, two)},
			[]string{`1 1>2 type 1 len 19 "one" waited 1ms`, `1 2>1 type 2 len 19 "two" in waited 2ms`}},
		{"a reader that hangs", []event{sent(a, 0, one), rcvd(b, 1, one), sent(a, 2, two)},
			[]string{`1 1>2 type 1 len 19 "one" waited 1ms`, `1 1>2 type 2 len 19 "two" (not received when the capture ended)`}},
		{"no inodes", []event{sent(side(1, 3, 0, 0), 0, one), rcvd(side(1, 3, 0, 0), 1, two), sent(side(1, 4, 0, 0), 2, two)},
			[]string{`1 1>0 type 1 len 19 "one"`, `1 0>1 type 2 len 19 "two" in`, `2 1>0 type 2 len 19 "two"`}},
		{"no imsg", []event{sent(a, 0, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")), rcvd(a, 1, []byte("HTTP/1.1 200 OK\r\nDate: today\r\n\r\n"))}, nil},
		{"a payload cut", []event{{a, true, capture.Call{Time: at(0), Bytes: one, Hidden: []capture.Range{{Beg: 17, End: 19}}}}},
			[]string{`1 1>0 type 1 len 19 "o" (2 bytes of the payload were not captured)`}},
		{"a header cut", []event{{b, false, capture.Call{Bytes: both, Hidden: []capture.Range{{Beg: 18, End: 38}}}}, rcvd(b, 0, two)},
			[]string{`1 0>2 type 1 len 19 "on" (1 bytes of the payload were not captured)`, `1 0>2 type 2 len 19 "two"`}},
		{"attached inside a message", []event{sent(begun(a), 0, one[10:]), sent(begun(a), 1, two[:8]), sent(begun(a), 2, two[8:]), rcvd(begun(b), 3, slices.Concat(one[10:], both)), sent(begun(a), 4, one), rcvd(begun(b), 5, one)},
			[]string{`1 1>2 type 1 len 19 "one" waited 1ms`}},
		{"cut at one end", []event{{a, true, capture.Call{Time: at(0), Bytes: one, Hidden: []capture.Range{{Beg: 17, End: 19}}}}, rcvd(b, 1, one)},
			[]string{`1 1>2 type 1 len 19 "one" waited 1ms`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := assemble(t, tt.events); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestAssemblerHold has messages that are received late, or never.
func TestAssemblerHold(t *testing.T) {
	a, b := side(1, 3, 100, 101), side(2, 4, 101, 100)
	one, two, three := message(imsg.Current, 1, "", false), message(imsg.Current, 2, "", false), message(imsg.Current, 3, "", false)
	var got []string
	asm := capture.NewAssembler(func(r *capture.Record) error {
		got = append(got, line(r))
		return nil
	})
	asm.Hold, asm.HoldBoth = time.Second, 10*time.Second
	asm.Sent(a, capture.Call{Time: at(0), Bytes: one})
	asm.Tick(at(1001)) // whether anybody receives it is not known
	asm.Received(b, capture.Call{Time: at(1500), Bytes: one})
	asm.Sent(a, capture.Call{Time: at(2000), Bytes: two})
	asm.Tick(at(11000))
	asm.Received(b, capture.Call{Time: at(11500), Bytes: two})
	asm.Sent(a, capture.Call{Time: at(12000), Bytes: three})
	asm.Tick(at(22001))
	want := []string{`1 1>0 type 1 len 16 ""`, `1 1>2 type 2 len 16 "" waited 9.5s`, `1 1>2 type 3 len 16 "" (not received for long)`}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestAssemblerPeerName knows the path of an end that is not seen.
func TestAssemblerPeerName(t *testing.T) {
	var got []string
	a := capture.NewAssembler(func(r *capture.Record) error {
		got = append(got, r.Name)
		return nil
	})
	client := capture.Side{Endpoint: capture.Endpoint{PID: 1, FD: 3}, Inode: 100, PeerName: "/s"}
	a.Sent(client, capture.Call{Bytes: message(imsg.Current, 1, "", false)})
	client.Peer = 101 // accepted now
	a.Received(client, capture.Call{Bytes: message(imsg.Current, 2, "", false)})
	if err := a.Close(); err != nil || !slices.Equal(got, []string{"/s", "/s"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestAssemblerOthers counts channels that carry something else, closed or not.
func TestAssemblerOthers(t *testing.T) {
	a := capture.NewAssembler(func(*capture.Record) error { return nil })
	http := capture.Call{Bytes: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}
	for _, ch := range []uint64{100, 200, 300} {
		a.Sent(side(1, 3, ch, ch+1), http)
		a.Received(side(2, 3, ch+1, ch), http)
	}
	a.Sent(side(1, 4, 400, 401), capture.Call{Bytes: message(imsg.Current, 1, "", false)})
	a.Closed(side(1, 3, 100, 101))
	a.Closed(side(2, 3, 101, 100))
	a.Closed(side(1, 3, 300, 301))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := a.Others(); n != 3 {
		t.Errorf("%d, want 3", n)
	}
}

// TestAssemblerProblem shows a stream that cannot be followed: what was whole
// comes out, and the problem is told once.
func TestAssemblerProblem(t *testing.T) {
	a := side(1, 3, 100, 101)
	bad := []byte("no header, but text of some length")
	got, problems := assemble(t, []event{
		{a, true, capture.Call{Bytes: message(imsg.Current, 1, "x", false)}},
		{a, true, capture.Call{Bytes: bad}},
		{a, true, capture.Call{Bytes: bad}},
	})
	if len(got) != 1 || len(problems) != 1 || !strings.Contains(problems[0], "after 17 bytes: expected a header") {
		t.Errorf("got %q, problems %q", got, problems)
	}
}

// TestAssemblerBacklog sends many messages before any is received.
func TestAssemblerBacklog(t *testing.T) {
	a, b := side(1, 3, 100, 101), side(2, 4, 101, 100)
	var events []event
	for i := range 2000 {
		events = append(events, event{a, true, capture.Call{Time: at(0), Bytes: message(imsg.Current, uint32(i), "", false)}})
	}
	for i := range 2000 {
		events = append(events, event{b, false, capture.Call{Time: at(1), Bytes: message(imsg.Current, uint32(i), "", false)}})
	}
	for _, wait := range []string{"1ms", "0s"} { // then the receives are seen first
		got, problems := assemble(t, events)
		if len(got) != 2000 || len(problems) > 0 {
			t.Fatalf("%d messages, problems %q", len(got), problems)
		}
		for i, s := range got {
			if want := fmt.Sprintf("1 1>2 type %d len 16 \"\" waited %s", i, wait); s != want {
				t.Fatalf("got %s, want %s", s, want)
			}
		}
		events = slices.Concat(events[2000:], events[:2000])
		for i := range events {
			events[i].Time = at(0)
		}
	}
}

// TestAssemblerRandom sends and receives at random, over several channels, and
// shows the calls in an order that is a little wrong, as tracers do. Each
// message comes out once, in the order of its direction, with its own file.
func TestAssemblerRandom(t *testing.T) {
	seed := rand.Uint64()
	for round := range 300 {
		if !t.Run(fmt.Sprint(seed, round), func(t *testing.T) { randomTraffic(t, rand.New(rand.NewPCG(seed, uint64(round)))) }) {
			return
		}
	}
}

// A pipeline is one direction of a channel: what was sent and not received.
type pipeline struct {
	from, to capture.Side
	dialect  imsg.Dialect
	sends    []event
	want     []string
}

func randomTraffic(t *testing.T, rnd *rand.Rand) {
	var pipes []*pipeline
	for i := range 1 + rnd.IntN(3) {
		a, b := side(1, 3+i, uint64(100+2*i), uint64(101+2*i)), side(2, 3+i, uint64(101+2*i), uint64(100+2*i))
		d := [...]imsg.Dialect{imsg.Current, imsg.Legacy}[rnd.IntN(2)]
		pipes = append(pipes, &pipeline{from: a, to: b, dialect: d}, &pipeline{from: b, to: a, dialect: d})
	}
	var events []event
	now := 0
	for i := range 200 {
		now++
		p := pipes[rnd.IntN(len(pipes))]
		if rnd.IntN(2) == 0 {
			events = append(events, p.send(rnd, i, at(now)))
		}
		if len(p.sends) > 0 && rnd.IntN(3) > 0 {
			events = append(events, p.receive(rnd, at(now)))
		}
	}
	for _, p := range pipes {
		for len(p.sends) > 0 {
			now++
			events = append(events, p.receive(rnd, at(now)))
		}
	}
	// A tracer sees a receive before the end of the send that woke it; but each
	// end's calls stay in order.
	for i := 1; i < len(events); i++ {
		if a, b := events[i-1], events[i]; a.sent && !b.sent && a.side.Inode == b.side.Peer && rnd.IntN(2) == 0 {
			events[i-1], events[i] = b, a
		}
	}
	got := map[uint64][]string{}
	asm := capture.NewAssembler(func(r *capture.Record) error {
		files := 0
		for _, f := range r.Files {
			if f.Lost || f.From != f.To {
				t.Errorf("file %+v", f)
			}
			files += f.From
		}
		if r.Wait < 0 || r.Note != "" {
			t.Errorf("%s", line(r))
		}
		n := uint64(100 + 2*(r.From.FD-3)) // the sender's inode
		if r.From.PID == 2 {
			n++
		}
		got[n] = append(got[n], fmt.Sprint(r.Header.Type, r.Len, files))
		return nil
	})
	asm.Problem = func(s string) { t.Error(s) }
	asm.Hold = time.Hour
	for _, e := range events {
		do := asm.Received
		if e.sent {
			do = asm.Sent
		}
		if err := do(e.side, e.Call); err != nil {
			t.Fatal(err)
		}
	}
	if err := asm.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range pipes {
		if g := got[p.from.Inode]; !slices.Equal(g, p.want) {
			t.Fatalf("%d: got %d messages, want %d\n%v\n%v", p.from.Inode, len(g), len(p.want), g, p.want)
		}
	}
}

// send sends some messages; the first can have a file.
func (p *pipeline) send(rnd *rand.Rand, i int, now time.Time) event {
	e := event{side: p.from, sent: true, Call: capture.Call{Time: now}}
	for j := range 1 + rnd.IntN(4) {
		file := j == 0 && rnd.IntN(3) == 0
		n, f := rnd.IntN(40), 0
		if file {
			f = 10 + i
			e.Files = []capture.File{{From: f, To: -1}}
		}
		// Alike but for the type, sometimes not even that.
		e.Bytes = append(e.Bytes, message(p.dialect, uint32(rnd.IntN(3)), strings.Repeat("x", n), file)...)
		p.want = append(p.want, fmt.Sprint(binary.NativeEndian.Uint32(e.Bytes[len(e.Bytes)-n-imsg.HeaderSize:]), n+imsg.HeaderSize, f))
	}
	p.sends = append(p.sends, e)
	return e
}

// receive receives as Linux does: up to the end of a send with a file, which
// comes with its first byte.
func (p *pipeline) receive(rnd *rand.Rand, now time.Time) event {
	e := event{side: p.to, Call: capture.Call{Time: now}}
	room := 1 + rnd.IntN(300)
	for len(p.sends) > 0 && len(e.Bytes) < room && len(e.Files) == 0 {
		s := &p.sends[0]
		n := min(room-len(e.Bytes), len(s.Bytes))
		e.Bytes = append(e.Bytes, s.Bytes[:n]...)
		for _, f := range s.Files {
			e.Files = append(e.Files, capture.File{From: -1, To: f.From})
		}
		s.Files = nil
		if s.Bytes = s.Bytes[n:]; len(s.Bytes) == 0 {
			p.sends = p.sends[1:]
		}
	}
	e.Full = len(e.Bytes) == room
	return e
}

// TestAssemblerManyChannels has more channels than are kept at a time.
func TestAssemblerManyChannels(t *testing.T) {
	n := 0
	a := capture.NewAssembler(func(r *capture.Record) error {
		if n++; r.Wait != time.Millisecond || r.From.PID != 1 || r.To.PID != 2 {
			t.Errorf("%s", line(r))
		}
		return nil
	})
	one := message(imsg.Current, 1, "one", false)
	const channels = 40000
	for i := range uint64(channels) {
		a.Sent(side(1, 3, 2*i+1, 2*i+2), capture.Call{Time: at(0), Bytes: one})
		a.Received(side(2, 3, 2*i+2, 2*i+1), capture.Call{Time: at(1), Bytes: one})
	}
	// One whose end was forgotten, or both, goes on.
	for i := range uint64(100) {
		a.Received(side(2, 3, 2*i+2, 2*i+1), capture.Call{Time: at(2), Bytes: one})
		a.Sent(side(1, 3, 2*i+1, 2*i+2), capture.Call{Time: at(1), Bytes: one})
	}
	if a.Close(); n != channels+100 {
		t.Errorf("%d messages, want %d", n, channels+100)
	}
	if n := a.Ends(); n > 1<<14 {
		t.Errorf("%d ends are kept", n)
	}
}
