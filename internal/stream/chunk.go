package stream

import (
	"math"
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
// it, messages alias it, and it is filled again, in another round, as soon as
// every message in it is closed: fresh memory for every read would be cold
// memory.
type chunk struct {
	buf    []byte
	r, w   int // buf[r:w] has arrived and belongs to no message yet
	blocks []*block
	n      uint   // slots in use, in order of arrival
	taken  uint   // slots handed out, taken <= n
	closed uint   // the first so many are closed, closed <= taken
	round  uint32 // of use, from 1
	next   *chunk // the next one with messages not handed out

	file      *os.File // of the only message, where that was a Buffer before
	closeFile func(fd int)
	self      weak.Pointer[chunk]
	kept
}

func newChunk(buf []byte, closeFile func(fd int)) *chunk {
	c := &chunk{buf: buf, closeFile: closeFile}
	c.self = keep(c, &c.kept)
	return c
}

// lastRound is the last one: a chunk is not used again after it.
const lastRound = math.MaxUint32

// A block is a part of a chunk's list of messages, whose address is stable.
type block struct {
	c     *chunk
	slots [slotBlock]slot
}

// A slot is one message: buf[beg:end] of its chunk. It is used again with its
// chunk and says in which round it was closed last, on whatever goroutine that
// was. Who holds a message of an earlier round looks at nothing else, so that
// is all that must be atomic. It is small: there is one for every message.
type slot struct {
	beg, end uint32
	pos      uint32 // the caller's read position
	fd       int32  // or noFile, lostFile
	closed   atomic.Uint32
}

const (
	noFile   = -1
	lostFile = -2 // the header promised one that did not come
	ownFile  = -3 // the chunk's file
)

// slot returns the message i.
func (c *chunk) slot(i uint) *slot { return &c.blocks[i/slotBlock].slots[i%slotBlock] }

// add makes a message of n bytes, hdr of them header, that begins at beg.
func (c *chunk) add(beg, hdr, n, fd int) {
	i := c.n
	if i/slotBlock == uint(len(c.blocks)) {
		c.blocks = append(c.blocks, &block{c: c})
	}
	c.n = i + 1
	s := c.slot(i)
	s.beg, s.pos, s.end, s.fd = uint32(beg), uint32(beg+hdr), uint32(beg+n), int32(fd)
}

// take returns the oldest message that was not handed out yet. There must be
// one.
func (c *chunk) take() Frame {
	i := c.taken
	c.taken++
	return Frame{c.blocks[i/slotBlock], c.round, uint32(i % slotBlock)}
}

// drop closes the file of a message.
func (c *chunk) drop(fd int32) error {
	if fd == ownFile {
		return c.file.Close()
	}
	if fd >= 0 {
		c.closeFile(int(fd))
	}
	return nil
}

// pending returns the bytes of the messages that were not handed out.
func (c *chunk) pending() int {
	if c.taken == c.n {
		return 0
	}
	return c.r - int(c.slot(c.taken).beg)
}

// free reports whether the chunk can be used for another round: every message
// in it is closed.
func (c *chunk) free() bool {
	for c.closed < c.n {
		if c.slot(c.closed).closed.Load() != c.round {
			return false
		}
		c.closed++
	}
	return c.round < lastRound
}

// compact begins another round: the chunk's memory is free again, but for what
// belongs to no message yet, which moves to the front. It must be free.
func (c *chunk) compact() {
	c.n, c.taken, c.closed = 0, 0, 0
	c.round++
	if c.r == 0 {
		return
	}
	t := copy(c.buf, c.buf[c.r:c.w])
	clear(c.buf[max(c.r, t):c.w])
	c.r, c.w = 0, t
}
