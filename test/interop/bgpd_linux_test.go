package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/proto/bgpd"
)

// bgpdPrograms are the versions of OpenBGPD to test with.
var bgpdPrograms = []struct {
	name, env, suite, version string
	dialect                   imsg.Dialect
}{
	{"legacy", "IMSG_BGPD_LEGACY", "bookworm", "7.7", imsg.Legacy},
	{"current", "IMSG_BGPD_CURRENT", "trixie", "8.8", imsg.Current},
	{"newest", "IMSG_BGPD_NEWEST", "forky", "9.2 or later", imsg.Current}, // 9.3
}

const bgpdConfig = `AS 65001
router-id 127.0.0.1
fib-update no
socket "/run/openbgpd/bgpd.sock"
socket "/run/openbgpd/bgpd.rsock" restricted
listen on 127.0.0.1 port 11790
roa-set {
	192.0.2.0/24 maxlen 24 source-as 65001
	203.0.113.0/24 source-as 65099
}
as-set "friends" { 65010 65011 }
prefix-set "home" { 192.0.2.0/24 2001:db8::/32 }
network 192.0.2.0/24
network 198.51.100.0/24 set { localpref 200 med 7 weight 9 community 65001:1 }
network 2001:db8::/32
group "others" {
	remote-as 65002
	neighbor 127.0.0.2 {
		descr "peer-a"
		passive
		holdtime 30
	}
	neighbor 127.0.0.3 {
		descr "peer-b"
		down "for now"
		max-prefix 100 restart 5
	}
}
neighbor 2001:db8::9 {
	remote-as 65001
	passive
}
allow from any
allow to any
`

// bgpdOther is the neighbor that answers.
const bgpdOther = `AS 65002
router-id 127.0.0.2
fib-update no
socket "/run/openbgpd/bgpd.sock"
listen on 127.0.0.2 port 11790
network 203.0.113.0/24 set { prepend-self 2 }
network 10.9.0.0/16
neighbor 127.0.0.1 {
	remote-as 65001
	local-address 127.0.0.2
	port 11790
}
allow from any
allow to any
`

func startBGPD(t testing.TB, env, suite, config string, beside int) *daemon {
	t.Helper()
	return startDaemon(t, env, suite, isolation{
		User: "_openbgpd", RunAt: "/run/openbgpd", Files: map[string]string{"etc/bgpd.conf": config},
		Argv: []string{"/usr/sbin/bgpd", "-d", "-f", "/etc/bgpd.conf"}, Beside: beside,
	}, "bgpd.sock")
}

// bgpctl returns what bgpctl prints as JSON.
func bgpctl(t testing.TB, d *daemon, args ...string) (v map[string]any) {
	t.Helper()
	out := d.control(append([]string{"/usr/sbin/bgpctl", "-s", "/run/openbgpd/bgpd.sock", "-j"}, args...)...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("bgpctl %v: %v: %s", args, err, out)
	}
	return v
}

// bgpdDaemons calls test with a daemon of each version that has a session with
// another one.
func bgpdDaemons(t *testing.T, test func(t *testing.T, d *daemon, c *bgpd.Client)) {
	for _, p := range bgpdPrograms {
		t.Run(p.name, func(t *testing.T) {
			d := startBGPD(t, p.env, p.suite, bgpdConfig, 0)
			c := dialBGPD(t, d, "bgpd.sock") // now it listens
			other := startBGPD(t, p.env, p.suite, bgpdOther, d.cmd.Process.Pid)
			dialBGPD(t, other, "bgpd.sock")
			other.control("/usr/sbin/bgpctl", "-s", "/run/openbgpd/bgpd.sock", "neighbor", "127.0.0.1", "up") // 8.8 waits for 5 s
			if c.Version() != p.version || c.Dialect() != p.dialect {
				t.Errorf("Dial has found %s, %v, want %s, %v", c.Version(), c.Dialect(), p.version, p.dialect)
			}
			waitFor(t, d, "a session and its routes", func() bool {
				neighbors, err := c.Neighbors(d.ctx)
				if err != nil || len(neighbors) != 3 {
					return false
				}
				n := neighbors[0]
				routes := 0
				for _, err := range c.RIB(d.ctx, bgpd.Filter{}) {
					if err != nil {
						t.Fatal(err)
					}
					routes++
				}
				return n.State == bgpd.Established && n.In.Prefixes == 2 && n.In.EndOfRIB == 1 && n.Out.EndOfRIB == 1 && routes == 5
			})
			test(t, d, c)
		})
	}
}

