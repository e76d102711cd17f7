package imsg

import "time"

// A Config says how a channel behaves. The zero Config, which nil stands for,
// is C's: the current dialect, no file passing. A channel copies it.
type Config struct {
	Dialect Dialect

	// RequireDialect makes an Auto channel refuse with ErrDialectUnknown what
	// it would otherwise send in Current as a guess, before the peer's dialect
	// is known: a file, a message of more than 65535 bytes with its header,
	// and on a big-endian machine every message.
	RequireDialect bool

	// AllowFDPass enables file passing in both directions. Without it a file
	// to be sent is ErrNoFDPass, and what arrives unasked is closed; Dial and
	// Listen ask the kernel to refuse it already at the sender, where it can
	// (Linux 6.16). It corresponds to imsgbuf_allow_fdpass.
	AllowFDPass bool

	// Limits of what waits to be sent. One message always fits an empty queue.
	MaxQueueBytes    int // default 16 MiB
	MaxQueueMessages int // default none

	// MaxQueueFiles, by default 256, limits the files that wait to be sent, and
	// those that a Legacy peer sent ahead of their messages: old writers (before
	// OpenBSD 6.9) send one more file ahead with every write that the kernel
	// takes in part. With 40 messages with files behind 500 of 16 kB that was up
	// to 39 (TestOldWriter). More end the channel.
	MaxQueueFiles int

	// MaxPendingBytes limits what Buf.ReadSocket holds that Get has not taken;
	// default 16 MiB. Conn reads only when it holds no message.
	MaxPendingBytes int

	// BusyPoll is how long a Receive of a Conn, and ReadSocket of a Buf with a
	// blocking descriptor, try again and again before they sleep: the lowest
	// latency, for the price of a core that is busy meanwhile. It makes
	// everything slower where there is no core to spare, and does nothing on a
	// single one. With 0, the default, they decide by themselves whether trying
	// for a few microseconds pays.
	BusyPoll time.Duration

	// Trace, if not nil, is called for every message when it is queued to be
	// sent and when it is taken. It runs inside the channel's locks: it must
	// be quick and must not use the channel. The payload is valid during the
	// call only. PrintTrace makes one that writes lines, and
	// func(e imsg.Event) { logger.Debug("message", "imsg", e) } logs. See also
	// TraceVar.
	Trace func(Event)

	// TypeNames, which may be nil, names message types in errors and traces.
	// It must not be changed while channels use it.
	TypeNames map[uint32]string
}

func (cfg *Config) withDefaults() Config {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	if c.MaxQueueBytes <= 0 {
		c.MaxQueueBytes = 16 << 20
	}
	if c.MaxQueueFiles <= 0 {
		c.MaxQueueFiles = 256
	}
	if c.MaxPendingBytes <= 0 {
		c.MaxPendingBytes = 16 << 20
	}
	return c
}

// Counters count one direction of a channel.
type Counters struct {
	Messages uint64 // sent whole, or taken
	Bytes    uint64 // sent or received, headers included
	Files    uint64 // sent, or on messages that were taken
	Calls    uint64 // system calls that moved bytes
}

// Stats are a channel's counters since it was made.
type Stats struct{ Sent, Received Counters }
