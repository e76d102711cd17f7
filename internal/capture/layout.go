package capture

import (
	"encoding/binary"
	"fmt"

	"example.org/imsg"
)

// DefaultMax is the longest message, header included, that is believed unless
// the user says otherwise: more than bgpd's 128 KiB. A larger limit makes more
// of what is no imsg at all look like a header.
const DefaultMax = 256 << 10

// A layout is how headers are to be read: the dialect and the byte order.
// Either exists in little-endian order only; elsewhere each header tells.
type layout struct {
	big     bool
	dialect Dialect
}

// native is whether this machine is big-endian.
var native = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// order returns the byte order as a Record has it: nil for this machine's.
func (l layout) order() binary.ByteOrder {
	switch {
	case l.big == native:
		return nil
	case l.big:
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// String returns the dialect and the byte order in words.
func (l layout) String() string {
	if l.big {
		return l.dialect.String() + ", big-endian"
	}
	return l.dialect.String() + ", little-endian"
}

// isBig is whether o, in which nil means this machine's, is big-endian.
func isBig(o binary.ByteOrder) bool {
	if o == nil {
		return native
	}
	return o.Uint16([]byte{0, 1}) == 1
}

// imsgDialect returns d as package imsg names it; Either is Current there.
func (d Dialect) imsgDialect() imsg.Dialect {
	if d == Legacy {
		return imsg.Legacy
	}
	return imsg.Current
}

// A head is a parsed header.
type head struct {
	imsg.Header
	n       int // bytes of the message, header included
	marked  bool
	dialect Dialect // what is known behind this header
}

// parse reads a header of at least imsg.HeaderSize bytes. held says that a
// file waits for a message, which settles what else is a guess. An n that is
// not from imsg.HeaderSize to most is invalid, and so are the legacy flags that
// nobody sets; then ok is false.
func (l layout) parse(p []byte, most int, held bool) (h head, ok bool) {
	_ = p[imsg.HeaderSize-1]
	var word uint32
	if l.big {
		be := binary.BigEndian
		h.Type, word, h.ID, h.PID = be.Uint32(p), be.Uint32(p[4:]), be.Uint32(p[8:]), int32(be.Uint32(p[12:]))
	} else {
		le := binary.LittleEndian
		h.Type, word, h.ID, h.PID = le.Uint32(p), le.Uint32(p[4:]), le.Uint32(p[8:]), int32(le.Uint32(p[12:]))
	}
	h.n, h.dialect = int(word), l.dialect
	if !l.big && word >= imsg.HeaderSize && word <= min(uint32(most), 1<<16-1) {
		return h, true // the same in both dialects
	}
	cn, cmark := int(word&^(1<<31)), word>>31 != 0
	current := cn >= imsg.HeaderSize && cn <= most && l.dialect != Legacy
	ln, flags := int(word&0xffff), word>>16
	if l.big {
		ln, flags = int(word>>16), word&0xffff
	}
	legacy := ln >= imsg.HeaderSize && ln <= most && flags <= 1 && l.dialect != Current
	switch {
	case current && (!legacy || !held):
		h.n, h.marked, h.dialect = cn, cmark, Current
	case legacy:
		h.n, h.marked, h.dialect = ln, flags == 1, Legacy
	default:
		h.n = cn
		if l.dialect == Legacy {
			h.n = ln
		}
		return h, false
	}
	return h, true
}

// A trial is what a stream's beginning is in one layout.
type trial struct {
	layout
	messages, bytes int  // that are whole
	failed          bool // an invalid header follows, or the end comes too soon
	marks           bool // the layout made a difference
}

// try frames p, the beginning of a stream, or all of it.
func (l layout) try(p []byte, most int, all bool) trial {
	t := trial{layout: l}
	for len(p)-t.bytes >= imsg.HeaderSize {
		h, ok := l.parse(p[t.bytes:], most, false)
		if !ok {
			t.failed = true
			break
		}
		if h.marked || h.n > 1<<16-1 || l.big {
			t.marks = true
		}
		if h.n > len(p)-t.bytes {
			break
		}
		t.messages++
		t.bytes += h.n
	}
	t.failed = t.failed || all && t.bytes < len(p)
	return t
}

// guess tells which of ls, the likeliest first, is the layout of a stream that
// begins with p, of at least a header, or is p. Where nothing tells the dialects
// apart the layout is Either. sure says that more bytes would hardly change it.
func guess(ls []layout, p []byte, most int, all bool) (best trial, sure bool) {
	ts := make([]trial, len(ls))
	for i, l := range ls {
		ts[i] = l.try(p, most, all)
		if i == 0 || ts[i].better(best) {
			best = ts[i]
		}
	}
	sure = best.messages > 1 && !best.failed
	for _, t := range ts {
		sure = sure && (t.messages == 0 || t.messages == best.messages && t.bytes == best.bytes)
	}
	if !best.marks && (len(ls) == 4 || len(ls) == 2 && ls[0].dialect != ls[1].dialect) {
		best.dialect = Either
	}
	return best, sure
}

// none reports whether not even the first header is one.
func (t trial) none() bool { return t.failed && t.messages == 0 }

// better reports whether t explains its bytes better than u, which is likelier
// otherwise.
func (t trial) better(u trial) bool {
	switch {
	case t.failed != u.failed:
		return u.failed
	case t.messages != u.messages:
		return t.messages > u.messages
	}
	return t.bytes > u.bytes
}

// notHeader says what is wrong with p, which should be a header.
func (l layout) notHeader(p []byte, most int) error {
	h, _ := l.parse(p, most, false)
	why := fmt.Sprintf("length %d, and not one from %d to %d", h.n, imsg.HeaderSize, most)
	if h.n >= imsg.HeaderSize && h.n <= most {
		why = "flags that nobody sets"
	}
	return fmt.Errorf("expected a header (%v), got %x: %s", l, p[:imsg.HeaderSize], why)
}
