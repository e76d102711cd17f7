package stream

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
)

// A Framer cuts a stream of bytes, and the descriptors that travel with it,
// into messages. It makes no system call but close(2) on descriptors that
// nobody claims: bytes and at most one descriptor go in, whole messages come
// out. Set the exported fields before the first use.
//
// The Framer owns every descriptor it is fed until a message claims it. It
// holds each one together with the range of the stream that it arrived with,
// so a header that arrived in pieces still finds its file.
//
// A Framer must not be used by several goroutines at a time. The messages it
// returned are independent of it: each may be closed on another goroutine.
type Framer struct {
	HeaderSize int // bytes of a header, at least 1

	// Header parses a header, which it must not keep: the size of the whole
	// message, header included, which it has checked against a maximum, and
	// whether a file belongs to the message. An error ends the stream.
	Header func(hdr []byte) (size int, file bool, err error)

	// PlainMax, if not 0, spares calls of Header, which cost more than a small
	// message does otherwise: a header whose 32 bits in host byte order at byte
	// PlainAt are a number from HeaderSize to PlainMax is that of a message of
	// so many bytes without a file. Header is asked about all others. The four
	// bytes must be in the header.
	PlainAt, PlainMax int

	// HoldFiles is how many descriptors may wait for a later header to claim
	// them; one more ends the stream. With 0 a descriptor belongs to a header
	// that began in the bytes it arrived with, and is closed when there is none.
	HoldFiles int

	// CloseFile closes a descriptor that nobody claimed; nil means close(2).
	CloseFile func(fd int)

	mem        *memory // nil before the first use
	cur        *chunk  // being filled; nil between messages
	head, tail *chunk  // those with messages not handed out, oldest first
	want       int     // size of the next chunk

	off  uint64 // stream offset of cur.buf[cur.r]
	need int    // size of the message that begins there, 0 before its header is whole
	file fileState

	small bool // a smaller chunk would have done the last time

	held *heldFiles // nil before the first file
	err  error
}

// Buffer returns memory to read the next bytes of the stream into; it is never
// empty. Tell Advance what arrived. The memory belongs to the Framer and is
// valid until the next call.
func (f *Framer) Buffer() []byte {
	f.want = max(f.want, smallChunk)
	c := f.cur
	if c == nil {
		c = f.next()
		f.cur = c
	}
	need := max(f.need, f.HeaderSize)
	tail, size, room := c.w-c.r, len(c.buf), len(c.buf)-c.w
	switch {
	case size > bigChunk && need <= bigChunk:
		// What a large message needed is not kept for small ones.
	case c.free():
		if size >= f.want && (need <= size || tail <= size/4*3) {
			c.compact()
			return c.buf[c.w:]
		}
	case c.files >= maxFiles:
	case room >= size/4 && need-tail <= room:
		return c.buf[c.w:]
	case f.want < bigChunk:
		f.grow() // more is held than the chunk has room for
	}
	// Grow with what arrived, not with what the header announced.
	f.move(c, max(f.want, tail+min(need-tail, tail))) // 2*tail may be too much for an int
	return f.cur.buf[f.cur.w:]
}

func (f *Framer) grow() {
	f.want *= growFactor
	f.small = false
}

// next returns the chunk to go on with when there is no current one.
func (f *Framer) next() *chunk {
	if f.mem == nil {
		f.mem = &memory{closeFile: f.closeFile()}
	}
	if c := f.mem.unpark(); c != nil {
		return c
	}
	return f.mem.get(f.want)
}

// move makes another chunk of at least size bytes the current one, to which
// moves what belongs to no message yet.
func (f *Framer) move(c *chunk, size int) {
	n := f.mem.get(size)
	n.w = copy(n.buf, c.buf[c.r:c.w])
	clear(c.buf[c.r:c.w])
	c.w = c.r
	f.cur = n
	c.finish()
	c.drop()
}

// Advance tells the Framer that n bytes arrived in the memory Buffer returned,
// behind those of earlier calls, with one descriptor (-1 for none), which is
// the Framer's from here on. lost says that one should have come but was
// dropped on the way: its message will tell. full says that the receive had no
// room for more: what the next one brings may have been sent together with the
// descriptor. Every message that is complete now can be had from Next, even
// when Advance returns an error; after an error the stream is over and Advance
// repeats it.
func (f *Framer) Advance(n, fd int, lost, full bool) error {
	f.arrived(n, fd, lost, full)
	if f.err != nil {
		return f.end(f.err)
	}
	if n == 0 {
		return f.end(nil)
	}
	c := f.cur
	c.w += n
	if c.w == len(c.buf) && f.want < bigChunk {
		f.grow()
	}
	before := c.n
	err := f.cut(c)
	f.ready(c, before)
	return f.end(err)
}

// end ends the stream if err is not nil: no message can claim a file any more.
// It is the last thing that a call does.
func (f *Framer) end(err error) error {
	if err != nil {
		f.err = err
		f.dropAll()
	}
	runtime.KeepAlive(f) // up to here, or the cleanup of f.held closes files in use
	return err
}

// ready puts c, which had n messages before, in the row from which Next takes.
func (f *Framer) ready(c *chunk, n uint) {
	if c.n == n {
		return
	}
	switch {
	case c.taken < n: // it is there already
	case f.head == nil:
		f.head, f.tail = c, c
	default:
		f.tail.next = c
		f.tail = c
	}
}