// dialBGPD waits until the daemon has its configuration: before, it knows no
// neighbors, and its version is in doubt.
func dialBGPD(t *testing.T, d *daemon, socket string) (c *bgpd.Client) {
	t.Helper()
	waitFor(t, d, "neighbors", func() bool {
		var err error
		if c, err = bgpd.Dial(d.ctx, d.socket(socket), nil); err != nil {
			t.Fatal(err)
		}
		neighbors, err := c.Neighbors(d.ctx)
		return err == nil && len(neighbors) > 0
	})
	return c
}

// Asking a daemon while it reads its configuration does it no harm: 9.3 ends
// with a segmentation fault when CTL_SHOW_TERSE finds a new neighbor.
func TestBGPDConfiguring(t *testing.T) {
	for _, p := range bgpdPrograms {
		t.Run(p.name, func(t *testing.T) {
			d := startBGPD(t, p.env, p.suite, bgpdConfig, 0)
			var asking sync.WaitGroup
			for range 4 {
				asking.Go(func() {
					for configured := false; !configured; {
						c, err := bgpd.Dial(d.ctx, d.socket("bgpd.sock"), nil)
						if err != nil {
							t.Error(err)
							return
						}
						neighbors, err := c.Neighbors(d.ctx)
						configured = err == nil && len(neighbors) > 0 // the version was in doubt before
					}
				})
			}
			asking.Wait()
			dialBGPD(t, d, "bgpd.sock")
		})
	}
}

