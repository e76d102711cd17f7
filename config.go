package imsg

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"example.org/imsg/internal/unixmsg"
)

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

// Settings are what both directions of a channel share. The reader decides the
// dialect of an Auto channel and the writer follows, so both are atomic.
type settings struct {
	cfg     Config
	number  uint64 // of the channel, in traces
	peer    int    // its pid, in traces
	pid     int32
	dialect atomic.Uint32 // Auto: not decided yet
	limit   atomic.Int64  // maximum size of a message, header included; see maxMessage
	flags   unixmsg.Flags // of every transfer

	// plainQueue is cfg.MaxQueueBytes, if nothing but the number of bytes is
	// to be looked at when a message is queued, and 0 otherwise.
	plainQueue int
}

// init takes over a configuration, for a channel on the socket fd.
func (s *settings) init(fd int, cfg *Config) {
	s.cfg = cfg.withDefaults()
	s.number = channels.Add(1)
	if s.cfg.Trace = withEnvTrace(s.cfg.Trace); s.cfg.Trace != nil {
		s.peer, _, _, _ = unixmsg.PeerCred(fd)
	}
	s.pid = int32(os.Getpid())
	s.dialect.Store(uint32(s.cfg.Dialect))
	s.limit.Store(DefaultMaxSize)
	if s.cfg.MaxQueueMessages <= 0 && s.cfg.Trace == nil && !s.cfg.RequireDialect {
		s.plainQueue = s.cfg.MaxQueueBytes
	}
}

// setMaxSize is SetMaxSize of both kinds of channels.
func (s *settings) setMaxSize(n int) error {
	d := s.spoken()
	limit, most := int64(n)+HeaderSize, d.maxSize()
	if n < 0 || limit > most {
		return opError("set max size", 0, fmt.Errorf("payload of %d bytes, limit %d with the %v dialect: %w",
			n, most-HeaderSize, d, ErrTooLarge))
	}
	s.limit.Store(limit)
	return nil
}

// spoken returns the dialect in force.
func (s *settings) spoken() Dialect { return Dialect(s.dialect.Load()) }

// maxMessage is the maximum size of a message, header included, for now.
func (s *settings) maxMessage() int {
	limit := s.limit.Load()
	if s.spoken() == Legacy {
		limit = min(limit, legacyLimit)
	}
	return int(limit)
}

// allows reports whether a message may be n bytes, header included. Small ones,
// which are many, do not ask for the dialect.
func (s *settings) allows(n int) bool {
	return n <= int(s.limit.Load()) && (n <= legacyLimit || s.spoken() != Legacy)
}

// guesses reports whether a message of n bytes, header included, is written
// in a dialect that the peer may not understand.
func (s *settings) guesses(n int, file bool) bool {
	return s.spoken() == Auto && (file && s.cfg.AllowFDPass || n > legacyLimit || !plainAlike)
}

// checkSize checks the size of a payload that is to be sent.
func (s *settings) checkSize(n int) error {
	if limit := s.maxMessage(); n > limit-HeaderSize {
		cure := "see SetMaxSize, of both ends"
		if limit == legacyLimit {
			cure = "the legacy dialect has no more"
		}
		return fmt.Errorf("payload of %d bytes, limit %d (%s): %w", n, limit-HeaderSize, cure, ErrTooLarge)
	}
	return nil
}

// withPID fills in this process's id.
func (s *settings) withPID(h Header) Header {
	if h.PID == 0 {
		h.PID = s.pid
	}
	return h
}

// plainMax returns up to what size the length of a message without a file is
// a plain number in every dialect that the peer may speak; 0: not at all.
func (s *settings) plainMax() int {
	switch limit := int(s.limit.Load()); {
	case s.spoken() == Current:
		return limit
	case !plainAlike:
		return 0
	default:
		return min(limit, legacyLimit)
	}
}
