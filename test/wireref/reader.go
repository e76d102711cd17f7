package wireref

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// A LengthError is a header with an impossible length.
type LengthError struct{ Len, Limit int }

func (e *LengthError) Error() string { return fmt.Sprintf("length %d, limit %d", e.Len, e.Limit) }

// ErrTooManyFiles ends a stream with more unclaimed files than Hold.
var ErrTooManyFiles = errors.New("too many files")

// A held file is one that no message has claimed, with the stream range in
// which the header begins that may claim it.
type held struct {
	Flight
	beg, end uint64
	// most is what end can be at most; 0: nobody knows. Where the bounds of the
	// reads are known it equals end. Else the range goes at least to the end of
	// what was surely sent in one piece with the file, however it is received:
	// a reader whose buffer was full extends it by what comes next.
	most uint64
	late bool // closed already, unless a buffer was full
}

// stillOpen is the end of a range that the next read extends.
const stillOpen = math.MaxUint64

// onePiece is the length up to which Linux does not cut a send into pieces,
// whatever the size of the socket's buffer.
const onePiece = 2000

// short is the number of bytes that fill no reader's buffer, if it does not
// hold a long message already.
const short = 64

// A Reader is the receiving half of a channel. Read tells it of reads one by
// one, Feed of several whose bounds are not known.
type Reader struct {
	Dialect Dialect
	Limit   int  // of a message, with header
	Files   bool // file passing
	Hold    int  // files that may wait for their message in order; 0: any number

	// Parse and ParseLen are another framing; nil and 0: imsg's.
	Parse    func(p []byte) (n int, mark, ok bool)
	ParseLen int

	// Doubt, if not nil, hears that from here on nobody can tell which message
	// gets which file: those in flight are unsure, too.
	Doubt func()

	Ready   []*Message // complete, not taken
	Pending int        // bytes of these
	Err     error      // the end of the stream: io.EOF, io.ErrUnexpectedEOF, ErrTooManyFiles, a *LengthError
	In      []byte     // arrived, of no complete message
	Off     uint64     // stream offset of In[0]

	need   int      // length of the message that begins there, if its header is whole
	cur    *Message // that message
	held   []held
	coming []Flight // files that a Feed brought and no part of it yet
	vague  bool     // the next file may have come with this part already
	unsure bool     // peers that break the rules have made everything possible
	messy  bool     // not clean
}

// Current is the message that is not complete, if its header is; or nil.
func (r *Reader) Current() *Message { return r.cur }

// Held is how many files wait for their message.
func (r *Reader) Held() int { return len(r.held) }

// Read is one read of p, with the files that it brought; full says that the
// buffer had no room for more.
func (r *Reader) Read(p []byte, full bool, files ...Flight) {
	if r.Err != nil || len(p) == 0 {
		drop(files)
		return
	}
	beg := r.Off + uint64(len(r.In))
	end := beg + uint64(len(p))
	if n := len(r.held); n > 0 && r.held[n-1].end == stillOpen {
		h := &r.held[n-1]
		switch {
		case len(files) > 0 && files[0].File == nil: // the message of the lost one may begin here
			h.end = beg
		case len(files) > 0 || !full: // a read ends with the bytes of one file
			h.end = end
		}
		h.most = h.end
	}
	if full {
		end = stillOpen
	}
	for _, f := range files {
		r.arrive(held{Flight: f, beg: beg, end: end, most: end})
	}
	r.part(p)
}

// Feed is what several reads brought, of which only is known that each ends
// with the bytes that were sent with a file.
func (r *Reader) Feed(p []byte, files []Flight) {
	r.coming = files
	small := len(p) < short && len(r.In) < 1000
	for len(p) > 0 && r.Err == nil {
		beg := r.Off + uint64(len(r.In))
		end := beg + uint64(len(p))
		if r.vague = false; len(r.coming) > 0 {
			end = min(end, r.coming[0].End)
			r.vague = end-r.coming[0].At > onePiece
		}
		for i := range r.held {
			if h := &r.held[i]; small && h.most == 0 {
				h.most = max(end, h.end)
			}
		}
		for len(r.coming) > 0 && r.coming[0].At < end {
			f := r.coming[0]
			r.coming = r.coming[1:]
			h := held{Flight: f, beg: beg, end: min(f.End, f.At+onePiece)}
			if small {
				h.most = max(end, h.end)
			}
			r.arrive(h)
		}
		n := int(end - beg)
		r.part(p[:n])
		p = p[n:]
	}
	drop(r.coming) // after the end
	r.coming = nil
}

func drop(files []Flight) {
	for _, f := range files {
		if f.File != nil {
			f.Refs--
		}
	}
}

func (r *Reader) arrive(h held) {
	if h.Surplus || !r.Files {
		drop([]Flight{h.Flight})
		return
	}
	r.held = append(r.held, h)
}

