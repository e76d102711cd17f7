package bgpd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.org/imsg/payload"
)

// Flags say more about a route.
type Flags uint32

// The flags of a route.
const (
	Eligible  Flags = 1 << iota // "valid": may be chosen
	Best                        // is chosen
	Internal                    // by iBGP, or our own
	Announced                   // a network of the configuration
	Stale                       // of a neighbor that restarts
	ParseErr                    // its attributes have an error
	HasPathID                   // PathID is one
	Leaked                      // by the only-to-customer attribute
	ECMP                        // as good as the best one
	ASWide                      // of the best ones of its AS
	Filtered                    // by the input filter; 8.0 and later
)

// A Route is one path to a prefix in a RIB.
type Route struct {
	Prefix      netip.Prefix // not valid for flowspec and EVPN
	Family      Family
	RD          uint64 // route distinguisher of a VPN; else 0
	ExitNexthop netip.Addr
	TrueNexthop netip.Addr // what is used to reach it
	Neighbor    netip.Addr // that sent it; not valid for our own
	Description string     // of the neighbor; "LOCAL" for our own
	RouterID    netip.Addr // of the neighbor
	PathID      uint32
	LocalPref   uint32
	MED         uint32
	Weight      uint32
	Flags       Flags
	Origin      Origin
	ROA, ASPA   Validity // ASPA is there since 8.0
	DMetric     int      // why it is not better than the one before it
	LastChange  time.Time
	ASPath      ASPath
}

// Clone returns a copy that nothing else refers to.
func (r *Route) Clone() Route {
	c := *r
	c.ASPath = slices.Clone(r.ASPath)
	return c
}

// A Filter selects routes; the zero Filter selects all of the Loc-RIB.
type Filter struct {
	RIB    string // name of a RIB; "" is the Loc-RIB
	In     bool   // what the neighbors sent, before the filters: the Adj-RIB-In
	Out    bool   // what is sent to the neighbors: the Adj-RIB-Out
	Family Family // Unspecified: all

	// Prefix, if valid, selects the routes to it, and with Longer also those
	// to more specific prefixes, with Shorter those to less specific ones. A
	// whole address (/32, /128) selects the route that is used to reach it.
	Prefix          netip.Prefix
	Longer, Shorter bool

	// One of these selects the routes of one neighbor, or of a group.
	Neighbor           netip.Addr
	Description, Group string

	// AS, if not 0, must be in the path, at the place that ASAt tells.
	AS   uint32
	ASAt Place

	Best, ParseErr               bool
	Ineligible, Leaked, Filtered bool // 8.0 and later

	ROA *Validity
}

// A Place is one in an AS path.
type Place uint32

// The places of an AS in a path.
const (
	Anywhere Place = iota + 1
	Source         // the last
	Transit        // any but the last
	Peer           // the first
)

// Flags of a request.
const (
	reqLonger     = 0x200
	reqShorter    = 0x400
	reqIn         = 0x2000
	reqOut        = 0x4000
	reqBest       = 0x8000
	reqIneligible = 0x10000
	reqLeaked     = 0x20000
	reqParseErr   = 0x40000
	reqValid      = 0x80000
	reqInvalid    = 0x100000
	reqNotFound   = 0x200000
	reqFiltered   = 0x8000000
)

// flags returns the flags of the request.
func (f *Filter) flags() (flags uint32) {
	for _, b := range []struct {
		on   bool
		flag uint32
	}{
		{f.Longer, reqLonger}, {f.Shorter, reqShorter}, {f.In, reqIn}, {f.Out, reqOut}, {f.Best, reqBest}, {f.ParseErr, reqParseErr},
		{f.Ineligible, reqIneligible}, {f.Leaked, reqLeaked}, {f.Filtered, reqFiltered},
		{f.ROA != nil && *f.ROA == NotFound, reqNotFound}, {f.ROA != nil && *f.ROA == Invalid, reqInvalid}, {f.ROA != nil && *f.ROA == Valid, reqValid},
	} {
		if b.on {
			flags |= b.flag
		}
	}
	return flags
}

// name returns how the request names a neighbor, and whether that is a group.
func (f *Filter) name() (string, int32) {
	if f.Group != "" {
		return f.Group, 1
	}
	return f.Description, 0
}

