package ibuf

import (
	"os"
	"sync/atomic"
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
	buf    []byte
	r, w   int // buf[r:w] has arrived and belongs to no message yet
	slots  []*[slotBlock]slot
	n      int    // slots in use, in order of arrival
	taken  int    // slots handed out, taken <= n
	closed int    // the first so many are closed, closed <= taken
	next   *chunk // the next one with messages not handed out

	closeFile func(fd int)
}

// A slot is what the Framer knows about one message. Its address is stable
// and it is used again with its chunk; gen tells one use from the next: it
// grows when the message is closed, on whatever goroutine that is. Who holds a
// closed message looks at nothing else, so gen is all that must be atomic.
type slot struct {
	view View // the whole message; its position is the caller's
	c    *chunk
	fd   int      // -1 for none
	file *os.File // or the file itself, where the message was a Buffer before
	lost bool     // the header promised a file that did not come
	open uint32   // gen while the message is open; for the Framer
	gen  atomic.Uint32
}

func (c *chunk) slot(i int) *slot { return &c.slots[i/slotBlock][i%slotBlock] }

// add returns the next free slot.
func (c *chunk) add() *slot {
	if c.n == len(c.slots)*slotBlock {
		b := new([slotBlock]slot)
		for i := range b {
			b[i].c = c
		}
		c.slots = append(c.slots, b)
	}
	s := c.slot(c.n)
	s.open = s.gen.Load()
	c.n++
	return s
}

// take returns the oldest slot that was not handed out yet. There must be one.
func (c *chunk) take() *slot {
	c.taken++
	return c.slot(c.taken - 1)
}

// free reports whether every message in the chunk is closed.
func (c *chunk) free() bool {
	for c.closed < c.n {
		if s := c.slot(c.closed); s.gen.Load() == s.open {
			return false
		}
		c.closed++
	}
	return true
}

// compact makes the chunk's memory free again, but for what belongs to no
// message yet, which moves to the front. Every message must be closed.
func (c *chunk) compact() {
	c.n, c.taken, c.closed = 0, 0, 0
	if c.r == 0 {
		return
	}
	t := copy(c.buf, c.buf[c.r:c.w])
	clear(c.buf[max(c.r, t):c.w])
	c.r, c.w = 0, t
}
