package bgpd

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"example.org/imsg/proto/control"
)

// A Neighbor is a BGP speaker that is configured, or was cloned from a template.
type Neighbor struct {
	Addr        netip.Addr
	Template    netip.Prefix // instead of Addr, for a template
	Cloned      bool         // from a template
	Description string
	Group       string
	RemoteAS    uint32
	LocalAS     uint32
	EBGP        bool
	Distance    int // hops to it, for multihop
	Passive     bool
	Down        bool // by the operator
	TTLSecurity bool

	MaxPrefix, MaxOutPrefix               uint32 // 0: no limit
	MaxPrefixRestart, MaxOutPrefixRestart time.Duration
	ConfiguredHoldTime, MinHoldTime       time.Duration
	ShutdownReason, LastReason            string // of us, and of the neighbor
	LastErrorSent, LastErrorReceived      Notification

	State                           State
	LastChange, LastRead, LastWrite time.Time     // zero: never
	RouterID                        netip.Addr    // once Established
	HoldTime                        time.Duration // that was agreed on
	Local, Remote                   netip.AddrPort

	// What is configured, and in a session what both sides said and agreed on.
	Configured, Announced, Received, Negotiated Capabilities

	Out, In        Messages
	OutQ           uint32 // messages that wait to be sent
	PendingUpdates uint32
	PendingRemoves uint32

	// What waits in the route decision engine for it; since 9.1.
	QueuedMessages, QueuedBytes, QueuedRoutes uint64
}

// A Notification is the reason for the end of a session, as RFC 4271 numbers it;
// zero: none.
type Notification struct{ Code, Subcode uint8 }

// Messages count what one side has sent.
type Messages struct {
	Open, Notification, Update, Keepalive, RouteRefresh uint64

	Prefixes                                           uint32 // now
	Updates, Withdraws, EndOfRIB                       uint64 // prefixes
	RefreshRequest, RefreshBeginOfRIB, RefreshEndOfRIB uint64
}

// Total returns how many messages there were.
func (m *Messages) Total() uint64 {
	return m.Open + m.Notification + m.Update + m.Keepalive + m.RouteRefresh
}

// Capabilities are what one side offers.
type Capabilities struct {
	Families                       []Family
	AS4Byte, Refresh, Enhanced     bool
	ExtendedMessage                bool // since 9.0
	GracefulRestart                bool
	RestartTime                    time.Duration
	AddPathReceive, AddPathSend    []Family
	RestartFamilies, KeepsFamilies []Family // in a graceful restart
}

// Name returns the description, or the address if there is none.
func (n *Neighbor) Name() string {
	if n.Template.IsValid() {
		return cmp.Or(n.Description, n.Template.String())
	}
	return cmp.Or(n.Description, n.Addr.String())
}

var neighborDecoder = control.Decoder[Neighbor]{Program: program, Type: msgShowNeighbor, Name: TypeName(msgShowNeighbor), Variants: []control.Variant[Neighbor]{
	control.VariantOf(func(c *ctlPeer92, n *Neighbor) { fillNeighbor(c, n) }),
	control.VariantOf(func(c *peer91, n *Neighbor) { fillNeighbor(c, n) }),
	control.VariantOf(func(c *peer89, n *Neighbor) { fillNeighbor(c, n) }),
	control.VariantOf(func(c *peer88, n *Neighbor) { fillNeighbor(c, n) }),
	control.VariantOf(func(c *peer77, n *Neighbor) { fillNeighbor(c, n) }),
}}

// fillNeighbor sets n from a struct peer or ctl_peer.
func fillNeighbor(c any, n *Neighbor) {
	p, now := fieldsOf(c), readClock()
	conf, stats := p.sub("Conf"), p.sub("Stats")
	rde := stats // since 9.2 the route decision engine has its own
	if p.has("RDEStats") {
		rde = p.sub("RDEStats")
	}
	at := func(name string) time.Time {
		if v := stats.get(name + ".Monotime"); v.IsValid() {
			return now.microseconds(v.Int())
		}
		return now.seconds(stats.number(name))
	}
	seconds := func(f fields, name string) time.Duration { return control.Seconds(int64(f.unsigned(name))) }
	minutes := func(name string) time.Duration { return time.Duration(conf.unsigned(name)) * time.Minute }
	*n = Neighbor{
		Addr: conf.address("RemoteAddr"), Description: conf.text("Descr"), Group: conf.text("Group"),
		RemoteAS: uint32(conf.unsigned("RemoteAS")), LocalAS: uint32(conf.unsigned("LocalAS")),
		EBGP: conf.flag("Ebgp"), Distance: int(conf.unsigned("Distance")), Passive: conf.flag("Passive"), Down: conf.flag("Down"),
		TTLSecurity: conf.flag("Ttlsec"), Cloned: p.flag("Template"),
		MaxPrefix: uint32(conf.unsigned("MaxPrefix")), MaxOutPrefix: uint32(conf.unsigned("MaxOutPrefix")),
		MaxPrefixRestart: minutes("MaxPrefixRestart"), MaxOutPrefixRestart: minutes("MaxOutPrefixRestart"),
		ConfiguredHoldTime: seconds(conf, "Holdtime"), MinHoldTime: seconds(conf, "MinHoldtime"),
		ShutdownReason: conf.text("Reason"), LastReason: stats.text("LastReason"),
		LastErrorSent:     Notification{uint8(stats.unsigned("LastSentErrcode")), uint8(stats.unsigned("LastSentSuberr"))},
		LastErrorReceived: Notification{uint8(stats.unsigned("LastRcvdErrcode")), uint8(stats.unsigned("LastRcvdSuberr"))},
		State:             State(p.unsigned("State")), LastChange: at("LastUpdown"), LastRead: at("LastRead"), LastWrite: at("LastWrite"),
		Configured: capabilities(conf.sub("Capabilities")),
		OutQ:       uint32(p.unsigned("Stats.MsgQueueLen", "Wbuf.Queued")), PendingUpdates: uint32(rde.unsigned("PendingUpdate")),
		PendingRemoves: uint32(rde.unsigned("PendingWithdraw")), QueuedMessages: rde.unsigned("IbufqMsgCount"),
		QueuedBytes: rde.unsigned("IbufqPayloadSize"), QueuedRoutes: rde.unsigned("RIBEntryCount"),
	}
	n.Out, n.In = messages(stats, rde, "Sent"), messages(stats, rde, "Rcvd")
	n.Out.Prefixes, n.In.Prefixes = uint32(rde.unsigned("PrefixOutCnt")), uint32(rde.unsigned("PrefixCnt"))
	if conf.flag("Template") {
		n.Template = prefix(n.Addr, uint8(conf.unsigned("RemoteMasklen")))
		n.Addr = netip.Addr{}
	}
	if n.State >= OpenSent {
		n.HoldTime = seconds(p, "Holdtime")
		n.Local = netip.AddrPortFrom(p.address("Local"), uint16(p.unsigned("LocalPort")))
		n.Remote = netip.AddrPortFrom(p.address("Remote"), uint16(p.unsigned("RemotePort")))
		n.Announced, n.Received = capabilities(p.sub("Capa.Ann")), capabilities(p.sub("Capa.Peer"))
		n.Negotiated = capabilities(p.sub("Capa.Neg"))
	}
	if n.State == Established {
		id := uint32(p.unsigned("RemoteBGPID"))
		if _, old := c.(*peer77); old { // in network order
			id = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, id))
		}
		n.RouterID = routerID(id)
	}
}