// part is what one read brought.
func (r *Reader) part(p []byte) {
	before := len(r.Ready)
	r.In = append(r.In, p...)
	for r.Err == nil && r.cut() {
	}
	switch {
	case r.Err != nil:
	case r.Dialect == Current:
		r.expire(r.Off + uint64(r.need))
	case r.Hold > 0 && len(r.held) > r.Hold:
		r.Err = ErrTooManyFiles
		for _, m := range r.Ready[before:] { // before or after the file too many
			m.Maybe = true
			if m.File != nil {
				m.File.Unsure = true
			}
		}
	}
	if r.Err != nil {
		r.fail()
	}
}

// cut makes one message, if it is complete.
func (r *Reader) cut() bool {
	header := HeaderSize
	if r.Parse != nil {
		header = r.ParseLen
	}
	if r.need == 0 {
		if len(r.In) < header {
			return false
		}
		m := &Message{Off: r.Off}
		var ok bool
		if r.Parse != nil {
			m.Len, m.Mark, ok = r.Parse(r.In)
		} else {
			m.Header = ParseHeader(r.In)
			m.Len, m.Mark = r.length(r.In)
			ok = m.Len >= HeaderSize && m.Len <= r.Limit
		}
		if !ok {
			r.Err = &LengthError{m.Len, r.Limit}
			return false
		}
		m.InOrder = r.Dialect != Current
		r.need, r.cur = m.Len, m
		if m.Mark {
			r.claim()
		}
		m.Clean = !r.messy
	}
	if len(r.In) < r.need {
		return false
	}
	m := r.cur
	m.Payload = slices.Clone(r.In[header:r.need])
	m.Unsure = r.unsure
	r.Ready = append(r.Ready, m)
	r.Pending += r.need
	r.In = append(r.In[:0], r.In[r.need:]...)
	r.Off += uint64(r.need)
	r.need, r.cur = 0, nil
	return true
}

// claim gives the message that begins at r.Off the oldest file that can be its own.
func (r *Reader) claim() {
	if r.Dialect == Current {
		r.expire(r.Off)
		if slices.ContainsFunc(r.held, func(h held) bool { return h.late }) {
			r.BeUnsure()
		}
	}
	if len(r.held) == 0 || r.Dialect == Current && r.held[0].beg > r.Off {
		r.cur.Lost, r.messy = true, true
		if r.vague && r.Files {
			r.BeUnsure()
		}
		return
	}
	h := r.held[0]
	if h.At > r.Off && h.most == 0 {
		r.BeUnsure() // it came behind the header, perhaps too late
	}
	r.messy = r.messy || h.beg != r.Off
	r.cur.File, r.cur.Lost, r.held = h.File, h.File == nil, r.held[1:]
}

// expire closes the files that came with bytes before off only, if that is sure.
func (r *Reader) expire(off uint64) {
	keep := r.held[:0]
	for _, h := range r.held {
		if h.most > 0 && h.most <= off {
			drop([]Flight{h.Flight})
			if r.messy = true; h.File != nil {
				h.Unsure = r.unsure
			}
			continue
		}
		if h.end <= off {
			h.late, h.Unsure = true, true
		}
		keep = append(keep, h)
	}
	r.held = keep
}

// BeUnsure says that from here on nobody can tell which message gets which file.
func (r *Reader) BeUnsure() {
	r.unsure = true
	for _, h := range r.held {
		h.Unsure = true
	}
	for _, f := range r.coming {
		f.Unsure = true
	}
	for _, m := range append(slices.Clone(r.Ready), r.cur) {
		if m != nil && m.File != nil {
			m.File.Unsure = true
		}
	}
	if r.Doubt != nil {
		r.Doubt()
	}
}

// EOF is what the end of the stream means here.
func (r *Reader) EOF() {
	if r.Err != nil {
		return
	}
	if r.Err = io.EOF; len(r.In) > 0 {
		r.Err = io.ErrUnexpectedEOF
	}
	r.fail()
}

// fail closes the files that no complete message has.
func (r *Reader) fail() {
	for _, h := range r.held {
		drop([]Flight{h.Flight})
	}
	r.held = nil
	if r.cur != nil {
		r.cur.Drop()
	}
}

// Drop discards everything.
func (r *Reader) Drop() {
	r.fail()
	for _, m := range r.Ready {
		m.Drop()
	}
	r.Ready, r.Pending = nil, 0
	r.Off += uint64(len(r.In))
	r.In, r.need, r.cur = r.In[:0], 0, nil
}

// NoMore says that who is compared has no message more.
func (r *Reader) NoMore() {
	if len(r.Ready) > 0 && r.Ready[0].Maybe {
		r.Drop()
	}
}

// Next takes the oldest complete message.
func (r *Reader) Next() *Message {
	m := r.Ready[0]
	r.Ready = r.Ready[1:]
	r.Pending -= m.Len
	return m
}

// Would reports whether more bytes complete a message or cannot be one.
func (r *Reader) Would(more []byte) bool {
	c := *r
	p := append(slices.Clone(r.In), more[:min(len(more), HeaderSize)]...)
	if c.need == 0 {
		if len(p) < HeaderSize {
			return false
		}
		if c.need, _ = c.length(p); c.need < HeaderSize || c.need > c.Limit {
			return true
		}
	}
	return c.need <= len(r.In)+len(more)
}