// place returns where the AS must be.
func (f *Filter) place() uint32 {
	switch {
	case f.AS == 0:
		return 0
	case f.ASAt == 0:
		return uint32(Anywhere)
	}
	return uint32(f.ASAt)
}

// check finds what the daemon would not understand.
func (f *Filter) check(v *version) error {
	switch {
	case f.In && f.Out:
		return errors.New("filter: In and Out exclude each other")
	case f.Description != "" && f.Group != "" || f.Neighbor.IsValid() && (f.Description != "" || f.Group != ""):
		return errors.New("filter: Neighbor, Description and Group exclude each other")
	case (f.Longer || f.Shorter) && !f.Prefix.IsValid():
		return errors.New("filter: Longer and Shorter want a Prefix")
	case v.legacy && (f.Ineligible || f.Leaked || f.Filtered):
		return errors.New("filter: Ineligible, Leaked and Filtered need OpenBGPD 8.0")
	case strings.ContainsRune(f.RIB+f.Description+f.Group, 0):
		return errors.New("filter: a name with a NUL")
	}
	return nil
}

func request77(f *Filter) ([]byte, error) {
	c := ctlShowRIBRequest77{RIB: f.RIB, Flags: f.flags(), Prefixlen: uint8(max(f.Prefix.Bits(), 0)), AID: uint8(f.Family)}
	c.Neighbor.Addr.AID = uint8(union(f.Neighbor, c.Neighbor.Addr.Ba[:]))
	c.Neighbor.Descr, c.Neighbor.IsGroup = f.name()
	c.Prefix.AID = uint8(union(f.Prefix.Addr(), c.Prefix.Ba[:]))
	c.AS.Type, c.AS.ASMin, c.AS.ASMax = f.place(), f.AS, f.AS
	return laidOut(&c)
}

func request88(f *Filter) ([]byte, error) {
	c := ctlShowRIBRequest88{RIB: f.RIB, Flags: f.flags(), Prefixlen: uint8(max(f.Prefix.Bits(), 0)), AID: uint8(f.Family)}
	c.Neighbor.Addr.AID = uint8(union(f.Neighbor, c.Neighbor.Addr.Union[:]))
	c.Neighbor.Descr, c.Neighbor.IsGroup = f.name()
	c.Prefix.AID = uint8(union(f.Prefix.Addr(), c.Prefix.Union[:]))
	c.AS.Type, c.AS.ASMin, c.AS.ASMax = f.place(), f.AS, f.AS
	return laidOut(&c)
}

func laidOut[T any](v *T) ([]byte, error) {
	l, err := payload.LayoutOf[T](payload.Host())
	if err != nil {
		return nil, err
	}
	return l.Append(nil, v)
}

// RIB streams routes in the order of their prefixes. The Route is valid until
// the loop's body ends, and then used for the next: Clone keeps one. An error is
// the last thing the loop sees. A loop that ends early closes the connection,
// and the daemon stops to search.
func (c *Client) RIB(ctx context.Context, f Filter) iter.Seq2[*Route, error] {
	return func(yield func(*Route, error) bool) {
		typ := uint32(msgShowRIB)
		if f.Prefix.IsValid() {
			typ = msgShowPrefix
		}
		fail := func(err error) { yield(nil, c.socket.Fail(c.typeName(typ), err)) }
		if err := f.check(c.version); err != nil {
			fail(err)
			return
		}
		data, err := c.version.request(&f)
		if err != nil {
			fail(err)
			return
		}
		var r Route
		decode := c.version.route()
		for m, err := range c.socket.Ask(ctx, typ, data) {
			switch {
			case err != nil:
				fail(err)
				return
			case m.Type() == msgEnd:
				return
			case m.Type() == msgResult:
				fail(result(m))
				return
			case m.Type() != msgShowRIB:
				fail(c.socket.Unexpected(typ, m))
				return
			}
			if err := decode(m.Bytes(), &r); err != nil {
				fail(err)
				return
			}
			if !yield(&r, nil) {
				return
			}
		}
	}
}