// messages returns the counts of one direction, "Sent" or "Rcvd".
func messages(stats, rde fields, dir string) Messages {
	return Messages{
		Open: stats.unsigned("Msg" + dir + "Open"), Notification: stats.unsigned("Msg" + dir + "Notification"),
		Update: stats.unsigned("Msg" + dir + "Update"), Keepalive: stats.unsigned("Msg" + dir + "Keepalive"),
		RouteRefresh: stats.unsigned("Msg" + dir + "Rrefresh"),
		Updates:      rde.unsigned("Prefix" + dir + "Update"), Withdraws: rde.unsigned("Prefix" + dir + "Withdraw"),
		EndOfRIB:       rde.unsigned("Prefix" + dir + "EOR"),
		RefreshRequest: stats.unsigned("Refresh" + dir + "Req"), RefreshBeginOfRIB: stats.unsigned("Refresh" + dir + "Borr"),
		RefreshEndOfRIB: stats.unsigned("Refresh" + dir + "Eorr"),
	}
}

// capabilities returns a struct capabilities.
func capabilities(c fields) Capabilities {
	families := func(path string, mask int64) (all []Family) {
		for f := 1; c.has(path) && f < c.get(path).Len(); f++ {
			if n := c.element(path, f); mask == 0 && n != 0 || n&mask != 0 {
				all = append(all, Family(f))
			}
		}
		return all
	}
	return Capabilities{
		Families: families("Mp", 0), AS4Byte: c.flag("As4byte"), Refresh: c.flag("Refresh"), Enhanced: c.flag("EnhancedRr"),
		ExtendedMessage: c.flag("ExtMsg"), GracefulRestart: c.flag("Grestart.Restart"),
		RestartTime:    control.Seconds(int64(c.unsigned("Grestart.Timeout"))),
		AddPathReceive: families("AddPath", 1), AddPathSend: families("AddPath", 2),
		RestartFamilies: families("Grestart.Flags", 1), KeepsFamilies: families("Grestart.Flags", 4),
	}
}

// Neighbors asks for all neighbors, in the order of the daemon.
func (c *Client) Neighbors(ctx context.Context) (all []Neighbor, err error) {
	err = collect(ctx, c, msgShowNeighbor, msgShowNeighbor, neighborDecoder.Open(), func(n *Neighbor) bool {
		all = append(all, *n)
		return true
	})
	if e, ok := errors.AsType[*ResultError](err); ok && e.Code == ResultNoSuchNeighbor {
		return nil, nil // what 7.7 says if there are none
	}
	return all, err
}

// A Summary is a line of bgpctl show summary.
type Summary struct {
	Name              string // description or address
	RemoteAS          uint32
	Received, Sent    uint64 // messages
	OutQ              uint32
	LastChange        time.Time
	State             State
	Down              bool
	Prefixes          uint32 // received
	MaxPrefix         uint32
	PrefixesSent      uint32
	Template, Passive bool
}

// Summary returns the neighbor's line.
func (n *Neighbor) Summary() Summary {
	return Summary{
		n.Name(), n.RemoteAS, n.In.Total(), n.Out.Total(), n.OutQ, n.LastChange, n.State, n.Down, n.In.Prefixes, n.MaxPrefix, n.Out.Prefixes,
		n.Template.IsValid(), n.Passive,
	}
}

// Summary asks for all neighbors and returns a line for each.
func (c *Client) Summary(ctx context.Context) ([]Summary, error) {
	neighbors, err := c.Neighbors(ctx)
	var all []Summary
	for i := range neighbors {
		all = append(all, neighbors[i].Summary())
	}
	return all, err
}