// waitFor asks again and again until the answer is right.
func waitFor(t *testing.T, d *daemon, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-d.ctx.Done():
			t.Fatalf("no %s: %s", what, &d.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type object = map[string]any

// sameTwice returns what get returns twice, once before and once after
// between is called: what it does then happens in a moment without a change.
func sameTwice[T any](t *testing.T, d *daemon, get func() T, between func()) T {
	t.Helper()
	for {
		before := get()
		between()
		if after := get(); reflect.DeepEqual(before, after) {
			return before
		}
		if d.ctx.Err() != nil {
			t.Fatal("the daemon does not come to rest")
		}
	}
}

// asJSON brings numbers into the form in which JSON has them.
func asJSON(t *testing.T, v any) (w any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	return w
}

// compare fails if the two differ, and says where.
func compare(t *testing.T, got, want any) {
	t.Helper()
	differ(t, "", asJSON(t, got), want)
}

func differ(t *testing.T, path string, got, want any) {
	t.Helper()
	g, ok1 := got.(object)
	w, ok2 := want.(object)
	if !ok1 || !ok2 {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the client knows %v, bgpctl prints %v", path, got, want)
		}
		return
	}
	for key := range w {
		differ(t, path+"."+key, g[key], w[key])
	}
	for key := range g {
		if _, ok := w[key]; !ok {
			t.Errorf("%s.%s: the client knows %v, bgpctl prints nothing", path, key, g[key])
		}
	}
}

// ago checks that "KEY_sec" of bgpctl's is the age of a time between a moment
// before and one after bgpctl ran, and takes it out, with KEY.
func ago(t *testing.T, v object, key string, when, before, after time.Time) {
	t.Helper()
	sec, ok := v[key+"_sec"].(float64)
	text := v[key]
	delete(v, key)
	delete(v, key+"_sec")
	const slack = 2 * time.Second // both sides cut off parts of a second
	if when.IsZero() != (text == "Never") {
		t.Errorf("%s: bgpctl says %v, %v; the client %v", key, text, sec, when)
	} else if !when.IsZero() && (!ok || sec < (before.Sub(when)-slack).Seconds() || sec > (after.Sub(when)+slack).Seconds()) {
		t.Errorf("%s: bgpctl says %v s, the client %v", key, sec, before.Sub(when))
	}
}

// Every field of a neighbor that bgpctl prints.
func TestBGPDNeighbors(t *testing.T) {
	bgpdDaemons(t, func(t *testing.T, d *daemon, c *bgpd.Client) {
		var want object
		var before, after time.Time
		untimed := func(all []bgpd.Neighbor) []bgpd.Neighbor {
			for i := range all {
				all[i].LastChange, all[i].LastRead, all[i].LastWrite = time.Time{}, time.Time{}, time.Time{}
			}
			return all
		}
		var timed []bgpd.Neighbor
		sameTwice(t, d, func() []bgpd.Neighbor {
			all, err := c.Neighbors(d.ctx)
			if err != nil {
				t.Fatal(err)
			}
			timed = append([]bgpd.Neighbor(nil), all...)
			return untimed(all)
		}, func() {
			before = time.Now()
			want = bgpctl(t, d, "show", "neighbor")
			after = time.Now()
		})
		printed := want["neighbors"].([]any)
		if len(printed) != len(timed) {
			t.Fatalf("%d neighbors, bgpctl prints %d", len(timed), len(printed))
		}
		for i, n := range timed {
			v := printed[i].(object)
			ago(t, v, "last_updown", n.LastChange, before, after)
			stats := v["stats"].(object)
			ago(t, stats, "last_read", n.LastRead, before, after)
			ago(t, stats, "last_write", n.LastWrite, before, after)
			delete(v["config"].(object), "announce_capabilities") // of 7.7
			compare(t, neighborJSON(&n, c.Version()), v)
		}
		if n := timed[0]; n.State != bgpd.Established || n.In.Update == 0 || !n.Negotiated.AS4Byte || n.Remote.Addr() != netip.MustParseAddr("127.0.0.2") {
			t.Errorf("%+v", n)
		}
	})
}

// neighborJSON is a neighbor as bgpctl prints it, without times.
func neighborJSON(n *bgpd.Neighbor, version string) object {
	v := object{"remote_as": fmt.Sprint(n.RemoteAS), "remote_addr": n.Addr.String(), "state": n.State.String()}
	text := func(to object, key, s string) {
		if s != "" {
			to[key] = s
		}
	}
	number := func(to object, key string, n uint64) {
		if n != 0 {
			to[key] = n
		}
	}
	text(v, "description", n.Description)
	text(v, "group", n.Group)
	text(v, "my_shutdown_reason", n.ShutdownReason)
	text(v, "last_shutdown_reason", n.LastReason)
	config := object{
		"template": false, "cloned": n.Cloned, "passive": n.Passive, "down": n.Down, "multihop": n.EBGP && n.Distance > 1,
		"ttl_security": n.TTLSecurity, "holdtime": n.ConfiguredHoldTime / time.Second, "min_holdtime": n.MinHoldTime / time.Second,
	}
	number(config, "max_prefix", uint64(n.MaxPrefix))
	number(config, "max_prefix_restart", uint64(n.MaxPrefixRestart/time.Minute))
	capabilitiesJSON(config, &n.Configured, version)
	v["config"] = config
	messages := func(m *bgpd.Messages) object {
		return object{
			"open": m.Open, "notifications": m.Notification, "updates": m.Update, "keepalives": m.Keepalive, "route_refresh": m.RouteRefresh,
			"total": m.Total(),
		}
	}
	update := func(m *bgpd.Messages) object {
		return object{"updates": m.Updates, "withdraws": m.Withdraws, "eor": m.EndOfRIB}
	}
	refresh := func(m *bgpd.Messages) object {
		return object{"request": m.RefreshRequest, "borr": m.RefreshBeginOfRIB, "eorr": m.RefreshEndOfRIB}
	}
	stats := object{
		"prefixes": object{"sent": n.Out.Prefixes, "received": n.In.Prefixes},
		"message":  object{"sent": messages(&n.Out), "received": messages(&n.In)},
		"update": object{
			"sent": update(&n.Out), "received": update(&n.In), "pending": object{"updates": n.PendingUpdates, "withdraws": n.PendingRemoves},
		},
		"route-refresh": object{"sent": refresh(&n.Out), "received": refresh(&n.In)},
	}
	if version >= "9.1" {
		stats["queue"] = object{
			"count": object{"ibuf_queue": n.QueuedMessages, "rib_entry": n.QueuedRoutes}, "size": object{"ibuf_queue": n.QueuedBytes},
		}
	}
	v["stats"] = stats
	if n.State == bgpd.Established {
		v["bgpid"] = n.RouterID.String()
		local := object{"address": n.Local.Addr().String(), "port": n.Local.Port()}
		capabilitiesJSON(local, &n.Announced, version)
		remote := object{"address": n.Remote.Addr().String(), "port": n.Remote.Port()}
		capabilitiesJSON(remote, &n.Received, version)
		session := object{"holdtime": n.HoldTime / time.Second, "keepalive": n.HoldTime / 3 / time.Second, "local": local, "remote": remote}
		capabilitiesJSON(session, &n.Negotiated, version)
		v["session"] = session
	}
	return v
}

func capabilitiesJSON(to object, c *bgpd.Capabilities, version string) {
	v := object{"as4byte": c.AS4Byte, "refresh": c.Refresh, "enhanced_refresh": c.Enhanced}
	if version != "7.7" {
		v["extended_message"] = c.ExtendedMessage
	}
	if len(c.Families) > 0 {
		v["multiprotocol"] = names(c.Families)
	}
	if c.GracefulRestart {
		r := object{"eor": true, "restart": false}
		if c.RestartTime != 0 {
			r["timeout"] = c.RestartTime / time.Second
		}
		v["graceful_restart"] = r
	}
	to["capabilities"] = v
}

func names(families []bgpd.Family) (s []string) {
	for _, f := range families {
		s = append(s, f.String())
	}
	return s
}

// Every field of a route that bgpctl prints, for several filters.
func TestBGPDRoutes(t *testing.T) {
	notFound, valid := bgpd.NotFound, bgpd.Valid
	bgpdDaemons(t, func(t *testing.T, d *daemon, c *bgpd.Client) {
		for _, tt := range []struct {
			args   string
			filter bgpd.Filter
			routes int
		}{
			{"", bgpd.Filter{}, 5},
			{"selected", bgpd.Filter{Best: true}, -1},
			{"ipv6", bgpd.Filter{Family: bgpd.IPv6}, 1},
			{"in neighbor 127.0.0.2", bgpd.Filter{In: true, Neighbor: netip.MustParseAddr("127.0.0.2")}, 2},
			{"out neighbor peer-a", bgpd.Filter{Out: true, Description: "peer-a"}, 2},
			{"neighbor group others", bgpd.Filter{Group: "others"}, 2},
			{"table Adj-RIB-In", bgpd.Filter{RIB: "Adj-RIB-In"}, -1},
			{"198.51.100.0/24", bgpd.Filter{Prefix: netip.MustParsePrefix("198.51.100.0/24")}, 1},
			{"198.51.100.7", bgpd.Filter{Prefix: netip.MustParsePrefix("198.51.100.7/32")}, 1},
			{"10.0.0.0/8 or-longer", bgpd.Filter{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Longer: true}, 1},
			{"2001:db8:2::/48 or-shorter", bgpd.Filter{Prefix: netip.MustParsePrefix("2001:db8:2::/48"), Shorter: true}, 1},
			{"source-as 65002", bgpd.Filter{AS: 65002, ASAt: bgpd.Source}, 2},
			{"as 65002", bgpd.Filter{AS: 65002}, 2},
			{"peer-as 65099", bgpd.Filter{AS: 65099, ASAt: bgpd.Peer}, 0},
			{"ovs not-found", bgpd.Filter{ROA: &notFound}, -1},
			{"ovs valid", bgpd.Filter{ROA: &valid}, -1},
			{"error", bgpd.Filter{ParseErr: true}, 0},
		} {
			t.Run(tt.args, func(t *testing.T) {
				before := time.Now()
				want, _ := bgpctl(t, d, append([]string{"show", "rib"}, strings.Fields(tt.args)...)...)["rib"].([]any)
				after := time.Now()
				if tt.routes >= 0 && len(want) != tt.routes {
					t.Errorf("bgpctl prints %d routes, the test expects %d", len(want), tt.routes)
				}
				i := 0
				for r, err := range c.RIB(d.ctx, tt.filter) {
					if err != nil {
						t.Fatal(err)
					}
					if i >= len(want) {
						t.Fatalf("a route that bgpctl does not print: %+v", r)
					}
					v := want[i].(object)
					ago(t, v, "last_update", r.LastChange, before, after)
					compare(t, routeJSON(r, c.Version()), v)
					i++
				}
				if i < len(want) {
					t.Errorf("%d routes, bgpctl prints %d", i, len(want))
				}
			})
		}
		for _, err := range c.RIB(d.ctx, bgpd.Filter{RIB: "no such one"}) {
			if e, ok := errors.AsType[*bgpd.ResultError](err); !ok || e.Code != bgpd.ResultNoSuchRIB {
				t.Errorf("routes of a RIB that is not there: %v", err)
			}
		}
		for _, err := range c.RIB(d.ctx, bgpd.Filter{Description: "nobody"}) {
			if e, ok := errors.AsType[*bgpd.ResultError](err); c.Version() != "7.7" && (!ok || e.Code != bgpd.ResultNoSuchNeighbor) {
				t.Errorf("routes of a neighbor who is not there: %v", err)
			}
		}
	})
}

// addrText returns what bgpctl prints for an address.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "???"
	}
	return a.String()
}

