package main

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/payload"
	"example.org/imsg/proto/bgpd"
	"example.org/imsg/proto/ntpd"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

// An answer is one message of a daemon.
type answer struct {
	typ  uint32
	data []byte
}

// play starts a daemon that gives the same answers to each request of a type, and
// returns the path of its socket.
func play(t *testing.T, answers map[uint32][]answer) string {
	t.Helper()
	path := t.TempDir() + "/s"
	l, err := imsg.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		l.Serve(ctx, func(ctx context.Context, c *imsg.Conn) {
			for {
				m, err := c.Receive(ctx)
				if err != nil {
					return
				}
				for _, a := range answers[m.Type()] {
					c.Send(ctx, imsg.Header{Type: a.typ, PID: m.Header().PID}, nil, a.data)
				}
				m.Close()
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		l.Close()
		<-over
	})
	return path
}

// laidOut returns the bytes of the struct of a message, with some fields set.
func laidOut(t *testing.T, typ reflect.Type, fields map[string]any) []byte {
	t.Helper()
	if typ == nil {
		t.Skip("the sizes in this test are those of LP64")
	}
	v := reflect.New(typ)
	for path, value := range fields {
		f := v.Elem()
		for name := range strings.SplitSeq(path, ".") {
			f = f.FieldByName(name)
		}
		f.Set(reflect.ValueOf(value))
	}
	data, err := payload.Native{}.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// page returns what the exporter serves, as Prometheus' own parser reads it.
func page(t *testing.T, bgpd, ntpd string) map[string]*dto.MetricFamily {
	t.Helper()
	r, err := registry(bgpd, ntpd, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler(r).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, _ := io.ReadAll(w.Body)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, body)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	return families
}

// value returns the value of the metric that has all of these labels.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) any {
	f := families[name]
	if f == nil {
		return "no " + name
	}
search:
	for _, m := range f.Metric {
		for i := 0; i < len(labels); i += 2 {
			has := false
			for _, l := range m.Label {
				has = has || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
			}
			if !has {
				continue search
			}
		}
		return m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return "no such labels"
}

func TestNTPD(t *testing.T) {
	status := laidOut(t, ntpd.PayloadType(10, 48), map[string]any{
		"Peercnt": uint32(2), "ValidPeers": uint32(1), "Synced": uint8(1), "Stratum": uint8(3), "ClockOffset": -1.5,
	})
	good := laidOut(t, ntpd.PayloadType(11, 128), map[string]any{
		"PeerDesc": "192.0.2.1 from pool \"x\\\n\x1b\xff", "Trustlevel": uint8(10), "Offset": 2.5, "Delay": 10.0, "Jitter": 0.5, "Stratum": uint8(2),
	})
	silent := laidOut(t, ntpd.PayloadType(11, 128), map[string]any{"PeerDesc": "192.0.2.2 "})
	socket := play(t, map[uint32][]answer{
		10: {{10, status}},
		15: {{10, status}, {11, good}, {11, silent}, {11, silent}, {12, []byte{3, 0, 0, 0}}, {14, make([]byte, 4)}, {16, nil}},
	})
	p := page(t, "", socket)
	const peer = "192.0.2.1 from pool \"x\\\n\x1b?"
	for _, tt := range []struct {
		name, peer string
		want       any
	}{
		{"openntpd_up", "", 1.0}, {"openntpd_synced", "", 1.0}, {"openntpd_stratum", "", 3.0}, {"openntpd_clock_offset_seconds", "", -0.0015},
		{"openntpd_peers", "", 2.0}, {"openntpd_peer_offset_seconds", peer, 0.0025}, {"openntpd_peer_delay_seconds", peer, 0.01},
		{"openntpd_peer_jitter_seconds", peer, 0.0005}, {"openntpd_peer_stratum", peer, 2.0}, {"openntpd_peer_valid", "192.0.2.2", 0.0},
		{"openntpd_peer_offset_seconds", "192.0.2.2", "no such labels"},
	} {
		var labels []string
		if tt.peer != "" {
			labels = []string{"peer", tt.peer}
		}
		if got := value(p, tt.name, labels...); got != tt.want {
			t.Errorf("%s of %q is %v, want %v", tt.name, tt.peer, got, tt.want)
		}
	}
}

func TestBGPD(t *testing.T) {
	neighbor := laidOut(t, bgpd.PayloadType(13, 1624), map[string]any{
		"Conf.Descr": "peer-a", "Conf.RemoteAS": uint32(65002), "Conf.Group": "others", "State": uint32(6), "Stats.MsgRcvdUpdate": uint64(7),
		"RDEStats.PrefixCnt": uint32(5),
	})
	memory := laidOut(t, bgpd.PayloadType(22, 528), map[string]any{
		"RIBCnt": int64(6), "AspathCnt": int64(2), "AspathSize": int64(16), "RDEEventIoUsec": int64(2500000),
	})
	end := answer{1, nil}
	socket := play(t, map[uint32][]answer{13: {{13, neighbor}, {13, neighbor}, end}, 22: {{22, memory}}, 23: {{13, neighbor}, end}})
	p := page(t, socket, "")
	for _, tt := range []struct {
		name   string
		labels []string
		want   any
	}{
		{"bgpd_up", nil, 1.0},
		{"bgpd_peer_state_raw", []string{"description", "peer-a", "remote_as", "65002", "group", "others"}, 6.0},
		{"bgpd_peer_state", []string{"bgpd_peer_state", "Established"}, 1.0},
		{"bgpd_peer_state", []string{"bgpd_peer_state", "Idle"}, 0.0},
		{"bgpd_peer_message_receive_total", []string{"messages", "update"}, 7.0},
		{"bgpd_peer_prefixes_receive", nil, 5.0},
		{"bgpd_rde_memory_usage_objects", []string{"type", "rib"}, 6.0},
		{"bgpd_rde_memory_usage_bytes", []string{"type", "aspath"}, 16.0},
		{"bgpd_rde_memory_usage_bytes", []string{"type", "rib"}, "no such labels"},
		{"bgpd_rde_evloop_seconds_total", []string{"stage", "io"}, 2.5},
	} {
		if got := value(p, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s of %q is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
}

// Daemons that are not there, or talk nonsense, are metrics, too, and the log
// says why.
func TestDown(t *testing.T) {
	var lines strings.Builder // log writes one line at a time
	log.SetOutput(&lines)
	defer log.SetOutput(os.Stderr)
	nonsense := play(t, map[uint32][]answer{10: {{10, make([]byte, 7)}}, 22: {{22, make([]byte, 7)}}})
	for _, socket := range []string{t.TempDir() + "/nobody", nonsense} {
		p := page(t, socket, socket)
		if value(p, "bgpd_up") != 0.0 || value(p, "openntpd_up") != 0.0 || len(p) != 2 {
			t.Errorf("%v", p)
		}
		if n := strings.Count(lines.String(), socket); n < 2 {
			t.Errorf("the log names %s %d times: %q", socket, n, lines.String())
		}
	}
	if _, err := registry("", "", 0); err == nil {
		t.Error("no error without a socket")
	}
}
