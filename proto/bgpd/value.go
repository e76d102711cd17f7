package bgpd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"example.org/imsg/proto/control"
)

// A Family is a kind of addresses that routes are for.
type Family uint8

// The families, as bgpd numbers them.
const (
	Unspecified Family = iota
	IPv4
	IPv6
	VPNv4
	VPNv6
	FlowspecIPv4
	FlowspecIPv6
	EVPN
)

var familyNames = [...]string{
	"unspec", "IPv4 unicast", "IPv6 unicast", "IPv4 vpn", "IPv6 vpn", "IPv4 flowspec", "IPv6 flowspec", "EVPN",
}

// String returns the family's name, such as "IPv4 unicast".
func (f Family) String() string {
	if int(f) < len(familyNames) {
		return familyNames[f]
	}
	return fmt.Sprintf("family %d", uint8(f))
}

// address makes an address of a C union, whose member the family tells. It is
// not valid for a family that has none. A zone is left out.
func address(f Family, union []byte) netip.Addr {
	switch f {
	case IPv4, VPNv4:
		return netip.AddrFrom4([4]byte(union[:4]))
	case IPv6, VPNv6:
		return netip.AddrFrom16([16]byte(union[:16]))
	}
	return netip.Addr{}
}

// union is the reverse.
func union(a netip.Addr, to []byte) Family {
	switch {
	case a.Is4():
		copy(to, a.AsSlice())
		return IPv4
	case a.IsValid():
		copy(to, a.AsSlice())
		return IPv6
	}
	return Unspecified
}

// routerID makes an address of a BGP ID.
func routerID(id uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], id)
	return netip.AddrFrom4(a)
}

// A State is that of a session.
type State uint32

// The states of a session.
const (
	Idle State = iota + 1
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

var stateNames = [...]string{"None", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"}

// String returns the state's name, such as "Established".
func (s State) String() string {
	if int64(s) < int64(len(stateNames)) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// MarshalText returns the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Validity is what a check of a route against RPKI data says.
type Validity uint8

// The results of a check.
const (
	NotFound Validity = iota // no data about it; "unknown" for ASPA
	Invalid
	Valid
)

// String returns "not-found", "invalid" or "valid".
func (v Validity) String() string {
	switch v {
	case Invalid:
		return "invalid"
	case Valid:
		return "valid"
	}
	return "not-found"
}

// An Origin tells where a route entered BGP.
type Origin uint8

// String returns "IGP", "EGP" or "incomplete".
func (o Origin) String() string {
	switch o {
	case 0:
		return "IGP"
	case 1:
		return "EGP"
	}
	return "incomplete"
}

// An ASPath is the path of a route in the form of RFC 4271 with AS numbers of
// four bytes.
type ASPath []byte

// AppendText appends the path as bgpctl prints it: numbers with a space between
// them, sets in braces. A path that is cut off or has an empty segment is an
// error; text is then returned as it was.
func (p ASPath) AppendText(text []byte) ([]byte, error) {
	begin := len(text)
	for len(p) > 0 {
		if len(p) < 2 || p[1] == 0 || len(p)-2 < 4*int(p[1]) {
			return text[:begin], fmt.Errorf("AS path with %d bytes that are no segment", len(p))
		}
		if len(text) > begin {
			text = append(text, ' ')
		}
		first, last := segment(p[0])
		text = append(text, first...)
		for i := range int(p[1]) {
			if i > 0 {
				text = append(text, ' ')
			}
			text = strconv.AppendUint(text, uint64(binary.BigEndian.Uint32(p[2+4*i:])), 10)
		}
		text = append(text, last...)
		p = p[2+4*int(p[1]):]
	}
	return text, nil
}

// segment returns what stands around a segment of a path.
func segment(typ byte) (first, last string) {
	switch typ {
	case 1:
		return "{ ", " }"
	case 2:
		return "", ""
	case 3:
		return "( ", " )"
	case 4:
		return "[ ", " ]"
	}
	return fmt.Sprintf("!%d ", typ), fmt.Sprintf(" !%d", typ)
}

// String returns the path as AppendText does, and "invalid" instead of an error.
func (p ASPath) String() string {
	text, err := p.AppendText(nil)
	if err != nil {
		return "invalid"
	}
	return string(text)
}

// A clock turns a daemon's times into those of a calendar. It is read once for
// an answer.
type clock struct {
	wall      time.Time
	monotonic time.Duration
}

func readClock() clock { return clock{time.Now(), control.Monotonic()} }

// seconds returns the time at which the monotonic clock showed t seconds; the
// zero time for 0, which means never.
func (c clock) seconds(t int64) time.Time { return c.at(t, control.Seconds(t)) }

// microseconds is seconds for a struct monotime.
func (c clock) microseconds(t int64) time.Time {
	const second = int64(time.Second / time.Microsecond)
	if d := control.Seconds(t / second); d.Abs() < time.Hour<<20 {
		return c.at(t, d+time.Duration(t%second)*time.Microsecond)
	}
	return c.at(t, control.Seconds(t/second))
}

func (c clock) at(t int64, d time.Duration) time.Time {
	if t == 0 || c.monotonic == 0 {
		return time.Time{}
	}
	return c.wall.Add(d).Add(-c.monotonic)
}

// ago returns the time t seconds ago.
func (c clock) ago(t int64) time.Time { return c.wall.Add(-control.Seconds(t)) }
