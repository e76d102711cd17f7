package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"example.org/imsg"
)

// Options say what a reader need not guess.
type Options struct {
	Dialect Dialect          // Either: it is guessed
	Order   binary.ByteOrder // nil: it is guessed
	Max     int              // longest message, header included; 0 means DefaultMax
	Warn    func(string)     // told what a user should know but no Record says; may be nil
}

func (o *Options) max() int {
	if o.Max > 0 {
		return min(o.Max, MaxPayload+imsg.HeaderSize)
	}
	return DefaultMax
}

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}

// layouts are those that are possible, the likeliest first.
func (o *Options) layouts() (ls []layout) {
	for _, l := range []layout{{native, Current}, {native, Legacy}, {!native, Current}, {!native, Legacy}} {
		if (o.Order == nil || isBig(o.Order) == l.big) && (o.Dialect == Either || o.Dialect == l.dialect) {
			ls = append(ls, l)
		}
	}
	return ls
}

// A RawReader reads one direction of a channel: bytes as they were on the wire.
// It looks at what comes first to tell dialect and byte order. Where the next
// message begins behind something that is no header is not guessed: the stream
// ends there with an *InputError.
type RawReader struct {
	in     io.Reader
	opt    Options
	layout layout
	known  bool
	most   int
	buf    []byte
	r, w   int   // buf[r:w] was read, and belongs to no record yet
	off    int64 // of buf[r] in the input
	eof    error // what the input ended with
	rec    Record
	err    error
}

const (
	rawBuffer = 256 << 10
	rawGuess  = 64 << 10
)

// NewRawReader returns a Reader of r.
func NewRawReader(r io.Reader, o Options) *RawReader {
	return &RawReader{in: r, opt: o, buf: make([]byte, rawBuffer)}
}

// Layout returns the dialect and the byte order in words, as far as they are
// known.
func (r *RawReader) Layout() string { return r.layout.String() }

// Next returns the next record, or io.EOF at the end. Of a message that was cut
// it returns what there is, and then an *InputError.
func (r *RawReader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	if !r.known {
		if !r.begin() {
			return nil, r.err
		}
		r.rec = Record{Wait: -1, Order: r.layout.order()}
		r.most = r.opt.max()
	}
	if r.w-r.r < imsg.HeaderSize && !r.fill(imsg.HeaderSize) {
		n := r.w - r.r
		switch {
		case r.eof != io.EOF:
			return nil, r.fail(r.off+int64(n), r.eof)
		case n > 0:
			return nil, r.fail(r.off, fmt.Errorf("expected a header of %d bytes, got %d: %w", imsg.HeaderSize, n, io.ErrUnexpectedEOF))
		}
		r.err = io.EOF
		return nil, r.err
	}
	// That a file waits cannot be seen. Where it matters the marked reading is
	// right: a plain message of 64 KiB and more is rare.
	h, ok := r.layout.parse(r.buf[r.r:r.w], r.most, true)
	if !ok {
		return nil, r.fail(r.off, r.layout.notHeader(r.buf[r.r:r.w], r.opt.max()))
	}
	r.layout.dialect = h.dialect
	n, note := h.n, ""
	if r.w-r.r < n && !r.fill(n) {
		n = r.w - r.r
		note = "the capture was cut inside this message"
		err := r.eof
		if err == io.EOF {
			err = fmt.Errorf("expected %d bytes of a message, got %d: %w", h.n, n, io.ErrUnexpectedEOF)
		}
		r.fail(r.off, err)
	}
	// The other fields are as begin left them.
	x := &r.rec
	x.Header, x.Dialect, x.Len, x.Marked, x.Note = h.Header, h.dialect, h.n, h.marked, note
	x.Payload = r.buf[r.r+imsg.HeaderSize : r.r+n]
	r.r += n
	r.off += int64(n)
	return x, nil
}

// fail ends the stream. The error of another reader that knows the place better
// stays.
func (r *RawReader) fail(off int64, err error) error {
	if e := new(InputError); !errors.As(err, &e) {
		err = &InputError{Offset: off, Err: err}
	}
	r.err = err
	return err
}

// begin guesses the layout: with what comes first if that is enough.
func (r *RawReader) begin() bool {
	ls := r.opt.layouts()
	r.known, r.layout = true, ls[0]
	for n := imsg.HeaderSize; len(ls) > 1; {
		r.fill(n)
		p := r.buf[r.r:r.w]
		if len(p) < imsg.HeaderSize {
			break
		}
		best, sure := guess(ls, p, r.opt.max(), r.eof != nil)
		if sure || r.eof != nil || len(p) > r.opt.max()+rawGuess {
			r.layout = best.layout
			if !best.none() || len(p) > 0 && r.valid() {
				return true
			}
			r.fail(0, fmt.Errorf("expected a header in either dialect and byte order, got %x", p[:imsg.HeaderSize]))
			return false
		}
		n = 2 * len(p)
	}
	return true // Next says what is wrong
}

// valid reports whether what comes begins with a header in the layout.
func (r *RawReader) valid() bool {
	_, ok := r.layout.parse(r.buf[r.r:r.w], r.opt.max(), true)
	return ok
}

// fill reads until n bytes are there; the buffer grows with what comes.
func (r *RawReader) fill(n int) bool {
	for empty := 0; r.w-r.r < n && r.eof == nil; {
		if r.r > 0 && (r.r == r.w || len(r.buf)-r.r < n) {
			r.w = copy(r.buf, r.buf[r.r:r.w])
			r.r = 0
		}
		if r.w == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		var m int
		m, r.eof = r.in.Read(r.buf[r.w:])
		r.w += m
		if empty++; m > 0 {
			empty = 0
		} else if empty > 100 && r.eof == nil {
			r.eof = io.ErrNoProgress
		}
	}
	return r.w-r.r >= n
}
