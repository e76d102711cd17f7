package bgpd

import (
	"math"
	"reflect"
	"testing"
	"time"

	"example.org/imsg/payload"
)

func TestASPath(t *testing.T) {
	for _, tt := range []struct {
		path ASPath
		want string
	}{
		{nil, ""},
		{ASPath{2, 2, 0, 0, 0xfd, 0xe8, 0, 1, 0, 0}, "65000 65536"},
		{ASPath{2, 1, 0, 0, 0, 1, 1, 2, 0, 0, 0, 2, 0, 0, 0, 3}, "1 { 2 3 }"},
		{ASPath{3, 1, 0, 0, 0, 1, 4, 1, 0xff, 0xff, 0xff, 0xff}, "( 1 ) [ 4294967295 ]"},
		{ASPath{9, 1, 0, 0, 0, 1}, "!9 1 !9"},
		{ASPath{2}, "invalid"},
		{ASPath{2, 0}, "invalid"},
		{ASPath{2, 255, 0, 0, 0, 1}, "invalid"},
		{ASPath{2, 1, 0, 0, 0, 1, 2, 1, 0}, "invalid"},
	} {
		if got := tt.path.String(); got != tt.want {
			t.Errorf("% x is %q, want %q", []byte(tt.path), got, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		typ               uint32
		current, previous string
	}{
		{16, "CTL_SHOW_RIB", "CTL_SHOW_RIB"}, {21, "CTL_SHOW_FLOWSPEC", "CTL_SHOW_RIB_MEM"}, {22, "CTL_SHOW_RIB_MEM", "CTL_SHOW_TERSE"},
		{28, "CTL_SHOW_RTR", "CTL_TERMINATE"}, {34, "NETWORK_FLUSH", "NETWORK_DONE"}, {35, "NETWORK_DONE", "FILTER_SET"},
		{38, "FLOWSPEC_REMOVE", "SOCKET_CONN_RTR"}, {41, "SOCKET_CONN", "RECONF_PEER"},
		{43, "SOCKET_CONN_RTR", "RECONF_LISTENER"}, {51, "RECONF_LISTENER", "RECONF_AS_SET"}, {52, "RECONF_CTRL", "RECONF_AS_SET_ITEMS"},
		{56, "RECONF_VPN_DONE", "RECONF_ROA_ITEM"}, {57, "RECONF_PREFIX_SET", ""}, {99, "XOFF", ""}, {100, "", ""}, {math.MaxUint32, "", ""},
	} {
		if a, b := TypeName(tt.typ), TypeNameLegacy(tt.typ); a != tt.current || b != tt.previous {
			t.Errorf("%d is %q, %q, want %q, %q", tt.typ, a, b, tt.current, tt.previous)
		}
	}
	for _, s := range []string{Family(200).String(), State(math.MaxUint32).String(), SetType(math.MaxUint32).String(), Origin(9).String(), Validity(3).String()} {
		if s == "" {
			t.Error("a value without a name")
		}
	}
	if payload.Host() == payload.LP64 {
		for typ, sizes := range map[uint32][]int{13: {1744, 2144, 2160, 2184, 1624}, 22: {200, 288, 400, 528}, 26: {104, 136}, 27: {168}} {
			for _, n := range sizes {
				if PayloadType(typ, n) == nil {
					t.Errorf("no struct of %d bytes for type %d", n, typ)
				}
			}
		}
	}
	if PayloadType(13, 1) != nil || PayloadType(16, 392) != nil {
		t.Error("a struct where there is none")
	}
}

func TestClock(t *testing.T) {
	now := clock{time.Unix(1000, 0), 100 * time.Second}
	if got := now.seconds(90); !got.Equal(time.Unix(990, 0)) {
		t.Error(got)
	}
	if got := now.microseconds(90_500_000); !got.Equal(time.Unix(990, 5e8)) {
		t.Error(got)
	}
	if got := now.ago(10); !got.Equal(time.Unix(990, 0)) {
		t.Error(got)
	}
	if !now.seconds(0).IsZero() || !now.microseconds(0).IsZero() {
		t.Error("0 is not never")
	}
	for _, n := range []int64{math.MaxInt64, math.MinInt64, -1} { // no panic
		now.seconds(n)
		now.microseconds(n)
		now.ago(n)
	}
}

// The sizes that C compilers lay the structs out with.
func TestSizes(t *testing.T) {
	sizes := func(abi payload.ABI) []int {
		return []int{
			size[ctlShowRIB77](t, abi), size[ctlShowRIBRequest77](t, abi), size[peer77](t, abi), size[rdeMemstats77](t, abi),
			size[ctlShowSet88](t, abi), size[ktable77](t, abi),
			size[ctlShowRIB88](t, abi), size[ctlShowRIBRequest88](t, abi), size[peer88](t, abi), size[rdeMemstats88](t, abi), size[ktable88](t, abi),
			size[ctlShowRIB89](t, abi), size[peer89](t, abi), size[ctlShowSet89](t, abi), size[rdeMemstats90](t, abi), size[peer91](t, abi),
			size[rdeMemstats91](t, abi), size[ctlPeer92](t, abi),
		}
	}
	for abi, want := range map[payload.ABI][]int{
		payload.LP64: {264, 616, 1744, 200, 168, 104, 392, 728, 2144, 288, 136, 392, 2160, 168, 400, 2184, 528, 1624},
		payload.I386: {260, 608, 1696, 200, 152, 76, 392, 720, 2108, 288, 108, 392, 2116, 152, 400, 2140, 528, 1620},
	} {
		if got := sizes(abi); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %v, want %v", abi, got, want)
		}
	}
}

func size[T any](t *testing.T, abi payload.ABI) int {
	l, err := payload.LayoutOf[T](abi)
	if err != nil {
		t.Fatal(err)
	}
	return l.Size()
}

// A route costs one allocation: its description.
func BenchmarkRoute(b *testing.B) {
	for _, v := range fakeVersions[:3] {
		b.Run(v.name, func(b *testing.B) {
			data := append(v.route(b), 2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xea)
			for i := range versions {
				if versions[i].name != v.name {
					continue
				}
				decode := versions[i].route()
				var r Route
				b.ReportAllocs()
				for b.Loop() {
					if err := decode(data, &r); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func TestRouteAllocations(t *testing.T) {
	for _, v := range fakeVersions {
		data := v.route(t)
		for i := range versions {
			if versions[i].name != v.name {
				continue
			}
			decode := versions[i].route()
			var r Route
			if n := testing.AllocsPerRun(100, func() {
				if err := decode(data, &r); err != nil {
					t.Fatal(err)
				}
			}); n > 1 {
				t.Errorf("%s: %v allocations a route, want 1 at most", v.name, n)
			}
		}
	}
}