// cut makes messages of what has arrived.
func (f *Framer) cut(c *chunk) error {
	for {
		if f.need == 0 {
			f.cutPlain(c)
		}
		if f.need == 0 {
			if c.w-c.r < f.HeaderSize {
				break
			}
			if err := f.parse(c.buf[c.r : c.r+f.HeaderSize]); err != nil {
				return err
			}
		}
		if c.w-c.r < f.need {
			break
		}
		c.add(c.r, f.HeaderSize, f.need)
		switch f.file {
		case lostFile:
			c.slot(c.n - 1).file = lostFile
		case hasFile:
			c.setFile(f.held.take())
		}
		c.r += f.need
		f.off += uint64(f.need)
		f.need = 0
	}
	if f.Held() == 0 {
		return nil
	}
	f.expire(f.off + uint64(f.need))
	if n := f.Held(); f.HoldFiles > 0 && n > f.HoldFiles {
		return fmt.Errorf("%d files that no message claims, limit %d (MaxQueueFiles): %w", n, f.HoldFiles, ErrTooLarge)
	}
	return nil
}

// cutPlain is cut's fast path: it takes headers that are a plain length, without
// calling Header, up to the first that is not.
func (f *Framer) cutPlain(c *chunk) {
	if f.PlainMax <= 0 {
		return
	}
	p, beg, hdr, at, most := c.buf[:c.w], c.r, f.HeaderSize, f.PlainAt, f.PlainMax
	b, i := c.last, c.n
	for len(p)-beg >= hdr {
		n := int(binary.NativeEndian.Uint32(p[beg+at:]))
		if n < hdr || n > most {
			break
		}
		if len(p)-beg < n {
			f.need, f.file = n, noFile
			break
		}
		if b == nil || i%slotBlock == 0 { // as chunk.add, in line
			c.n = i
			b = c.begin()
		}
		b.slots[i%slotBlock] = slot{beg: uint32(beg), pos: uint32(beg + hdr), end: uint32(beg + n)}
		i++
		beg += n
	}
	c.n = i
	f.off += uint64(beg - c.r)
	c.r = beg
}

// parse asks about the header of the message that begins at c.r.
func (f *Framer) parse(hdr []byte) error {
	size, mark, err := f.Header(hdr)
	if err == nil && (size < f.HeaderSize || size > math.MaxInt32) {
		err = fmt.Errorf("message of %d bytes with a header of %d: %w", size, f.HeaderSize, ErrInvalid)
	}
	if err != nil {
		return err
	}
	f.need, f.file = size, noFile
	if mark {
		f.file = f.claim(f.off)
	}
	return nil
}

// Next returns the oldest message that is complete. The caller must close it.
func (f *Framer) Next() (Frame, bool) {
	c := f.head
	if c == nil {
		return Frame{}, false
	}
	m := c.take()
	if c.taken == c.n {
		f.taken(c)
	}
	return m, true
}

// NextRun is Next for the oldest messages that are neighbours, up to most of
// them: the first one, and how many there are. The others are first.Plus(1) and
// so on.
func (f *Framer) NextRun(most int) (first Frame, n int) {
	c := f.head
	if c == nil || most <= 0 {
		return Frame{}, 0
	}
	left := slotBlock - c.taken%slotBlock // of the block
	n = min(most, int(min(c.n-c.taken, left)))
	first = c.take()
	c.taken += uint(n - 1)
	if c.taken == c.n {
		f.taken(c)
	}
	return first, n
}

// taken forgets a chunk whose messages were all handed out: it is those
// messages' memory. An idle stream holds no buffer.
func (f *Framer) taken(c *chunk) {
	if f.head, c.next = c.next, nil; f.head == nil {
		f.tail = nil
	}
	if c == f.cur && c.r == c.w {
		small := c.w < len(c.buf)/growFactor
		if small && f.small { // it was not only the rest of a burst
			f.want = max(smallChunk, f.want/growFactor)
		}
		f.small = small
		f.cur = nil
		f.mem.park(c)
	}
}

// Pending returns the number of bytes of complete messages that were not
// handed out.
func (f *Framer) Pending() (n int) {
	for c := f.head; c != nil; c = c.next {
		n += c.pending()
	}
	return n
}

// EOF ends the stream and returns what that means here: io.EOF between
// messages, io.ErrUnexpectedEOF inside one, and the error that has ended the
// stream before. Files that no message has claimed are closed.
func (f *Framer) EOF() error {
	switch {
	case f.err != nil:
		return f.err
	case f.need > 0 || f.cur != nil && f.cur.w > f.cur.r:
		return f.end(io.ErrUnexpectedEOF)
	}
	return f.end(io.EOF)
}

// Release gives up memory that is not needed for the beginning of a message,
// as the stream has nothing more for now; the Framer starts small again.
func (f *Framer) Release() {
	f.want = smallChunk
	c := f.cur
	switch {
	case c == nil:
	case c.w == c.r:
		f.cur = nil
		f.mem.park(c)
	case len(c.buf) > smallChunk && c.w-c.r <= smallChunk/2:
		f.move(c, smallChunk)
	}
}

// Clear discards what was not handed out and closes its descriptors.
func (f *Framer) Clear() {
	for m, ok := f.Next(); ok; m, ok = f.Next() {
		m.Close()
	}
	f.dropAll()
	if c := f.cur; c != nil {
		clear(c.buf[c.r:c.w])
		f.off += uint64(c.w - c.r)
		c.w = c.r
	}
	f.need = 0
	f.Release()
	runtime.KeepAlive(f) // as in end
}
