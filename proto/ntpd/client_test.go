package ntpd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/payload"
	"example.org/imsg/proto/control"
	"example.org/imsg/proto/internal/fake"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

// laidOut returns the bytes of a struct.
func laidOut[T any](t testing.TB, v T) []byte {
	t.Helper()
	l, err := payload.LayoutOf[T](payload.Host())
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func count32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

var (
	status79 = ctlShowStatus79{ConstraintMedian: 1e9, ConstraintLast: 100, ClockOffset: -1.5, Peercnt: 2, ValidPeers: 1, Sensorcnt: 1, Synced: 1, Stratum: 3, Constraints: 1}
	peer79   = ctlShowPeer79{PeerDesc: "192.0.2.1 from pool example.org", Syncedto: 1, Weight: 2, Trustlevel: 10, Stratum: 2, Next: 5, Poll: 30, Offset: 0.25, Delay: 12, Jitter: 0.125}
	sensor79 = ctlShowSensor79{SensorDesc: "nmea0  GPS\x01", Weight: 1, Good: 1, Next: 1, Poll: 15, Offset: -3, Correction: 2}
)

// daemon plays a daemon that answers as the real one does; change, if not nil,
// may put something else in the place of an answer.
func daemon(t testing.TB, status []byte, change func(r *fake.Request, typ uint32, data []byte) bool) string {
	peer, sensor := laidOut(t, peer79), laidOut(t, sensor79)
	return fake.Daemon(t, nil, 0, func(r *fake.Request) {
		answer := func(typ uint32, data []byte) {
			if change == nil || !change(r, typ, data) {
				r.Answer(typ, data)
			}
		}
		all := r.Header.Type == msgAll
		if r.Header.Type == msgStatus || all {
			answer(msgStatus, status)
		}
		if r.Header.Type == msgPeers || all {
			answer(msgPeers, peer)
			answer(msgPeers, peer)
			answer(msgPeersEnd, count32(2))
		}
		if r.Header.Type == msgSensors || all {
			answer(msgSensors, sensor)
			answer(msgSensorsEnd, count32(1))
		}
		if all {
			answer(msgAllEnd, nil)
		}
		r.Wait()
	})
}

var wantPeer = Peer{
	Name: "192.0.2.1 from pool example.org", SyncedTo: true, Weight: 2, TrustLevel: 10, Stratum: 2, Next: 5 * time.Second, Poll: 30 * time.Second,
	Offset: 250 * time.Microsecond, Delay: 12 * time.Millisecond, Jitter: 125 * time.Microsecond,
}

func TestAll(t *testing.T) {
	wantStatus := Status{
		Peers: 2, ValidPeers: 1, Sensors: 1, Synced: true, Stratum: 3, ClockOffset: -1500 * time.Microsecond,
		Constraints: true, ConstraintMedian: time.Unix(1e9, 0), ConstraintLast: 100 * time.Second,
	}
	wantSensor := Sensor{
		Name: "nmea0  GPS\x01", Weight: 1, Good: true, Next: time.Second, Poll: 15 * time.Second,
		Offset: -3 * time.Millisecond, Correction: 2 * time.Millisecond,
	}
	ctx := fake.Context(t)
	c, err := Dial(ctx, daemon(t, laidOut(t, status79), nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.All(ctx)
	if want := (All{wantStatus, []Peer{wantPeer, wantPeer}, []Sensor{wantSensor}}); err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("%+v, %v\nwant %+v", all, err, want)
	}
	if s, err := c.Status(ctx); err != nil || s != wantStatus {
		t.Errorf("%+v, %v", s, err)
	}
	if p, err := c.Peers(ctx); err != nil || !reflect.DeepEqual(p, all.Peers) || !p[0].Valid() {
		t.Errorf("%+v, %v", p, err)
	}
	if s, err := c.Sensors(ctx); err != nil || !reflect.DeepEqual(s, all.Sensors) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, ok := all.Status.ConstraintOffset(); !ok && control.Monotonic() != 0 {
		t.Error("no offset of the constraints")
	}
}

func TestStatus62(t *testing.T) {
	old := ctlShowStatus62{Peercnt: 1, ValidPeers: 1, Synced: 1, Stratum: 2, ConstraintErrors: 4}
	if l, err := payload.LayoutOf[ctlShowStatus62](payload.Host()); err != nil || l.Size() == 48 {
		t.Skip("it has the size of the later one here")
	}
	c, err := Dial(fake.Context(t), daemon(t, laidOut(t, old), nil), &Config{Dialect: "legacy"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Dialect() != imsg.Legacy {
		t.Error(c.Dialect())
	}
	s, err := c.Status(fake.Context(t))
	if want := (Status{Peers: 1, ValidPeers: 1, Synced: true, Stratum: 2, ConstraintErrors: 4}); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	if _, ok := s.ConstraintOffset(); ok {
		t.Error("an offset without constraints")
	}
}

// What a daemon must not say ends a request with an error, and it alone.
func TestBadAnswers(t *testing.T) {
	noNUL := []byte(strings.Repeat("x", 200))
	for name, tt := range map[string]struct {
		at     uint32
		change func(r *fake.Request, data []byte)
		want   string
	}{
		"a short status":  {msgStatus, func(r *fake.Request, p []byte) { r.Answer(msgStatus, p[1:]) }, "CTL_SHOW_STATUS (10) has 47 bytes; known are"},
		"an empty status": {msgStatus, func(r *fake.Request, p []byte) { r.Answer(msgStatus, nil) }, "has 0 bytes"},
		"a long peer":     {msgPeers, func(r *fake.Request, p []byte) { r.Answer(msgPeers, append(p, 0)) }, "CTL_SHOW_PEERS (11) has"},
		"a name without a NUL": {msgPeers, func(r *fake.Request, p []byte) {
			r.Answer(msgPeers, append(append([]byte{}, noNUL[:80]...), p[80:]...))
		}, "ctlShowPeer79.PeerDesc: no NUL in 80 bytes"},
		"a wrong count":    {msgPeersEnd, func(r *fake.Request, p []byte) { r.Answer(msgPeersEnd, count32(math.MaxUint32)) }, "says that there are 4294967295, but 2 came"},
		"a short count":    {msgSensorsEnd, func(r *fake.Request, p []byte) { r.Answer(msgSensorsEnd, p[1:]) }, "CTL_SHOW_SENSORS_END (14) has 3 bytes; known is 4"},
		"another type":     {msgSensors, func(r *fake.Request, p []byte) { r.Answer(1, p) }, "unexpected answer ADJTIME (1)"},
		"the end too soon": {msgPeers, func(r *fake.Request, p []byte) { r.Conn.Close() }, io.ErrUnexpectedEOF.Error()},
		"endless peers": {msgPeers, func(r *fake.Request, p []byte) {
			for r.Answer(msgPeers, p) {
			}
		}, "more than 10000 answers"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := fake.Context(t)
			path := daemon(t, laidOut(t, status79), func(r *fake.Request, typ uint32, data []byte) bool {
				if typ != tt.at || r.Header.Type != msgAll {
					return false
				}
				tt.change(r, data)
				return true
			})
			c, err := Dial(ctx, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.All(ctx)
			var e *control.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if _, err := c.Status(ctx); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	}
	// Where an answer to one request is none to another.
	c, err := Dial(fake.Context(t), fake.Daemon(t, nil, 0, func(r *fake.Request) {
		r.Answer(msgStatus, laidOut(t, status79))
		r.Wait()
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Peers(fake.Context(t)); err == nil || !strings.Contains(err.Error(), "unexpected answer CTL_SHOW_STATUS") {
		t.Error(err)
	}
}

// A daemon that hangs up, or falls silent until the client gives up, behind any
// byte of an answer.
func TestCutEverywhere(t *testing.T) {
	path := daemon(t, laidOut(t, status79), nil)
	c, err := Dial(fake.Context(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	fake.CutEverywhere(t, path, func(ctx context.Context, path string) error {
		_, err := Dial(ctx, path, nil)
		return err
	})
	fake.CutEverywhere(t, path, func(ctx context.Context, path string) error {
		c.socket.Path = path
		_, err := c.All(ctx)
		return err
	})
}

func TestDialFails(t *testing.T) {
	ctx, cancel := context.WithTimeout(fake.Context(t), 10*time.Millisecond)
	defer cancel()
	silent := fake.Daemon(t, nil, 0, func(r *fake.Request) { r.Wait() })
	if _, err := Dial(ctx, silent, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	if _, err := Dial(ctx, silent, &Config{Dialect: "x"}); err == nil || !strings.Contains(err.Error(), `unknown dialect "x"`) {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for typ, want := range map[uint32]string{10: "CTL_SHOW_STATUS", 16: "CTL_SHOW_ALL_END", 19: "PROBE_ROOT", 20: "", math.MaxUint32: ""} {
		if got := TypeName(typ); got != want {
			t.Errorf("TypeName(%d) = %q, want %q", typ, got, want)
		}
	}
	for typ, v := range map[uint32]any{10: status79, 11: peer79, 13: sensor79} {
		l, ok := map[uint32]int{10: len(laidOut(t, status79)), 11: len(laidOut(t, peer79)), 13: len(laidOut(t, sensor79))}[typ]
		if got := PayloadType(typ, l); !ok || got != reflect.TypeOf(v) {
			t.Errorf("PayloadType(%d, %d) = %v", typ, l, got)
		}
	}
	if PayloadType(10, 1) != nil || PayloadType(12, 4) != nil {
		t.Error("a type for a size that is none")
	}
}

// The sizes in peers' headers as a C compiler lays them out.
func TestSizes(t *testing.T) {
	for abi, want := range map[payload.ABI][4]int{payload.LP64: {48, 56, 128, 120}, payload.I386: {48, 48, 124, 116}, payload.ILP32: {48, 56, 128, 120}} {
		s79, err1 := payload.LayoutOf[ctlShowStatus79](abi)
		s62, err2 := payload.LayoutOf[ctlShowStatus62](abi)
		p, err3 := payload.LayoutOf[ctlShowPeer79](abi)
		s, err4 := payload.LayoutOf[ctlShowSensor79](abi)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		if got := [4]int{s79.Size(), s62.Size(), p.Size(), s.Size()}; got != want {
			t.Errorf("%v: %v, want %v", abi, got, want)
		}
	}
}

// FuzzAnswers lets a daemon say anything: no panic, nothing without an end, and
// an error or values that can be printed.
func FuzzAnswers(f *testing.F) {
	f.Add(uint32(msgStatus), []byte{}, uint32(msgPeers), []byte{})
	f.Add(uint32(msgStatus), laidOut(f, status79), uint32(msgPeers), laidOut(f, peer79))
	f.Add(uint32(msgSensors), laidOut(f, sensor79), uint32(msgPeersEnd), count32(0))
	f.Fuzz(func(t *testing.T, typ1 uint32, data1 []byte, typ2 uint32, data2 []byte) {
		status, peer, sensor := statusDecoder.Open(), peerDecoder.Open(), sensorDecoder.Open()
		a, b := imsgtest.Pair(t, nil)
		ctx := fake.Context(t)
		for i, data := range [][]byte{data1[:min(len(data1), 16000)], data2[:min(len(data2), 16000)]} {
			if err := a.Send(ctx, imsg.Header{Type: []uint32{typ1, typ2}[i]}, nil, data); err != nil {
				t.Fatal(err)
			}
			m, err := b.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var all All
			all.Peers, all.Sensors = make([]Peer, 1), make([]Sensor, 1)
			status(m, &all.Status)
			peer(m, &all.Peers[0])
			sensor(m, &all.Sensors[0])
			checkCount(m, 1)
			all.Status.ConstraintOffset()
			if len(all.Peers[0].Name) > 79 || len(all.Sensors[0].Name) > 79 {
				t.Errorf("a name that is too long: %+v", all)
			}
			m.Close()
		}
	})
}
