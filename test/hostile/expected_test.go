package hostile_test

import (
	"errors"
	"fmt"
	"io"

	"example.org/imsg"
	"example.org/imsg/test/wireref"
)

// A shipment is what the kernel took with one call of an attacker: a range of
// the stream, and the identity of the file that came with it, 0 for none.
type shipment struct {
	beg, end int
	file     uint64
}

// A wantMessage is a message of the stream with the file that must come with
// it, if that is sure.
type wantMessage struct {
	*wireref.Message
	file uint64
	sure bool
}

// The ends of a stream, and of a target.
const (
	endBetween = "EOF"
	endInside  = "unexpected EOF"
	endHeader  = "bad header"
	endFiles   = "too many files"
	endReset   = "connection reset"
	endSilent  = "silence"
	endQuit    = "closed by the target"
)

// maxHeld is every server's MaxQueueFiles: how many files wait for a message in
// a FIFO.
const maxHeld = 16

// An expected is what the reference reader makes of a stream.
type expected struct {
	all       []wantMessage // the last one may be incomplete
	whole     int           // so many are complete
	end       string
	badLen    int // the length in a bad header
	mustFiles int // the shipment that must end the stream with too many files, or -1
	mayFiles  int // the one that may
}

// expect reads the stream as if every shipment were read by itself. Which file
// a message gets is certain if lockstep says that it was so, and otherwise for
// as long as each file came with the first byte of a marked message, and each
// marked message with a file.
func expect(stream []byte, ships []shipment, d imsg.Dialect, limit int, lockstep bool) *expected {
	v := &expected{mustFiles: -1, mayFiles: -1}
	r := wireref.Reader{Dialect: wireref.Dialect(d), Limit: limit, Files: true}
	files, ids := 0, make(map[*wireref.File]uint64)
	for i, s := range ships {
		var with []wireref.Flight
		if s.file != 0 {
			f := &wireref.File{ID: i}
			ids[f] = s.file
			with = []wireref.Flight{{File: f}}
			if files++; files > maxHeld && v.mayFiles < 0 {
				v.mayFiles = i
			}
			if s.end-s.beg > 32<<10 {
				lockstep = false // more than one of the kernel's buffers
			}
		}
		r.Read(stream[s.beg:s.end], false, with...)
		v.whole = len(r.Ready)
		headers := r.Ready
		if m := r.Current(); m != nil {
			headers = append(headers[:v.whole:v.whole], m)
		}
		for _, m := range headers[len(v.all):] {
			v.all = append(v.all, wantMessage{m, ids[m.File], v.mustFiles < 0 && (!m.Mark || m.Clean || lockstep)})
		}
		if r.Dialect != wireref.Current && lockstep && r.Held() > maxHeld && v.mustFiles < 0 {
			v.mustFiles = i
		}
	}
	r.EOF()
	var bad *wireref.LengthError
	switch {
	case errors.As(r.Err, &bad):
		v.end, v.badLen = endHeader, bad.Len
	case r.Err == io.EOF:
		v.end = endBetween
	default:
		v.end = endInside
	}
	return v
}

// A gotMessage is a message as the target saw it.
type gotMessage struct {
	h        imsg.Header
	beg, end int // of its payload in seen.payload
	file     uint64
	lost     bool
}

// leastBuffer is less than any buffer, so that no earlier read fills one.
const leastBuffer = 4000

// someFile is a file that the target has not looked at.
const someFile = 1<<64 - 1

// compare returns what is wrong with what the target saw of the stream.
func (v *expected) compare(ships []shipment, s *seen) error {
	if len(s.got) > v.whole {
		return fmt.Errorf("%d messages, want at most %d", len(s.got), v.whole)
	}
	stray := make(map[uint64]bool) // files that may turn up later than they should, see below
	order := make(map[uint64]int)
	for i, p := range ships {
		if p.file != 0 {
			order[p.file] = i + 1
			if p.end >= leastBuffer {
				stray[p.file] = true
			}
		}
	}
	for _, m := range v.all {
		if m.sure {
			delete(stray, m.file)
		}
	}
	last, loose := 0, false
	for i, g := range s.got {
		m := v.all[i]
		if g.h != imsg.Header(m.Header) || string(s.payload[g.beg:g.end]) != string(m.Payload) {
			return fmt.Errorf("message %d at offset %d: %+v with %d bytes, want %+v with %d bytes of the stream", i, m.Off, g.h, g.end-g.beg, m.Header, len(m.Payload))
		}
		if g.lost != (m.Mark && g.file == 0) {
			return fmt.Errorf("message %d: mark %v, file %v, lost %v", i, m.Mark, g.file != 0, g.lost)
		}
		if g.file == someFile && m.sure && m.file != 0 {
			g.file = m.file
		}
		if g.file != 0 {
			n := order[g.file]
			if g.file == someFile {
				n = last + 1
			}
			if !m.Mark || !s.files || n <= last {
				return fmt.Errorf("message %d: mark %v, file passing %v, file of shipment %d after that of %d", i, m.Mark, s.files, n-1, last-1)
			}
			last = n
		}
		if m.sure && s.files && !loose && g.file != m.file {
			// A file that came in a read without room for more may go to a
			// message in the next one, and then everything is later.
			if !stray[g.file] && (g.file != someFile || len(stray) == 0) {
				return fmt.Errorf("message %d at offset %d: file of shipment %d, want %d", i, m.Off, order[g.file]-1, order[m.file]-1)
			}
			loose = true
		}
	}
	return v.compareEnd(ships, s, loose)
}

// compareEnd looks at how the stream ended.
func (v *expected) compareEnd(ships []shipment, s *seen, loose bool) error {
	atLeast := v.whole
	switch {
	case s.end == endQuit:
		return nil
	case s.end == endFiles && v.mayFiles >= 0 && s.files:
		atLeast = v.complete(ships[v.mayFiles].beg)
	case s.files && v.mustFiles >= 0 && !loose:
		return fmt.Errorf("the end is %q, want %q", s.end, endFiles)
	case s.end == endReset && s.replies > 0 && v.end != endHeader:
	case s.end == endSilent && s.silent && v.end != endHeader:
	case s.end != v.end || s.end == endHeader && s.badLen != v.badLen:
		return fmt.Errorf("the end is %q (%d), want %q (%d)", s.end, s.badLen, v.end, v.badLen)
	}
	if len(s.got) < atLeast {
		return fmt.Errorf("%d messages before the end, %q, want %d", len(s.got), s.end, atLeast)
	}
	return nil
}

// complete counts the messages that end before an offset.
func (v *expected) complete(off int) (n int) {
	for n < v.whole && v.all[n].Off+uint64(v.all[n].Len) <= uint64(off) {
		n++
	}
	return n
}
