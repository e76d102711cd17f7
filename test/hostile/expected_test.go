package hostile_test

import (
	"encoding/binary"
	"fmt"

	"example.org/imsg"
)

// What a target must make of a stream, by a reader that is written after
// doc/wire.md, sees the whole stream at once and shares no code with the library.

// A shipment is what the kernel took with one call of an attacker: a range of
// the stream, and the identity of the file that came with it, 0 for none.
type shipment struct {
	beg, end int
	file     uint64
}

// A wantMessage is a whole header at an offset of the stream.
type wantMessage struct {
	off, n int
	mark   bool
	fifo   bool   // files are paired in order, and not by range
	file   uint64 // that must come with it, if sure
	sure   bool
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

// A expected is what a stream means.
type expected struct {
	all       []wantMessage // the last one may be incomplete
	whole     int           // so many are complete
	end       string
	badLen    int // the length in a bad header
	badOff    int // its offset, or -1
	mustFiles int // the shipment that must end the stream with too many files, or -1
	mayFiles  int // the one that may
}

// maxHeld is how many files wait for a message in a FIFO.
const maxHeld = 16

// lengthWord reads bytes 4 to 7 of a header.
func lengthWord(d imsg.Dialect, h []byte) (n int64, mark bool, flags uint16) {
	if d == imsg.Legacy {
		flags = binary.NativeEndian.Uint16(h[6:])
		return int64(binary.NativeEndian.Uint16(h[4:])), flags&1 != 0, flags
	}
	v := binary.NativeEndian.Uint32(h[4:])
	return int64(v & 0x7fffffff), v>>31 != 0, 0
}

// judge cuts the stream into messages as a reader that speaks d.
func judge(stream []byte, d imsg.Dialect, limit int) (v expected) {
	v.mustFiles, v.mayFiles, v.badOff = -1, -1, -1
	valid := func(n int64) bool { return n >= 16 && n <= int64(limit) }
	off := 0
	for {
		rest := stream[off:]
		if len(rest) < 16 {
			v.end = endBetween
			if len(rest) > 0 {
				v.end = endInside
			}
			return v
		}
		n, mark, _ := lengthWord(d, rest)
		if d == imsg.Auto {
			ln, lmark, flags := lengthWord(imsg.Legacy, rest)
			switch {
			case valid(n) && (mark || ln != n):
				d = imsg.Current
			case !valid(n) && valid(ln) && flags <= 1:
				d, n, mark = imsg.Legacy, ln, lmark
			}
		}
		if !valid(n) {
			v.end, v.badLen, v.badOff = endHeader, int(n), off
			return v
		}
		v.all = append(v.all, wantMessage{off: off, n: int(n), mark: mark, fifo: d != imsg.Current})
		if int64(len(rest)) < n {
			v.end = endInside
			return v
		}
		v.whole++
		off += int(n)
	}
}

// pair gives files to messages as if every shipment were read by itself. That
// is certain if lockstep says that it was so, and otherwise for as long as each
// file came with the first byte of a marked message, and each marked message
// with a file.
func (v *expected) pair(ships []shipment, d imsg.Dialect, lockstep bool) {
	var held []shipment
	next, files, clean, fifo := 0, 0, true, d != imsg.Current
	for i, s := range ships {
		if s.file != 0 {
			held = append(held, s)
			if files++; files > maxHeld && v.mayFiles < 0 {
				v.mayFiles = i
			}
			if s.end-s.beg > 32<<10 {
				lockstep = false // more than one of the kernel's buffers
			}
		}
		for next < len(v.all) && v.all[next].off+16 <= s.end {
			m := &v.all[next]
			next++
			if fifo = m.fifo; !fifo {
				for len(held) > 0 && held[0].end <= m.off {
					held, clean = held[1:], false
				}
			}
			if !m.mark {
				m.sure = true
				continue
			}
			if len(held) > 0 && (fifo || held[0].beg <= m.off) {
				clean = clean && held[0].beg == m.off
				m.file, held = held[0].file, held[1:]
			} else {
				clean = false
			}
			m.sure = clean || lockstep
		}
		if v.badOff >= 0 && s.end >= v.badOff+16 {
			return // the rest is not read
		}
		if fifo && lockstep && len(held) > maxHeld {
			v.mustFiles = i
			return
		}
	}
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
func (v *expected) compare(stream []byte, ships []shipment, s *seen) error {
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
		p := stream[m.off : m.off+m.n]
		ne := binary.NativeEndian
		want := imsg.Header{Type: ne.Uint32(p), ID: ne.Uint32(p[8:]), PID: int32(ne.Uint32(p[12:]))}
		if g.h != want || string(s.payload[g.beg:g.end]) != string(p[16:]) {
			return fmt.Errorf("message %d at offset %d: %+v with %d bytes, want %+v with %d bytes of the stream", i, m.off, g.h, g.end-g.beg, want, m.n-16)
		}
		if g.lost != (m.mark && g.file == 0) {
			return fmt.Errorf("message %d: mark %v, file %v, lost %v", i, m.mark, g.file != 0, g.lost)
		}
		if g.file == someFile && m.sure && m.file != 0 {
			g.file = m.file
		}
		if g.file != 0 {
			n := order[g.file]
			if g.file == someFile {
				n = last + 1
			}
			if !m.mark || !s.files || n <= last {
				return fmt.Errorf("message %d: mark %v, file passing %v, file of shipment %d after that of %d", i, m.mark, s.files, n-1, last-1)
			}
			last = n
		}
		if m.sure && s.files && !loose && g.file != m.file {
			// A file that came in a read without room for more may go to a
			// message in the next one, and then everything is later.
			if !stray[g.file] && (g.file != someFile || len(stray) == 0) {
				return fmt.Errorf("message %d at offset %d: file of shipment %d, want %d", i, m.off, order[g.file]-1, order[m.file]-1)
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
	for n < v.whole && v.all[n].off+v.all[n].n <= off {
		n++
	}
	return n
}
