package capture

import (
	"fmt"
	"slices"
	"time"

	"example.org/imsg"
)

// A Call is what one system call moved.
type Call struct {
	Time  time.Time // of its end; the zero time if that is not known
	Bytes []byte    // all of them; those that were not captured are 0
	Files []File    // that went with it, From or To being their numbers in this process
	Lost  bool      // the kernel says that it dropped a file (MSG_CTRUNC)
	Full  bool      // a receive that had no room for more
	// Hidden are the ranges of Bytes that were not captured, in order.
	Hidden []Range
}

// A Range is the bytes from Beg to before End.
type Range struct{ Beg, End int }

// A track is one direction of a channel as the calls of one end show it: bytes
// and files go in, messages come out.
type track struct {
	layout  layout
	known   bool   // the layout is
	twin    *track // as the other end shows the same direction
	begun   bool   // what comes first may be the rest of a message
	max     int
	dead    bool   // what comes is no imsg, or not any more
	seen    bool   // a call was seen
	resync  bool   // a header was not captured: the next call must begin with one
	missed  uint64 // bytes that were left out for that
	buf     []byte
	mem     []byte // that buf begins in, to be used again
	off     uint64 // stream offset of buf[0]
	hidden  []span
	calls   []mark // ends of calls that are not behind buf
	files   []heldFile
	waiting bool // a whole header is at the front, and has taken its file
	head    head
	file    File
	hasFile bool
}

// A span is a range of the stream.
type span struct{ beg, end uint64 }

// A mark tells which call brought the bytes up to end.
type mark struct {
	end  uint64
	time time.Time
}

// A heldFile is a file that no message has claimed, and the stream range of the
// bytes that it came with.
type heldFile struct {
	File
	beg, end uint64
	open     bool // what the next call brings may belong to it
}

// A piece is a message as one end shows it.
type piece struct {
	head
	layout      layout
	raw         []byte // header and payload; valid until the next call
	first, last time.Time
	cut         int // bytes of the payload that were not captured, from its end
	file        File
	hasFile     bool
	unclaimed   []File // came with it, though its header announces none
}

// add takes what a call moved and gives each message that is whole now to out.
// An error says why the stream cannot be followed any more.
func (t *track) add(c *Call, out func(*piece)) error {
	t.seen = true
	if t.dead || len(c.Bytes) == 0 {
		return nil
	}
	if !t.known && !t.begin(c) {
		return nil
	}
	if t.resync && !t.again(c) {
		t.missed += uint64(len(c.Bytes))
		return nil
	}
	beg := t.off + uint64(len(t.buf))
	end := beg + uint64(len(c.Bytes))
	t.arrived(c, beg, end)
	for _, h := range c.Hidden {
		t.hidden = append(t.hidden, span{beg + uint64(h.Beg), beg + uint64(h.End)})
	}
	t.buf = append(t.buf, c.Bytes...)
	t.mem = t.buf
	t.calls = append(t.calls, mark{end, c.Time})
	err := t.cut(out)
	t.forget()
	return err
}

var allLayouts = new(Options).layouts()

// begin decides with the first call whether this is imsg, and in which layout.
func (t *track) begin(c *Call) bool {
	p := c.Bytes
	if len(c.Hidden) > 0 {
		p = p[:c.Hidden[0].Beg]
	}
	if t.begun {
		// A call that is so many whole messages is no rest of one.
		best, _ := guess(allLayouts, p, t.max, true)
		if len(p) < len(c.Bytes) || best.failed {
			return false
		}
		t.layout, t.known = best.layout, true
		return true
	}
	if len(t.buf)+len(p) < imsg.HeaderSize {
		// A header in pieces: nothing is decided.
		if len(c.Hidden) > 0 {
			t.dead = true
		}
		return !t.dead
	}
	if len(t.buf) > 0 {
		p = append(slices.Clone(t.buf), p...)
	}
	if o := t.twin; o.known { // it has seen the same bytes, or more of them
		_, ok := o.layout.parse(p, t.max, t.holds(c))
		t.layout, t.known, t.dead = o.layout, ok, !ok
		return ok
	}
	best, _ := guess(allLayouts, p, t.max, false)
	if best.none() || best.failed && len(c.Hidden) == 0 {
		t.dead = true
		return false
	}
	if best.messages == 0 && !best.big { // only a file can tell
		best.dialect = Either
	}
	t.layout, t.known = best.layout, true
	return true
}

// holds reports whether a file waits, or comes with a call.
func (t *track) holds(c *Call) bool { return len(t.files)+len(c.Files) > 0 || c.Lost }

// again decides whether c, which follows bytes that were not captured, begins
// with a header.
func (t *track) again(c *Call) bool {
	if len(c.Bytes) < imsg.HeaderSize || len(c.Hidden) > 0 && c.Hidden[0].Beg < imsg.HeaderSize {
		return false
	}
	if _, ok := t.layout.parse(c.Bytes, t.max, len(c.Files) > 0); !ok {
		return false
	}
	t.resync = false
	return true
}

