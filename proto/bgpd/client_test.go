package bgpd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/payload"
	"example.org/imsg/proto/control"
	"example.org/imsg/proto/internal/fake"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

// bytesOf returns the bytes of a struct.
func bytesOf[T any](t testing.TB, v T) []byte {
	t.Helper()
	p, err := laidOut(&v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A fakeVersion is what a daemon of one version sends.
type fakeVersion struct {
	name         string
	memory, peer func(t testing.TB) []byte
	route        func(t testing.TB) []byte
	set          func(t testing.TB) []byte
	table        func(t testing.TB) []byte
	dialect      imsg.Dialect
}

func of[T any](v T) func(testing.TB) []byte {
	return func(t testing.TB) []byte { return bytesOf(t, v) }
}

func peerOf92() (p ctlPeer92) {
	p.Conf.Descr, p.Conf.RemoteAS, p.State = "one", 65002, uint32(Established)
	p.Conf.RemoteAddr.AID, p.Conf.RemoteAddr.Union = uint8(IPv4), [40]byte{192, 0, 2, 1}
	p.RemoteBGPID = 0xc0000201
	return p
}

func routeOf89() (r ctlShowRIB89) {
	r.Prefix.AID, r.Prefix.Union, r.Prefixlen, r.Descr = uint8(IPv6), [40]byte{0x20, 1, 0xd, 0xb8}, 32, "one"
	return r
}

func routeOf77() (r ctlShowRIB77) {
	r.Prefix.AID, r.Prefix.Ba, r.Prefixlen, r.Descr = uint8(IPv6), [16]byte{0x20, 1, 0xd, 0xb8}, 32, "one"
	return r
}

func routeOf88() (r ctlShowRIB88) {
	r.Prefix.AID, r.Prefix.Union, r.Prefixlen, r.Descr = uint8(IPv6), [40]byte{0x20, 1, 0xd, 0xb8}, 32, "one"
	return r
}

var fakeVersions = []fakeVersion{
	{"7.7", of(rdeMemstats77{RIBCnt: 3}), of(peer77{Conf: peerConfig77{Descr: "one"}}), of(routeOf77()), of(ctlShowSet88{Name: "set"}), of(ktable77{Descr: "Loc-RIB"}), imsg.Legacy},
	{"8.8", of(rdeMemstats88{RIBCnt: 3}), of(peer88{Conf: peerConfig88{Descr: "one"}}), of(routeOf88()), of(ctlShowSet88{Name: "set"}), of(ktable88{Descr: "Loc-RIB"}), imsg.Current},
	{"8.9", of(rdeMemstats88{RIBCnt: 3}), of(peer89{Conf: peerConfig89{Descr: "one"}}), of(routeOf89()), of(ctlShowSet89{Name: "set"}), of(ktable88{Descr: "Loc-RIB"}), imsg.Current},
	{"9.0", of(rdeMemstats90{RIBCnt: 3}), of(peer89{Conf: peerConfig89{Descr: "one"}}), of(routeOf89()), of(ctlShowSet89{Name: "set"}), of(ktable88{Descr: "Loc-RIB"}), imsg.Current},
	{"9.1", of(rdeMemstats91{RIBCnt: 3}), of(peer91{Conf: peerConfig91{Descr: "one"}}), of(routeOf89()), of(ctlShowSet89{Name: "set"}), of(ktable88{Descr: "Loc-RIB"}), imsg.Current},
	{"9.2 or later", of(rdeMemstats91{RIBCnt: 3}), of(peerOf92()), of(routeOf89()), of(ctlShowSet89{Name: "set"}), of(ktable88{Descr: "Loc-RIB"}), imsg.Current},
}

// daemon plays a daemon; change, if not nil, may answer in its place.
func daemon(t testing.TB, v fakeVersion, change func(r *fake.Request, typ uint32) bool) string {
	memory, peer, set, table := v.memory(t), v.peer(t), v.set(t), v.table(t)
	route := append(v.route(t), 2, 1, 0, 0, 0xfd, 0xe9)
	return fake.Daemon(t, &imsg.Config{Dialect: v.dialect}, 0, func(r *fake.Request) {
		typ := r.Header.Type
		if v.dialect == imsg.Legacy && typ >= typeFlowspec {
			typ++
		}
		moved := func(typ uint32) uint32 {
			if v.dialect == imsg.Legacy {
				return typ - 1
			}
			return typ
		}
		if change != nil && change(r, typ) {
			r.Wait()
			return
		}
		switch typ {
		case msgShowMemory:
			r.Answer(moved(typ), memory)
			r.Wait()
			return
		case msgShowMemory + 1, msgShowNeighbor:
			if typ != msgShowNeighbor && v.dialect == imsg.Current {
				t.Error("CTL_SHOW_TERSE: 9.3 may end")
			}
			r.Answer(msgShowNeighbor, peer)
		case msgShowRIB, msgShowPrefix:
			for range 100 {
				r.Answer(msgShowRIB, route)
			}
		case msgShowSet:
			r.Answer(moved(typ), set)
		case msgShowTables:
			r.Answer(moved(typ), table)
		}
		r.Answer(msgEnd, nil)
		r.Wait()
	})
}

func TestVersions(t *testing.T) {
	if bigEndian := binary.NativeEndian.Uint16([]byte{0, 1}) == 1; bigEndian {
		t.Skip("which dialect is tried first is told from here")
	}
	for _, v := range fakeVersions {
		t.Run(v.name, func(t *testing.T) {
			ctx := fake.Context(t)
			c, err := Dial(ctx, daemon(t, v, nil), nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.Version() != v.name || c.Dialect() != v.dialect {
				t.Errorf("Dial has found %s, %v", c.Version(), c.Dialect())
			}
			if n, err := c.Neighbors(ctx); err != nil || len(n) != 1 || n[0].Name() != "one" {
				t.Errorf("%+v, %v", n, err)
			}
			if s, err := c.Summary(ctx); err != nil || len(s) != 1 || s[0].Name != "one" {
				t.Errorf("%+v, %v", s, err)
			}
			if m, err := c.Memory(ctx); err != nil || m.Entries[0] != (Entry{"rib", 3, NotTold, NotTold}) {
				t.Errorf("%+v, %v", m, err)
			}
			if s, err := c.Sets(ctx); err != nil || !reflect.DeepEqual(s, []Set{{Name: "set"}}) {
				t.Errorf("%+v, %v", s, err)
			}
			if x, err := c.Tables(ctx); err != nil || !reflect.DeepEqual(x, []Table{{Description: "Loc-RIB"}}) {
				t.Errorf("%+v, %v", x, err)
			}
			n := 0
			for r, err := range c.RIB(ctx, Filter{}) {
				if err != nil || r.Prefix.String() != "2001:db8::/32" || r.ASPath.String() != "65001" || r.Description != "one" {
					t.Fatalf("%+v, %v", r, err)
				}
				n++
			}
			if n != 100 {
				t.Errorf("%d routes", n)
			}
		})
	}
}

// What a daemon must not say ends a request with an error.
func TestBadAnswers(t *testing.T) {
	v := fakeVersions[len(fakeVersions)-1]
	code := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	neighbors := func(ctx context.Context, c *Client) error {
		_, err := c.Neighbors(ctx)
		return err
	}
	routes := func(ctx context.Context, c *Client) (err error) {
		for _, err = range c.RIB(ctx, Filter{}) {
			continue
		}
		return err
	}
	for name, tt := range map[string]struct {
		at     uint32
		change func(r *fake.Request)
		ask    func(context.Context, *Client) error
		want   string
	}{
		"a long neighbor": {msgShowNeighbor, func(r *fake.Request) { r.Answer(msgShowNeighbor, make([]byte, 1625)) }, neighbors,
			"CTL_SHOW_NEIGHBOR (13) has 1625 bytes; known are"},
		"a refusal":       {msgShowNeighbor, func(r *fake.Request) { r.Answer(msgResult, code(2)) }, neighbors, "permission denied"},
		"a strange one":   {msgShowNeighbor, func(r *fake.Request) { r.Answer(msgResult, code(math.MaxUint32)) }, neighbors, "result 4294967295"},
		"a short refusal": {msgShowNeighbor, func(r *fake.Request) { r.Answer(msgResult, nil) }, neighbors, "CTL_RESULT (12) has 0 bytes; known is 4"},
		"a route":         {msgShowNeighbor, func(r *fake.Request) { r.Answer(msgShowRIB, v.route(t)) }, neighbors, "unexpected answer CTL_SHOW_RIB (16)"},
		"no NUL": {msgShowNeighbor, func(r *fake.Request) {
			r.Answer(msgShowNeighbor, []byte(strings.Repeat("\xff", len(v.peer(t)))))
		}, neighbors, "no NUL in 64 bytes"},
		"endless sets": {msgShowSet, func(r *fake.Request) {
			for p := v.set(t); r.Answer(msgShowSet, p); {
			}
		}, func(ctx context.Context, c *Client) error {
			_, err := c.Sets(ctx)
			return err
		}, "more than 10000 answers"},
		"an end too soon": {msgShowRIB, func(r *fake.Request) {
			r.Answer(msgShowRIB, v.route(t))
			r.Conn.Close()
		}, routes, io.ErrUnexpectedEOF.Error()},
		"a short route":   {msgShowRIB, func(r *fake.Request) { r.Answer(msgShowRIB, v.route(t)[1:]) }, routes, "and its AS path"},
		"an empty route":  {msgShowRIB, func(r *fake.Request) { r.Answer(msgShowRIB, nil) }, routes, "a route of 0 bytes"},
		"a neighbor":      {msgShowRIB, func(r *fake.Request) { r.Answer(msgShowNeighbor, v.peer(t)) }, routes, "unexpected answer CTL_SHOW_NEIGHBOR"},
		"no such RIB":     {msgShowRIB, func(r *fake.Request) { r.Answer(msgResult, code(9)) }, routes, "no such RIB"},
		"a route refused": {msgShowRIB, func(r *fake.Request) { r.Answer(msgResult, code(1)) }, routes, "no such neighbor"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := fake.Context(t)
			var dialed atomic.Bool
			c, err := Dial(ctx, daemon(t, v, func(r *fake.Request, typ uint32) bool {
				if typ != tt.at || !dialed.Load() {
					return false
				}
				tt.change(r)
				return true
			}), nil)
			if err != nil {
				t.Fatal(err)
			}
			dialed.Store(true)
			err = tt.ask(ctx, c)
			if e := (*control.Error)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if _, err := c.Memory(ctx); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	}
}

// A daemon that hangs up, or falls silent until the client gives up, behind any
// byte of an answer.
func TestCutEverywhere(t *testing.T) {
	for _, v := range []fakeVersion{fakeVersions[0], fakeVersions[len(fakeVersions)-1]} {
		path := daemon(t, v, func(r *fake.Request, typ uint32) bool {
			if typ != msgShowRIB {
				return false
			}
			r.Answer(typ, append(v.route(t), 2, 1, 0, 0, 0xfd, 0xe9)) // one is enough here
			r.Answer(msgEnd, nil)
			return true
		})
		c, err := Dial(fake.Context(t), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, ask := range map[string]func(ctx context.Context) error{
			"dial": func(ctx context.Context) error {
				_, err := Dial(ctx, c.socket.Path, nil)
				return err
			},
			"neighbors": func(ctx context.Context) error {
				_, err := c.Neighbors(ctx)
				return err
			},
			"memory": func(ctx context.Context) error {
				_, err := c.Memory(ctx)
				return err
			},
			"sets": func(ctx context.Context) error {
				_, err := c.Sets(ctx)
				return err
			},
			"routes": func(ctx context.Context) (err error) {
				for _, err = range c.RIB(ctx, Filter{}) {
				}
				return err
			},
		} {
			t.Run(v.name+"/"+name, func(t *testing.T) {
				fake.CutEverywhere(t, path, func(ctx context.Context, path string) error {
					c.socket.Path = path
					return ask(ctx)
				})
			})
		}
	}
}

func TestDialFails(t *testing.T) {
	answer := func(typ uint32, n int) string {
		return fake.Daemon(t, nil, 0, func(r *fake.Request) {
			r.Answer(typ, make([]byte, n))
			r.Wait()
		})
	}
	for name, tt := range map[string]struct{ path, want string }{
		"unknown memory":   {answer(msgShowMemory, 272), "CTL_SHOW_RIB_MEM (22) has 272 bytes; known are 528, 400, 288 and 200"},
		"unknown neighbor": {answer(msgShowNeighbor, 1752), "CTL_SHOW_NEIGHBOR (13) has 1752 bytes; known are 1624, 2184, 2160, 2144 and 1744"},
		"a result":         {answer(msgResult, 4), "success"},
		"nonsense":         {answer(999, 4), "unexpected answer type 999"},
	} {
		if payload.Host() != payload.LP64 {
			t.Skip("sizes are those of LP64")
		}
		if _, err := Dial(fake.Context(t), tt.path, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(fake.Context(t), 10*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, fake.Daemon(t, nil, 0, func(r *fake.Request) { r.Wait() }), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := Dial(fake.Context(t), "x", &Config{Dialect: "x"}); err == nil || !strings.Contains(err.Error(), `unknown dialect "x"`) {
		t.Error(err)
	}
}

// A cancel and a loop that ends early leave nothing behind, wherever they come.
func TestRIBCancel(t *testing.T) {
	v := fakeVersions[1]
	c, err := Dial(fake.Context(t), daemon(t, v, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for stop := range 100 {
		ctx, cancel := context.WithCancel(fake.Context(t))
		n := 0
		for range c.RIB(ctx, Filter{}) {
			if n++; n == stop {
				cancel()
			}
		}
		cancel()
		n = 0
		for _, err := range c.RIB(fake.Context(t), Filter{}) {
			if n++; n == stop || err != nil {
				break
			}
		}
	}
}

func TestFilter(t *testing.T) {
	invalid, v6 := Invalid, netip.MustParseAddr("2001:db8::1")
	f := Filter{
		RIB: "mine", In: true, Family: IPv6, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Longer: true, Neighbor: v6, AS: 7, ASAt: Peer,
		Best: true, ROA: &invalid,
	}
	p, err := request88(&f)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := payload.LayoutOf[ctlShowRIBRequest88](payload.Host())
	var c ctlShowRIBRequest88
	if err := l.Decode(p, &c); err != nil {
		t.Fatal(err)
	}
	if c.RIB != "mine" || c.Flags != 0x10a200 || c.AID != 2 || c.Prefixlen != 24 || c.Prefix.AID != 1 || c.Prefix.Union[0] != 192 || c.AS.Type != 4 ||
		c.AS.ASMin != 7 || c.Neighbor.Addr.AID != 2 || netip.AddrFrom16([16]byte(c.Neighbor.Addr.Union[:16])) != v6 {
		t.Errorf("%+v", c)
	}
	old, modern := &versions[0].version, &versions[1].version
	for _, f := range []Filter{
		{In: true, Out: true}, {Description: "a", Group: "b"}, {Neighbor: v6, Group: "b"}, {Longer: true}, {RIB: "a\x00"},
	} {
		if err := f.check(modern); err == nil {
			t.Errorf("%+v is no error", f)
		}
	}
	if f := (Filter{Leaked: true}); f.check(old) == nil || f.check(modern) != nil {
		t.Errorf("%v, %v", f.check(old), f.check(modern))
	}
	cl, err := Dial(fake.Context(t), daemon(t, fakeVersions[1], nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Filter{{RIB: strings.Repeat("x", 64)}, {Longer: true}} {
		for _, err := range cl.RIB(fake.Context(t), f) {
			if err == nil {
				t.Errorf("%+v is no error", f)
			}
		}
	}
}

// FuzzDecode lets a daemon send anything as an answer.
func FuzzDecode(f *testing.F) {
	for _, v := range fakeVersions {
		f.Add(v.peer(f))
		f.Add(v.memory(f))
		f.Add(append(v.route(f), 2, 1, 0, 0, 0, 1))
		f.Add(v.set(f))
		f.Add(v.table(f))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 16000 {
			return
		}
		a, b := imsgtest.Pair(t, nil)
		ctx := fake.Context(t)
		if err := a.Send(ctx, imsg.Header{Type: 1}, nil, data); err != nil {
			t.Fatal(err)
		}
		m, err := b.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		var n Neighbor
		if neighborDecoder.Open()(m, &n) == nil {
			n.Name()
			_ = n.State.String()
		}
		var mem Memory
		memoryDecoder.Open()(m, &mem)
		for i := range setDecoders {
			var s Set
			setDecoders[i].Open()(m, &s)
			_ = s.Type.String()
		}
		var table Table
		tableDecoder.Open()(m, &table)
		for i := range versions {
			var r Route
			if versions[i].route()(m.Bytes(), &r) == nil {
				c := r.Clone()
				text, err := c.ASPath.AppendText([]byte("x"))
				if len(text) > 1+14*len(data) || err != nil && string(text) != "x" {
					t.Errorf("%d bytes of text from %d, %v", len(text), len(data), err)
				}
				_, _ = r.Prefix.String(), r.Family.String()
			}
		}
	})
}
