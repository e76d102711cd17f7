package ibuf

import (
	"fmt"
	"io"
	"weak"
)

// A HeaderFunc looks at a message's header, which it must not keep, and tells
// the size of the whole message, header included, and whether the header says
// that a file comes with it. An error ends the stream. It must check the size
// against a maximum before it returns it: the Framer holds whole messages in
// memory. It corresponds to the readhdr callback of msgbuf_new_reader.
type HeaderFunc func(hdr []byte) (size int, file bool, err error)

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
	HeaderSize int        // bytes of a header, at least 1
	Header     HeaderFunc // parses one

	// HoldFiles is how many descriptors may wait for a later header to claim
	// them; one more ends the stream. With 0 a descriptor belongs to a header
	// that began in the bytes it arrived with, and is closed when there is none.
	HoldFiles int

	// CloseFile closes a descriptor that nobody claimed; nil means close(2).
	CloseFile func(fd int)

	cur        *chunk              // being filled
	head, tail *chunk              // those with messages not handed out, oldest first
	old        *chunk              // filled before cur, with messages that were not closed then
	idle       weak.Pointer[chunk] // what cur was before the stream became idle
	want       int                 // size of the next chunk
	pending    int                 // bytes of complete messages not handed out

	off  uint64 // stream offset of cur.buf[cur.r]
	need int    // size of the message that begins there, 0 before its header is whole
	mark bool   // it says that a file comes along
	fd   int    // that file, or -1

	files []heldFile
	err   error
}

// Space returns memory to read the next bytes of the stream into; it is never
// empty. Pass what arrived to Fed. The memory belongs to the Framer and is
// valid until the next call.
func (f *Framer) Space() []byte {
	c := f.cur
	if c == nil {
		if f.want == 0 {
			f.want = smallChunk
		}
		f.cur = f.chunk(f.want)
		return f.cur.buf
	}
	tail := c.w - c.r
	size := f.want
	if f.need > size {
		// Grow with what arrived, not with what the header announced.
		size = max(size, min(f.need, 2*tail))
	}
	room := len(c.buf) - c.w
	if c.free() {
		if len(c.buf) >= size {
			c.compact()
			return c.buf[c.w:]
		}
	} else if room >= len(c.buf)/4 && f.need-tail <= room {
		return c.buf[c.w:]
	} else if f.want < bigChunk {
		f.want *= growFactor // more is held than the chunk has room for
		size = max(size, f.want)
	}
	n := f.chunk(size)
	n.w = copy(n.buf, c.buf[c.r:c.w])
	clear(c.buf[c.r:c.w])
	c.w = c.r
	f.cur, f.old = n, c
	return n.buf[n.w:]
}

// chunk returns an empty chunk of at least size bytes.
func (f *Framer) chunk(size int) *chunk {
	c := f.idle.Value()
	f.idle = weak.Pointer[chunk]{}
	if c == nil && f.old != nil && f.old.free() {
		c = f.old
	}
	if c == nil || len(c.buf) < size {
		c = &chunk{buf: make([]byte, size), closeFile: f.closeFile}
	}
	c.compact()
	return c
}

// Fed tells the Framer that n bytes arrived in the memory Space returned, with
// one descriptor (-1 for none), which is the Framer's from here on. lost says
// that one should have come but was dropped on the way: its message will tell.
// Every message that is complete now can be had from Next, even when Fed
// returns an error; after an error the stream is over and Fed repeats it.
func (f *Framer) Fed(n, fd int, lost bool) error {
	f.arrived(n, fd, lost)
	if f.err != nil {
		return f.end(f.err)
	}
	if n == 0 {
		return nil
	}
	c := f.cur
	c.w += n
	if c.w == len(c.buf) && f.want < bigChunk {
		f.want *= growFactor
	}
	before := c.n
	err := f.cut(c)
	f.ready(c, before)
	return f.end(err)
}

// end ends the stream if err is not nil: no message can claim a file any more.
func (f *Framer) end(err error) error {
	if err != nil {
		f.err = err
		f.dropAll()
	}
	return err
}

// ready puts c, which had n messages before, in the row from which Next takes.
func (f *Framer) ready(c *chunk, n int) {
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
		avail := c.w - c.r
		if f.need == 0 {
			if avail < f.HeaderSize {
				break
			}
			size, mark, err := f.Header(c.buf[c.r : c.r+f.HeaderSize])
			if err != nil {
				return err
			}
			if size < f.HeaderSize {
				return fmt.Errorf("ibuf: message of %d bytes with a header of %d: %w", size, f.HeaderSize, ErrInvalid)
			}
			f.need, f.mark, f.fd = size, mark, -1
			if len(f.files) > 0 {
				f.claim()
			}
		}
		if avail < f.need {
			break
		}
		s := c.add()
		end := c.r + f.need
		s.view.buf, s.view.pos = c.buf[c.r:end:end], f.HeaderSize
		s.fd, s.lost = f.fd, f.mark && f.fd < 0
		c.r = end
		f.pending += f.need
		f.off += uint64(f.need)
		f.need, f.fd = 0, -1
	}
	if len(f.files) == 0 {
		return nil
	}
	f.expire(f.off + uint64(f.need))
	if f.HoldFiles > 0 && len(f.files) > f.HoldFiles {
		return fmt.Errorf("ibuf: %d files that no message claims, limit %d: %w", len(f.files), f.HoldFiles, ErrTooLarge)
	}
	return nil
}

// Next returns the oldest message that is complete. The caller must close it.
// It corresponds to msgbuf_get.
func (f *Framer) Next() (Frame, bool) {
	c := f.head
	if c == nil {
		return Frame{}, false
	}
	s := c.take()
	if c.taken == c.n {
		// Unlinked, so that a message that is kept keeps its own chunk only.
		if f.head, c.next = c.next, nil; f.head == nil {
			f.tail = nil
		}
	}
	f.pending -= len(s.view.buf)
	return Frame{s, s.open}, true
}

// Pending returns the number of bytes of complete messages that were not
// handed out.
func (f *Framer) Pending() int { return f.pending }

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

// Idle says that the stream has nothing more for now. A Framer that holds
// nothing lets go of its big buffer: the garbage collector may have it.
func (f *Framer) Idle() {
	f.old = nil
	c := f.cur
	if c == nil || len(c.buf) <= smallChunk || c.w > c.r || !c.free() {
		return
	}
	f.cur, f.idle = nil, weak.Make(c)
	f.want = smallChunk
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
	f.need, f.mark = 0, false
}
