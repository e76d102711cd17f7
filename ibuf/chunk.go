package ibuf

import (
	"os"
	"sync/atomic"
	"weak"
)

// Chunk sizes: a channel starts small, so that thousands of quiet ones cost
// little, and grows by growFactor while its reads or writes fill what it has.
const (
	smallChunk = 4 << 10
	bigChunk   = 256 << 10
	growFactor = 4
	slotBlock  = 64
)

// A chunk is memory that many received messages share. Bytes are read into
// it, messages alias it, and it is filled again as soon as every message in it
// is closed: fresh memory for every read would be cold memory.
type chunk struct {
	buf   []byte
	r, w  int // buf[r:w] has arrived and belongs to no message yet
	slots []*[slotBlock]slot
	n     int          // slots in use, in order of arrival
	taken int          // slots handed out, taken <= n
	live  atomic.Int32 // messages not closed, and one more while a Framer fills the chunk
	next  *chunk       // the next one with messages not handed out
	home  *Framer
}

// A slot is what the Framer knows about one message. Its address is stable
// and it is used again with its chunk; gen tells one use from the next. It is
// atomic for those who hold a closed message while another goroutine has the
// next one: they look at nothing else.
type slot struct {
	view View // the whole message; its position is the caller's
	c    *chunk
	fd   int      // -1 for none
	file *os.File // or the file itself, where the message was a Buffer before
	lost bool     // the header promised a file that did not come
	gen  atomic.Uint32
}

// add returns the next free slot.
func (c *chunk) add() *slot {
	if c.n == len(c.slots)*slotBlock {
		b := new([slotBlock]slot)
		for i := range b {
			b[i].c = c
		}
		c.slots = append(c.slots, b)
	}
	s := &c.slots[c.n/slotBlock][c.n%slotBlock]
	c.n++
	return s
}

// take returns the oldest slot that was not handed out yet. There must be one.
func (c *chunk) take() *slot {
	s := &c.slots[c.taken/slotBlock][c.taken%slotBlock]
	c.taken++
	return s
}

// compact moves what belongs to no message yet to the front. Every message of
// the chunk must be closed.
func (c *chunk) compact() {
	c.n, c.taken = 0, 0
	if c.r == 0 {
		return
	}
	t := copy(c.buf, c.buf[c.r:c.w])
	clear(c.buf[max(c.r, t):c.w])
	c.r, c.w = 0, t
}

// release gives up one reference. The last one puts the chunk on its shelf.
func (c *chunk) release() {
	if c.live.Add(-1) == 0 {
		if h := &c.home.shelf; !h.idle.Load() {
			h.free.Store(c)
		}
	}
}

// A shelf keeps at most one chunk for its next use: firmly while the channel
// is busy, weakly (so that the garbage collector may have it) while it is idle.
type shelf struct {
	free atomic.Pointer[chunk] // put there by whoever closes the last message
	idle atomic.Bool
	weak weak.Pointer[chunk] // only the Framer touches it
}

// chunk returns a chunk of at least size bytes with one reference.
func (f *Framer) chunk(size int) *chunk {
	h := &f.shelf
	h.idle.Store(false)
	c := h.free.Swap(nil)
	if c == nil {
		c = h.weak.Value()
	}
	h.weak = weak.Pointer[chunk]{}
	if c == nil || len(c.buf) < size {
		c = &chunk{buf: make([]byte, size), home: f}
	}
	c.n, c.taken, c.r, c.w = 0, 0, 0, 0
	c.live.Store(1)
	return c
}

// rest keeps c weakly, and nothing else, until the channel is busy again.
func (h *shelf) rest(c *chunk) {
	h.idle.Store(true)
	h.free.Store(nil)
	h.weak = weak.Make(c)
}