// routeJSON is a route as bgpctl prints it, without its time.
func routeJSON(r *bgpd.Route, version string) object {
	from := object{"description": r.Description, "remote_addr": addrText(r.Neighbor), "bgp_id": r.RouterID.String()}
	v := object{
		"prefix": r.Prefix.String(), "aspath": r.ASPath.String(), "exit_nexthop": addrText(r.ExitNexthop), "true_nexthop": addrText(r.TrueNexthop),
		"neighbor": from, "valid": r.Flags&bgpd.Eligible != 0, "source": "external", "ovs": r.ROA.String(), "origin": r.Origin.String(),
		"metric": r.MED, "localpref": r.LocalPref, "weight": r.Weight, "dmetric": r.DMetric,
	}
	for flag, name := range map[bgpd.Flags]string{
		bgpd.Best: "best", bgpd.ECMP: "ecmp", bgpd.ASWide: "as-wide", bgpd.Stale: "stale", bgpd.Announced: "announced", bgpd.Filtered: "filtered",
	} {
		if r.Flags&flag != 0 {
			v[name] = true
		}
	}
	if r.Flags&bgpd.Internal != 0 {
		v["source"] = "internal"
	}
	if r.Flags&bgpd.HasPathID != 0 {
		v["path_id"] = r.PathID
	}
	if version != "7.7" {
		v["avs"] = strings.Replace(r.ASPA.String(), "not-found", "unknown", 1)
	}
	return v
}

