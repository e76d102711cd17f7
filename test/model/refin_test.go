//go:build linux

package model_test

import (
	"encoding/binary"
	"io"
	"slices"

	"example.org/imsg"
)

// A refIn is one received message.
type refIn struct {
	h       imsg.Header
	payload []byte
	pos     int
	file    *refFile
	lost    bool
	murky   bool // its file is anybody's guess
	maybe   bool // it may be lost with what ended the stream
}

func (m *refIn) drop() {
	if m.file != nil {
		m.file.refs--
	}
	m.file = nil
}

// A refHeld is a file that no message has claimed, with the stream range in
// which the header begins that may claim it. That goes at least to the end of
// what was surely sent in one piece with the file, however it is received. A
// reader whose buffer was full extends it by what comes next, and whether it
// was, the model can tell of short receives only.
type refHeld struct {
	refFlight
	beg, end uint64
	most     uint64 // what end can be at most; 0: nobody knows
	late     bool   // closed already, unless a buffer was full
}

// refPiece is the length up to which Linux does not cut a send into pieces,
// whatever the size of the socket's buffer.
const refPiece = 2000

// refHold is how many files may wait for their message in the legacy dialect.
const refHold = 16

// A refReceiver is the receiving half of a channel.
type refReceiver struct {
	dialect imsg.Dialect
	limit   int // of a message, with header
	fdpass  bool
	in      []byte // arrived, of no complete message
	off     uint64 // stream offset of in[0]
	need    int    // length of the message that begins there, if its header is whole
	cur     *refIn // that message
	held    []refHeld
	ready   []*refIn
	pending int // bytes of ready
	want    error
	err     error // final, as the library said it first
	n       imsg.Counters
	coming  []refFlight // files that an operation brought and no part of it yet
	vague   bool        // the next file may have come with this part already
	murky   bool        // peers that break the rules have made everything possible
	wire    *refWire
}

// refShort is the number of bytes that fill no reader's buffer, if it does not
// hold a long message already.
const refShort = 64

// fed is what an operation brought, in as many parts as the files make. What
// ends the stream is left in r.want.
func (r *refReceiver) fed(p []byte, files []refFlight) {
	r.n.Bytes += uint64(len(p))
	r.coming = files
	short := len(p) < refShort && len(r.in) < 1000
	for len(p) > 0 && r.want == nil {
		beg := r.off + uint64(len(r.in))
		end := beg + uint64(len(p))
		if r.vague = false; len(r.coming) > 0 {
			end = min(end, r.coming[0].end)
			r.vague = end-r.coming[0].at > refPiece
		}
		for i := range r.held {
			if h := &r.held[i]; short && h.most == 0 {
				h.most = max(end, h.end)
			}
		}
		for len(r.coming) > 0 && r.coming[0].at < end {
			f := r.coming[0]
			r.coming = r.coming[1:]
			if f.surplus || !r.fdpass {
				f.f.refs--
				continue
			}
			h := refHeld{refFlight: f, beg: beg, end: min(f.end, f.at+refPiece)}
			if short {
				h.most = max(end, h.end)
			}
			r.held = append(r.held, h)
		}
		n := int(end - beg)
		r.part(p[:n])
		p = p[n:]
	}
	for _, f := range r.coming { // after the end
		f.f.refs--
	}
	r.coming = nil
}

// part is what one system call brought.
func (r *refReceiver) part(p []byte) {
	before := len(r.ready)
	r.in = append(r.in, p...)
	for r.want == nil && r.cut() {
	}
	switch {
	case r.want != nil:
	case r.dialect == imsg.Current:
		r.expire(r.off + uint64(r.need))
	case len(r.held) > refHold:
		r.want = imsg.ErrTooLarge
		for _, m := range r.ready[before:] { // before or after the file too many
			m.maybe = true
			if m.file != nil {
				m.file.lax = true
			}
		}
	}
	if r.want != nil {
		r.fail()
	}
}

// cut makes one message, if it is complete.
func (r *refReceiver) cut() bool {
	if r.need == 0 {
		if len(r.in) < imsg.HeaderSize {
			return false
		}
		n, mark := r.header(r.in)
		if n < imsg.HeaderSize || n > r.limit {
			r.want = &imsg.HeaderError{Len: n, Limit: r.limit}
			return false
		}
		r.need, r.cur = n, &refIn{h: refFields(r.in)}
		if mark {
			r.claim()
		}
	}
	if len(r.in) < r.need {
		return false
	}
	m := r.cur
	m.payload = slices.Clone(r.in[imsg.HeaderSize:r.need])
	m.murky = r.murky
	r.ready = append(r.ready, m)
	r.pending += r.need
	r.in = append(r.in[:0], r.in[r.need:]...)
	r.off += uint64(r.need)
	r.need, r.cur = 0, nil
	return true
}

