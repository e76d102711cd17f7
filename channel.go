package imsg

import (
	"fmt"
	"os"
	"sync/atomic"

	"example.org/imsg/ibuf"
)

// A codec is what both directions of a channel share. The reader decides the
// dialect of an Auto channel and the writer follows, so both are atomic.
type codec struct {
	cfg     Config
	pid     int32
	dialect atomic.Uint32 // Auto: not decided yet
	limit   atomic.Int64  // maximum size of a message, header included

	// plainQueue is cfg.MaxQueueBytes, if nothing but the number of bytes is
	// to be looked at when a message is queued, and 0 otherwise.
	plainQueue int
}

func (c *codec) init(cfg *Config) {
	c.cfg = cfg.withDefaults()
	c.pid = int32(os.Getpid())
	c.dialect.Store(uint32(c.cfg.Dialect))
	c.limit.Store(DefaultMaxSize)
	if c.cfg.MaxQueueMessages <= 0 && c.cfg.Trace == nil {
		c.plainQueue = c.cfg.MaxQueueBytes
	}
}

// Dialect returns the dialect in force; Auto until the peer's is known.
func (c *codec) Dialect() Dialect { return Dialect(c.dialect.Load()) }

// SetMaxSize sets the maximum payload size to n bytes, not counting the
// header, in both directions; ibuf.ErrTooLarge if n is impossible. The legacy
// dialect, and Auto, which could not tell the two apart, allow 65519 bytes,
// the current one 2147483631. It corresponds to imsgbuf_set_maxsize.
func (c *codec) SetMaxSize(n int) error {
	limit, most := int64(n)+HeaderSize, int64(maxLimit)
	if c.cfg.Dialect != Current {
		most = legacyLimit
	}
	if n < 0 || limit > most {
		return opError("set max size", 0, fmt.Errorf("payload of %d bytes, limit %d with the %v dialect: %w",
			n, most-HeaderSize, c.cfg.Dialect, ErrTooLarge))
	}
	c.limit.Store(limit)
	return nil
}

// fits checks the size of a payload that is to be sent.
func (c *codec) fits(h Header, n int) error {
	if limit := int(c.limit.Load()); n > limit-HeaderSize {
		return opError("compose", h.Type, fmt.Errorf("payload of %d bytes, limit %d: %w", n, limit-HeaderSize, ErrTooLarge))
	}
	return nil
}

// own fills in this process's id.
func (c *codec) own(h Header) Header {
	if h.PID == 0 {
		h.PID = c.pid
	}
	return h
}

// plainMax returns up to what size the length of a message without a file is
// a plain number in every dialect that the peer may speak; 0: not at all. On a
// little-endian machine all dialects are alike in this.
func (c *codec) plainMax() int {
	if Dialect(c.dialect.Load()) != Current && legacyWord(1, false) != 1 {
		return 0
	}
	return int(c.limit.Load())
}

// guess tells what one header of an undecided Auto channel says. Lengths are
// below 64 KiB, so the two dialects never collide: what is a valid header in
// one is impossible in the other, or says the same.
func guess(hdr []byte, limit int) (d Dialect, n int, file bool) {
	n, file = Current.size(hdr)
	if n >= HeaderSize && n <= limit {
		if ln, _ := Legacy.size(hdr); ln == n && !file {
			return Auto, n, false // the same bytes in both
		}
		return Current, n, file
	}
	ln, lfile := Legacy.size(hdr)
	if ln >= HeaderSize && ln <= limit && Legacy.flags(hdr) <= legacyMark {
		return Legacy, ln, lfile
	}
	return Auto, n, file
}

func lengthError(want, have int) error {
	return fmt.Errorf("%d bytes wanted of %d: %w", want, have, ibuf.ErrShort)
}