func TestBGPDRest(t *testing.T) {
	bgpdDaemons(t, func(t *testing.T, d *daemon, c *bgpd.Client) {
		t.Run("sets", func(t *testing.T) {
			before := time.Now()
			want := bgpctl(t, d, "show", "sets")["sets"].([]any)
			after := time.Now()
			sets, err := c.Sets(d.ctx)
			if err != nil || len(sets) != len(want) {
				t.Fatalf("%+v, %v; bgpctl prints %v", sets, err, want)
			}
			for i, s := range sets {
				v := want[i].(object)
				ago(t, v, "last_change", s.LastChange, before, after)
				got := object{"name": s.Name, "type": s.Type.String()}
				if s.Type.String() == "ASNUM" || s.Type.String() == "ASPA" {
					got["num_ASnum"] = s.AS
				} else {
					got["num_IPv4"], got["num_IPv6"] = s.IPv4, s.IPv6
				}
				compare(t, got, v)
			}
		})
		t.Run("tables", func(t *testing.T) {
			want := bgpctl(t, d, "show", "tables")["fibtables"].([]any)
			tables, err := c.Tables(d.ctx)
			if err != nil || len(tables) != len(want) {
				t.Fatalf("%+v, %v; bgpctl prints %v", tables, err, want)
			}
			for i, x := range tables {
				compare(t, object{"rtableid": x.ID, "description": x.Description, "coupled": x.Coupled, "admin_change": x.AdminChange}, want[i])
			}
		})
		t.Run("memory", func(t *testing.T) {
			var want object
			m := sameTwice(t, d, func() bgpd.Memory {
				m, err := c.Memory(d.ctx)
				if err != nil {
					t.Fatal(err)
				}
				m.Loops, m.Times = 0, nil // they count our questions
				return m
			}, func() { want = bgpctl(t, d, "show", "rib", "memory") })
			printed := want["memory"].(object)
			for _, key := range []string{"filters", "sets", "queue"} {
				if part, ok := want[key].(object); ok {
					maps.Copy(printed, part)
				}
			}
			for _, e := range append(append(m.Entries, m.Sets...), m.Queues...) {
				name := strings.NewReplacer("bitmap", "bitmaps", "hashtable", "hashtables").Replace(e.Name)
				v, ok := printed[name].(object)
				if !ok {
					if e.Count != 0 && !strings.HasPrefix(e.Name, "filter") && e.Name != "aspa_set" {
						t.Errorf("bgpctl prints no %s: %+v", name, e)
					}
					continue
				}
				if v["count"] != float64(e.Count) || e.Size != bgpd.NotTold && v["size"] != float64(e.Size) ||
					e.References != bgpd.NotTold && v["references"] != float64(e.References) {
					t.Errorf("%+v, bgpctl prints %v", e, v)
				}
			}
			if len(m.Entries) < 8 {
				t.Errorf("%+v", m)
			}
		})
		t.Run("restricted", func(t *testing.T) {
			c := dialBGPD(t, d, "bgpd.rsock")
			if _, err := c.Summary(d.ctx); err != nil {
				t.Error(err)
			}
			_, err := c.Tables(d.ctx)
			if e, ok := errors.AsType[*bgpd.ResultError](err); !ok || e.Code != bgpd.ResultDenied {
				t.Errorf("tables on a restricted socket: %v", err)
			}
		})
	})
}

