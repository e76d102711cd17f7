package imsg

import (
	"fmt"
	"os"
	"sync/atomic"

	"example.org/imsg/internal/unixmsg"
)

// Settings are what both directions of a channel share. The reader decides the
// dialect of an Auto channel and the writer follows, so both are atomic.
type settings struct {
	cfg     Config
	pid     int32
	number  uint64        // of the channel, in traces
	peer    int           // its pid, in traces
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