// arrived notes the files of a call; doc/wire.md has the rules.
func (t *track) arrived(c *Call, beg, end uint64) {
	if n := len(t.files); n > 0 && t.files[n-1].open {
		t.files[n-1].end = end
		t.files[n-1].open = c.Full && len(c.Files) == 0
	}
	for _, f := range c.Files {
		t.files = append(t.files, heldFile{f, beg, end, c.Full})
	}
	if c.Lost && len(c.Files) == 0 {
		t.files = append(t.files, heldFile{File{From: -1, To: -1, Lost: true}, beg, end, c.Full})
	}
}

// cut gives the messages that are whole to out.
func (t *track) cut(out func(*piece)) error {
	for {
		if !t.waiting {
			if len(t.buf) < imsg.HeaderSize || !t.known {
				return nil
			}
			if t.hides(t.off, t.off+imsg.HeaderSize) {
				t.lose()
				return nil
			}
			h, ok := t.layout.parse(t.buf, t.max, len(t.files) > 0)
			if !ok {
				t.dead = true
				return fmt.Errorf("after %d bytes: %w", t.off, t.layout.notHeader(t.buf, t.max))
			}
			t.head, t.waiting = h, true
			t.layout.dialect = h.dialect
			t.hasFile = false
			if h.marked {
				t.file, t.hasFile = t.claim()
			}
		}
		n := t.head.n
		if len(t.buf) < n {
			return nil
		}
		t.give(n, out)
		t.waiting = false
		t.buf = t.buf[n:]
		t.off += uint64(n)
	}
}

// give makes a piece of the first n bytes.
func (t *track) give(n int, out func(*piece)) {
	end := t.off + uint64(n)
	p := piece{head: t.head, layout: t.layout, raw: t.buf[:n], file: t.file, hasFile: t.hasFile}
	for _, r := range t.hidden {
		// What is behind the first gap does not count: a payload with a hole helps nobody.
		if r.end > t.off && r.beg < end {
			keep := max(r.beg, t.off) - t.off
			p.raw, p.cut = p.raw[:keep], n-int(keep)
			break
		}
	}
	for _, c := range t.calls {
		if p.first.IsZero() && c.end > t.off {
			p.first = c.time
		}
		p.last = c.time
		if c.end >= end {
			break
		}
	}
	if t.layout.dialect != Legacy {
		i := 0
		for ; i < len(t.files) && !t.files[i].open && t.files[i].end <= end; i++ {
			p.unclaimed = append(p.unclaimed, t.files[i].File)
		}
		t.files = slices.Delete(t.files, 0, i)
	}
	out(&p)
}

// claim returns the file of the marked message that begins the buffer.
func (t *track) claim() (File, bool) {
	if len(t.files) > 0 {
		if h := t.files[0]; t.layout.dialect == Legacy || h.beg <= t.off {
			t.files = slices.Delete(t.files, 0, 1)
			return h.File, !h.Lost
		}
	}
	return File{From: -1, To: -1, Lost: true}, false
}

// hides reports whether a part of a range of the stream was not captured.
func (t *track) hides(beg, end uint64) bool {
	for _, r := range t.hidden {
		if r.beg < end && r.end > beg {
			return true
		}
	}
	return false
}

// lose gives up what was captured: a header is not among it.
func (t *track) lose() {
	t.off += uint64(len(t.buf))
	t.missed += uint64(len(t.buf))
	t.buf = t.buf[:0]
	t.resync = true
}

// forget drops what is behind the stream's offset.
func (t *track) forget() {
	i := 0
	for i < len(t.hidden) && t.hidden[i].end <= t.off {
		i++
	}
	t.hidden = slices.Delete(t.hidden, 0, i)
	i = 0
	for i < len(t.calls) && t.calls[i].end <= t.off {
		i++
	}
	t.calls = slices.Delete(t.calls, 0, i)
	t.mem = append(t.mem[:0], t.buf...)
	t.buf = t.mem
}

// follows reports whether every call of this end was understood.
func (t *track) follows() bool { return t.seen && !t.dead && t.missed == 0 }

// rest describes what the track holds that is not a whole message, or "".
func (t *track) rest() string {
	switch {
	case t.missed > 0:
		return fmt.Sprintf("%d bytes are left out: the headers in them were not captured", t.missed)
	case t.dead || len(t.buf) == 0:
		return ""
	case t.waiting:
		return fmt.Sprintf("ends inside a message: %d of %d bytes after %d", len(t.buf), t.head.n, t.off)
	}
	return fmt.Sprintf("ends inside a header: %d bytes after %d", len(t.buf), t.off)
}
