package stream

import (
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// Chunk sizes: a channel starts small, so that thousands of quiet ones cost
// little, and grows by growFactor while its reads or writes fill what it has.
const (
	smallChunk = 4 << 10
	bigChunk   = 256 << 10
	growFactor = 8
	slotBlock  = 32

	// maxFiles is how many messages with a file may share a chunk: one that is
	// still referred to keeps the descriptors of all that were dropped.
	maxFiles = 8
)

// memory is a Framer's own: a slice that somebody keeps after Close can show
// what arrives later on the same channel, but nothing of another one. A pool
// gives up what was not used between two garbage collections, so that an idle
// channel holds nothing, and a big chunk goes although small ones are in use.
type memory struct {
	chunks    pools
	parked    atomic.Pointer[chunk] // let go by the Framer, with messages that are open
	closeFile func(fd int)
}

// pools has free chunks by size: smallChunk to bigChunk. Others are left to
// the collector.
type pools [3]sync.Pool

// of returns the pool of the smallest chunks that have size bytes, and their
// size. There is none if that is over bigChunk.
func (p *pools) of(size int) (*sync.Pool, int) {
	n := smallChunk
	for i := range p {
		if size <= n {
			return &p[i], n
		}
		n *= growFactor
	}
	return nil, size
}

// get returns a chunk that has size bytes, or nil, and the size to make it.
func (p *pools) get(size int) (any, int) {
	pool, size := p.of(size)
	if pool == nil {
		return nil, size
	}
	return pool.Get(), size
}

// put takes a chunk of size bytes back.
func (p *pools) put(c any, size int) {
	if pool, n := p.of(size); pool != nil && n == size {
		pool.Put(c)
	}
}

// A chunk is memory that many received messages share. Bytes are read into
// it, messages alias it, and it is filled again, in another round, as soon as
// every message in it is closed: fresh memory for every read would be cold
// memory.
type chunk struct {
	mem    *memory // nil: made by NewFrame
	buf    []byte
	r, w   int // buf[r:w] has arrived and belongs to no message yet
	blocks []*block
	last   *block // to which the Framer adds messages; nil: none is begun
	n      uint   // slots in use, in order of arrival
	taken  uint   // slots handed out, taken <= n
	files  int    // messages that came with a file
	next   *chunk // the next one with messages not handed out
	file   *os.File

	round atomic.Uint32 // of use, from 1
	refs  atomic.Int32  // blocks that are not done, and 1 for the Framer
}

// lastRound is the last one: a chunk is not used again after it.
const lastRound = math.MaxUint32

// A block is a part of a chunk's list of messages, whose address is stable.
// The low half of its state has a bit for each message that is closed, the
// high half says how many are not, with fillRefs more while the Framer may add
// some: so closing takes one atomic operation for any number of neighbours.
// A stale handle, of an earlier round, looks at the state and then at the
// chunk's round, which changes before the state does.
type block struct {
	c     *chunk
	state atomic.Uint64
	files *blockFiles
	slots [slotBlock]slot
}

const (
	oneRef   = 1 << 32
	fillRefs = 1 << 16
)

// A slot is one message: buf[beg:end] of its chunk.
type slot struct {
	beg, end uint32
	pos      uint32 // the caller's read position
	file     fileState
	kept     bool
	closing  bool // a Run closes it
}

type fileState int8

const (
	noFile   fileState = iota
	lostFile           // the header promised one that did not come
	hasFile            // in the block's files
	ownFile            // the chunk's file
)

// blockFiles are the descriptors of a block's messages, -1 where there is
// none. If the block is collected they are closed: somebody has dropped a
// message that he should have closed.
type blockFiles struct {
	fd        [slotBlock]int32
	closeFile func(fd int)
}

func (f *blockFiles) close() {
	for _, fd := range f.fd {
		if fd >= 0 {
			f.closeFile(int(fd))
		}
	}
}

// slot returns the message i.
func (c *chunk) slot(i uint) *slot { return &c.blocks[i/slotBlock].slots[i%slotBlock] }

// add makes a message of n bytes, hdr of them header, that begins at beg.
func (c *chunk) add(beg, hdr, n int) {
	i := c.n
	b := c.last
	if b == nil || i%slotBlock == 0 {
		b = c.begin()
	}
	c.n = i + 1
	b.slots[i%slotBlock] = slot{beg: uint32(beg), pos: uint32(beg + hdr), end: uint32(beg + n)}
}

// begin returns the block in which the next message has its slot.
func (c *chunk) begin() *block {
	c.finish()
	i := int(c.n / slotBlock)
	if i == len(c.blocks) {
		c.blocks = append(c.blocks, &block{c: c})
	}
	b := c.blocks[i]
	c.last = b
	if n := c.n % slotBlock; n == 0 {
		b.state.Store(fillRefs * oneRef)
		c.refs.Add(1)
	} else if b.state.Add(uint64(fillRefs-n)*oneRef)>>32 == uint64(fillRefs-n) {
		c.refs.Add(1) // it was done
	}
	return b
}

// finish says that no message will be added to the block begun last, for now.
func (c *chunk) finish() {
	if b := c.last; b != nil {
		c.last = nil
		n := uint64((c.n-1)%slotBlock + 1)
		b.release(-((fillRefs - n) * oneRef))
	}
}

// setFile gives the message added last its descriptor.
func (c *chunk) setFile(fd int) {
	b, i := c.last, (c.n-1)%slotBlock
	if b.files == nil {
		b.files = &blockFiles{closeFile: c.mem.closeFile}
		for i := range b.files.fd {
			b.files.fd[i] = -1
		}
		runtime.AddCleanup(b, (*blockFiles).close, b.files)
	}
	c.files++
	b.slots[i].file, b.files.fd[i] = hasFile, int32(fd)
}

// release adds delta to the state; if nothing refers to the block any more it
// is done.
func (b *block) release(delta uint64) {
	if b.state.Add(delta)>>32 == 0 {
		b.c.drop()
	}
}

// drop gives up a reference. With the last one the chunk is free.
func (c *chunk) drop() {
	if c.refs.Add(-1) == 0 && c.mem != nil {
		c.mem.parked.CompareAndSwap(c, nil)
		c.mem.put(c)
	}
}

// take returns the oldest message that was not handed out yet. There must be
// one.
func (c *chunk) take() Frame {
	i := c.taken
	c.taken++
	return Frame{c.blocks[i/slotBlock], c.round.Load(), uint32(i % slotBlock)}
}

// pending returns the bytes of the messages that were not handed out.
func (c *chunk) pending() int {
	if c.taken == c.n {
		return 0
	}
	return c.r - int(c.slot(c.taken).beg)
}

// free reports whether the chunk, which the Framer holds, can be used for
// another round: every message in it is closed.
func (c *chunk) free() bool {
	refs := int32(1)
	if b := c.last; b != nil {
		if b.state.Load()>>32 != fillRefs-uint64((c.n-1)%slotBlock+1) {
			return false
		}
		refs++
	}
	return c.refs.Load() == refs && c.round.Load() < lastRound
}

// compact begins another round: the chunk's memory is free again, but for what
// belongs to no message yet, which moves to the front. It must be free.
func (c *chunk) compact() {
	c.n, c.taken, c.files, c.last = 0, 0, 0, nil
	c.refs.Store(1)
	c.round.Add(1)
	if c.r == 0 {
		return
	}
	t := copy(c.buf, c.buf[c.r:c.w])
	clear(c.buf[max(c.r, t):c.w])
	c.r, c.w = 0, t
}

// get returns an empty chunk of at least size bytes, which the Framer holds.
func (m *memory) get(size int) *chunk {
	free, size := m.chunks.get(size)
	c, _ := free.(*chunk)
	if c == nil {
		c = &chunk{mem: m, buf: make([]byte, size)}
	}
	c.compact()
	return c
}

// put takes a chunk back to which nothing refers.
func (m *memory) put(c *chunk) {
	if c.round.Load() < lastRound {
		c.r, c.w = 0, 0
		m.chunks.put(c, len(c.buf))
	}
}

// park lets go of a chunk in which nothing waits for more. While some of its
// messages are open the Framer can come back to it and fill it up; the last
// one that is closed frees it.
func (m *memory) park(c *chunk) {
	c.finish()
	if c.refs.Load() == 1 {
		m.put(c)
		return
	}
	m.parked.Store(c)
	c.drop()
}

// unpark returns the parked chunk if it still has open messages.
func (m *memory) unpark() *chunk {
	c := m.parked.Load()
	if c == nil || !m.parked.CompareAndSwap(c, nil) {
		return nil
	}
	for n := c.refs.Load(); n > 0; n = c.refs.Load() {
		if c.refs.CompareAndSwap(n, n+1) {
			return c
		}
	}
	return nil
}

// closeFile closes a descriptor that nobody claims.
func closeFile(fd int) { syscall.Close(fd) }