// routeDecoder returns a function that makes decoders of routes: a struct C, which
// convert turns into a Route, and the path behind it.
func routeDecoder[C any](convert func(now clock, c *C, r *Route)) func() func([]byte, *Route) error {
	return func() func([]byte, *Route) error {
		l, err := payload.LayoutOf[C](payload.Host())
		c, now := new(C), readClock()
		return func(data []byte, r *Route) error {
			if err != nil {
				return err
			}
			if len(data) < l.Size() {
				return fmt.Errorf("a route of %d bytes, want %d and its AS path: %w", len(data), l.Size(), &payload.SizeError{
					Type: "ctl_show_rib", Len: len(data), Want: l.Size(), Tail: 1, ABI: payload.Host(),
				})
			}
			if err := l.Decode(data[:l.Size()], c); err != nil {
				return err
			}
			convert(now, c, r)
			r.ASPath = data[l.Size():]
			return nil
		}
	}
}

// prefix makes a prefix of an address; it is not valid if n is too large.
func prefix(a netip.Addr, n uint8) netip.Prefix { return netip.PrefixFrom(a, int(n)) }

var route77 = routeDecoder(func(now clock, c *ctlShowRIB77, r *Route) {
	f := Family(c.Prefix.AID)
	*r = Route{
		Prefix: prefix(address(f, c.Prefix.Ba[:]), c.Prefixlen), Family: f, RD: c.Prefix.RD,
		ExitNexthop: address(Family(c.ExitNexthop.AID), c.ExitNexthop.Ba[:]), TrueNexthop: address(Family(c.TrueNexthop.AID), c.TrueNexthop.Ba[:]),
		Neighbor: address(Family(c.RemoteAddr.AID), c.RemoteAddr.Ba[:]), Description: c.Descr, RouterID: routerID(c.RemoteID),
		PathID: c.PathID, LocalPref: c.LocalPref, MED: c.MED, Weight: c.Weight, Flags: Flags(c.Flags), Origin: Origin(c.Origin),
		ROA: Validity(c.ValidationState & 3), DMetric: int(c.Dmetric), LastChange: now.ago(c.Age),
	}
})

var route88 = routeDecoder(func(now clock, c *ctlShowRIB88, r *Route) {
	f := Family(c.Prefix.AID)
	*r = Route{
		Prefix: prefix(address(f, c.Prefix.Union[:]), c.Prefixlen), Family: f, RD: c.Prefix.RD,
		ExitNexthop: address(Family(c.ExitNexthop.AID), c.ExitNexthop.Union[:]), TrueNexthop: address(Family(c.TrueNexthop.AID), c.TrueNexthop.Union[:]),
		Neighbor: address(Family(c.RemoteAddr.AID), c.RemoteAddr.Union[:]), Description: c.Descr, RouterID: routerID(c.RemoteID),
		PathID: c.PathID, LocalPref: c.LocalPref, MED: c.MED, Weight: c.Weight, Flags: Flags(c.Flags), Origin: Origin(c.Origin),
		ROA: Validity(c.RoaValidationState & 3), ASPA: Validity(c.AspaValidationState & 3), DMetric: int(c.Dmetric), LastChange: now.ago(c.Age),
	}
})

var route89 = routeDecoder(func(now clock, c *ctlShowRIB89, r *Route) {
	f := Family(c.Prefix.AID)
	*r = Route{
		Prefix: prefix(address(f, c.Prefix.Union[:]), c.Prefixlen), Family: f, RD: c.Prefix.RD,
		ExitNexthop: address(Family(c.ExitNexthop.AID), c.ExitNexthop.Union[:]), TrueNexthop: address(Family(c.TrueNexthop.AID), c.TrueNexthop.Union[:]),
		Neighbor: address(Family(c.RemoteAddr.AID), c.RemoteAddr.Union[:]), Description: c.Descr, RouterID: routerID(c.RemoteID),
		PathID: c.PathID, LocalPref: c.LocalPref, MED: c.MED, Weight: c.Weight, Flags: Flags(c.Flags), Origin: Origin(c.Origin),
		ROA: Validity(c.RoaValidationState & 3), ASPA: Validity(c.AspaValidationState & 3), DMetric: int(c.Dmetric), LastChange: now.microseconds(c.Lastchange.Monotime),
	}
})