// manyNetworks is a configuration with which bgpd has 3003 routes.
func manyNetworks() string {
	var config strings.Builder
	config.WriteString(bgpdConfig)
	for i := range 3000 {
		fmt.Fprintf(&config, "network 10.%d.%d.0/24\n", i/250, i%250)
	}
	return config.String()
}

// 3003 routes, which come in many reads whose ends cut them; a loop that ends
// early and a cancel leave a daemon that answers the next request.
func TestBGPDManyRoutes(t *testing.T) {
	for _, p := range bgpdPrograms {
		t.Run(p.name, func(t *testing.T) {
			d := startBGPD(t, p.env, p.suite, manyNetworks(), 0)
			c := dialBGPD(t, d, "bgpd.sock")
			count := func(ctx context.Context, stop int) (n int) {
				for r, err := range c.RIB(ctx, bgpd.Filter{}) {
					if err != nil {
						if ctx.Err() == nil {
							t.Fatal(err)
						}
						return n
					}
					if n++; n == stop || !r.Prefix.IsValid() || r.Description != "LOCAL" {
						return n
					}
				}
				return n
			}
			waitFor(t, d, "3003 routes", func() bool { return count(d.ctx, 0) == 3003 })
			for _, stop := range []int{1, 64, 100, 3002} {
				if n := count(d.ctx, stop); n != stop {
					t.Errorf("%d routes, want %d", n, stop)
				}
				ctx, cancel := context.WithCancel(d.ctx)
				n := 0
				for range c.RIB(ctx, bgpd.Filter{}) {
					if n++; n == stop {
						cancel()
					}
				}
				cancel()
				if n := count(d.ctx, 0); n != 3003 {
					t.Errorf("%d routes after a cancel", n)
				}
			}
			want := bgpctl(t, d, "show", "rib")["rib"].([]any)
			i := 0
			perRoute := testing.AllocsPerRun(3, func() {
				for range c.RIB(d.ctx, bgpd.Filter{}) {
				}
			}) / 3003
			t.Logf("%.2f allocations a route", perRoute)
			if perRoute > 1.2 { // the connection has some
				t.Errorf("%.2f allocations a route", perRoute)
			}
			for r := range c.RIB(d.ctx, bgpd.Filter{}) {
				v := want[i].(object)
				delete(v, "last_update")
				delete(v, "last_update_sec")
				compare(t, routeJSON(r, c.Version()), v)
				i++
			}
		})
	}
}
