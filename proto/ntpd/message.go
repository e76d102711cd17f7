package ntpd

import (
	"math"
	"reflect"
	"strings"
	"time"

	"example.org/imsg/proto/control"
)

// Types of messages, as in ntpd.h; those before are between ntpd's processes.
const (
	msgStatus     = 10
	msgPeers      = 11
	msgPeersEnd   = 12
	msgSensors    = 13
	msgSensorsEnd = 14
	msgAll        = 15
	msgAllEnd     = 16
)

var typeNames = [...]string{
	"NONE", "ADJTIME", "ADJFREQ", "SETTIME", "HOST_DNS", "CONSTRAINT_DNS", "CONSTRAINT_QUERY", "CONSTRAINT_RESULT",
	"CONSTRAINT_CLOSE", "CONSTRAINT_KILL", "CTL_SHOW_STATUS", "CTL_SHOW_PEERS", "CTL_SHOW_PEERS_END", "CTL_SHOW_SENSORS",
	"CTL_SHOW_SENSORS_END", "CTL_SHOW_ALL", "CTL_SHOW_ALL_END", "SYNCED", "UNSYNCED", "PROBE_ROOT",
}

// TypeName returns the name of a message's type without IMSG_, for example
// "CTL_SHOW_STATUS", or "" if the type is unknown.
func TypeName(typ uint32) string {
	if typ < uint32(len(typeNames)) {
		return typeNames[typ]
	}
	return ""
}

// PayloadType returns the struct type, for package payload, of a message's
// payload of size bytes, or nil if it has none or the size is unknown.
func PayloadType(typ uint32, size int) reflect.Type {
	switch typ {
	case msgStatus:
		return statusDecoder.PayloadType(size)
	case msgPeers:
		return peerDecoder.PayloadType(size)
	case msgSensors:
		return sensorDecoder.PayloadType(size)
	}
	return nil
}

// A Status is what is known about the clock.
type Status struct {
	Peers, ValidPeers     int
	Sensors, ValidSensors int
	Synced                bool
	Stratum               int
	ClockOffset           time.Duration // 0 while synced

	// Constraints says that times of HTTPS servers are to bound those of the
	// peers. ConstraintMedian is their median, 0 if none is known, at
	// ConstraintLast on the daemon's monotonic clock.
	Constraints      bool // OpenNTPD before 6.8 does not tell before there is a median
	ConstraintMedian time.Time
	ConstraintLast   time.Duration
	ConstraintErrors int
}

// ConstraintOffset returns how far the constraints are ahead of the clock, in
// whole seconds; false if none is known, or this system's monotonic clock is
// not. The daemon must run on this machine.
func (s *Status) ConstraintOffset() (time.Duration, bool) {
	now := control.Monotonic()
	if s.ConstraintMedian.IsZero() || now == 0 {
		return 0, false
	}
	then := s.ConstraintMedian.Add(now.Truncate(time.Second) - s.ConstraintLast)
	return time.Until(then).Truncate(time.Second), true
}

// Trust levels of a peer.
const (
	TrustBad        = 6 // with fewer it is not valid
	TrustAggressive = 8 // asked more often until it has more
	TrustMax        = 10
)

// A Peer is an NTP server that the daemon asks.
type Peer struct {
	Name       string // address and name; never longer than 79 bytes, but not necessarily printable
	SyncedTo   bool   // the clock follows it
	Weight     int
	TrustLevel int
	Stratum    int           // 0 if it has not answered
	Next       time.Duration // until it is asked again
	Poll       time.Duration // between two questions

	Offset, Delay, Jitter time.Duration // mean values; 0 if it has not answered
}

// Valid reports whether the daemon takes the peer's answers into account.
func (p *Peer) Valid() bool { return p.TrustLevel >= TrustBad }

// A Sensor is a time sensor, such as a radio clock.
type Sensor struct {
	Name       string // device and reference; at most 79 bytes
	SyncedTo   bool
	Weight     int
	Good       bool
	Stratum    int
	Next, Poll time.Duration
	Offset     time.Duration
	Correction time.Duration
}

const program = "ntpd"

var statusDecoder = control.Decoder[Status]{Program: program, Type: msgStatus, Name: TypeName(msgStatus), Variants: []control.Variant[Status]{
	control.VariantOf(func(c *ctlShowStatus79, s *Status) {
		*s = Status{
			Peers: count(c.Peercnt), ValidPeers: count(c.ValidPeers), Sensors: count(c.Sensorcnt), ValidSensors: count(c.ValidSensors),
			Synced: c.Synced == 1, Stratum: int(c.Stratum), ClockOffset: control.Milliseconds(c.ClockOffset),
			Constraints: c.Constraints != 0, ConstraintMedian: unix(c.ConstraintMedian), ConstraintLast: control.Seconds(c.ConstraintLast),
			ConstraintErrors: count(c.ConstraintErrors),
		}
	}),
	control.VariantOf(func(c *ctlShowStatus62, s *Status) {
		*s = Status{
			Peers: count(c.Peercnt), ValidPeers: count(c.ValidPeers), Sensors: count(c.Sensorcnt), ValidSensors: count(c.ValidSensors),
			Synced: c.Synced == 1, Stratum: int(c.Stratum), ClockOffset: control.Milliseconds(c.ClockOffset),
			Constraints: c.ConstraintMedian != 0, ConstraintMedian: unix(c.ConstraintMedian), ConstraintLast: control.Seconds(c.ConstraintLast),
			ConstraintErrors: count(c.ConstraintErrors),
		}
	}),
}}

var peerDecoder = control.Decoder[Peer]{Program: program, Type: msgPeers, Name: TypeName(msgPeers), Variants: []control.Variant[Peer]{
	control.VariantOf(func(c *ctlShowPeer79, p *Peer) {
		*p = Peer{
			Name: strings.TrimSuffix(c.PeerDesc, " "), SyncedTo: c.Syncedto == 1, Weight: int(c.Weight), TrustLevel: int(c.Trustlevel), Stratum: int(c.Stratum),
			Next: control.Seconds(c.Next), Poll: control.Seconds(c.Poll),
			Offset: control.Milliseconds(c.Offset), Delay: control.Milliseconds(c.Delay), Jitter: control.Milliseconds(c.Jitter),
		}
	}),
}}

var sensorDecoder = control.Decoder[Sensor]{Program: program, Type: msgSensors, Name: TypeName(msgSensors), Variants: []control.Variant[Sensor]{
	control.VariantOf(func(c *ctlShowSensor79, s *Sensor) {
		*s = Sensor{
			Name: strings.TrimRight(c.SensorDesc, " "), SyncedTo: c.Syncedto == 1, Weight: int(c.Weight), Good: c.Good == 1, Stratum: int(c.Stratum),
			Next: control.Seconds(c.Next), Poll: control.Seconds(c.Poll),
			Offset: control.Milliseconds(c.Offset), Correction: control.Milliseconds(c.Correction),
		}
	}),
}}

// count makes an int of a C unsigned, also where an int has 32 bits.
func count(n uint32) int { return int(min(n, math.MaxInt32)) }

// unix makes a time of a time_t.
func unix(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(t, 0)
}