// claim gives the message that begins at r.off the oldest file that can be its own.
func (r *refReceiver) claim() {
	if r.dialect == imsg.Current {
		r.expire(r.off)
		if slices.ContainsFunc(r.held, func(h refHeld) bool { return h.late }) {
			r.murk()
		}
	}
	if len(r.held) == 0 || r.dialect == imsg.Current && r.held[0].beg > r.off {
		if r.cur.lost = true; r.vague && r.fdpass {
			r.murk()
		}
		return
	}
	if h := r.held[0]; h.at > r.off && h.most == 0 {
		r.murk() // it came behind the header, perhaps too late
	}
	r.cur.file, r.held = r.held[0].f, r.held[1:]
}

// expire closes the files that came with bytes before off only, if that is sure.
func (r *refReceiver) expire(off uint64) {
	keep := r.held[:0]
	for _, h := range r.held {
		if h.most > 0 && h.most <= off {
			h.f.refs--
			h.f.lax = r.murky
			continue
		}
		if h.end <= off {
			h.late, h.f.lax = true, true
		}
		keep = append(keep, h)
	}
	r.held = keep
}

// murk says that from here on nobody can tell which message gets which file.
func (r *refReceiver) murk() {
	r.murky, r.wire.lax = true, true
	for _, h := range r.held {
		h.f.lax = true
	}
	for _, f := range append(slices.Clone(r.coming), r.wire.files...) {
		f.f.lax = true
	}
	for _, m := range append(slices.Clone(r.ready), r.cur) {
		if m != nil && m.file != nil {
			m.file.lax = true
		}
	}
}

// header reads length and mark, and decides the dialect of an undecided reader.
func (r *refReceiver) header(p []byte) (n int, mark bool) {
	ne := binary.NativeEndian
	word, short, flags := ne.Uint32(p[4:]), int(ne.Uint16(p[4:])), ne.Uint16(p[6:])
	long, marked := int(word&^(1<<31)), word>>31 == 1
	valid := func(n int) bool { return n >= imsg.HeaderSize && n <= r.limit }
	switch {
	case r.dialect == imsg.Legacy:
		return short, flags&1 == 1
	case r.dialect == imsg.Current:
	case valid(long) && short == long && !marked: // nothing is learnt
	case valid(long):
		r.dialect = imsg.Current
	case valid(short) && flags <= 1:
		r.dialect = imsg.Legacy
		return short, flags == 1
	}
	return long, marked
}

func refFields(p []byte) imsg.Header {
	ne := binary.NativeEndian
	return imsg.Header{Type: ne.Uint32(p), ID: ne.Uint32(p[8:]), PID: int32(ne.Uint32(p[12:]))}
}

// eof is what the end of the stream means here.
func (r *refReceiver) eof() {
	if r.want = io.EOF; len(r.in) > 0 {
		r.want = io.ErrUnexpectedEOF
	}
	r.fail()
}

// fail closes the files that no complete message has.
func (r *refReceiver) fail() {
	for _, h := range r.held {
		h.f.refs--
	}
	r.held = nil
	if r.cur != nil {
		r.cur.drop()
	}
}

// drop discards everything.
func (r *refReceiver) drop() {
	r.fail()
	for _, m := range r.ready {
		m.drop()
	}
	r.ready, r.pending = nil, 0
	r.off += uint64(len(r.in))
	r.in, r.need, r.cur = r.in[:0], 0, nil
}

// none says that the library has no message more.
func (r *refReceiver) none() {
	if len(r.ready) > 0 && r.ready[0].maybe {
		r.drop()
	}
}

// next is the oldest complete message.
func (r *refReceiver) next() *refIn {
	m := r.ready[0]
	r.ready = r.ready[1:]
	r.pending -= imsg.HeaderSize + len(m.payload)
	r.n.Messages++
	return m
}

// would reports whether more bytes, which are on the wire, complete a message
// or cannot be one.
func (r *refReceiver) would() bool {
	c := *r
	p := append(slices.Clone(r.in), r.wire.p[:min(len(r.wire.p), imsg.HeaderSize)]...)
	if c.need == 0 {
		if len(p) < imsg.HeaderSize {
			return false
		}
		if c.need, _ = c.header(p); c.need < imsg.HeaderSize || c.need > c.limit {
			return true
		}
	}
	return c.need <= len(r.in)+len(r.wire.p)
}
