package stream

import (
	"os"
	"slices"
	"sync"
)

// A Writer is a queue of messages to be written: ranges of its own chunks, into
// which messages are encoded one behind the other, and memory handed over
// whole. It makes no system call: Pending tells what the next write should
// carry, Consume how far it got. A message's file goes with its first byte, and
// a write carries at most one file, at its beginning.
//
// The zero Writer is empty and ready. It must not be used by several goroutines
// at a time, with one exception: what Pending returned may be read (written to
// a socket, that is) while messages are added.
//
// What was written is cleared, and its memory used again for later messages of
// the same Writer, of no other one. An empty Writer holds nothing but what the
// garbage collector may take, and an oversized chunk not even that. The memory
// of all that waits is at most half as much again as Size says.
type Writer struct {
	segs  []segment // what is not written yet is segs[head:]
	head  int
	sizes []uint32 // of the messages, sizes[first:]
	first int
	part  int    // so many bytes of the first one are written
	end   uint64 // stream offset behind the last message, but for used
	gone  uint64 // bytes written or removed
	files int
	bufs  [][]byte // what Pending returned

	sentMessages, sentFiles uint64

	cur   *outChunk // messages are encoded at its end
	mem   []byte    // all of its memory while the last segment grows, nil otherwise
	used  int       // of mem; the chunk and the segment say less
	pools *outPools // nil before the first use
	lists *outLists // where the lists came from
}

// A segment is a run of bytes that one write may carry with others.
type segment struct {
	at       uint64    // stream offset of the first byte
	c        *outChunk // c.buf[beg:end] is not written yet
	beg, end int
	file     *os.File // goes with the first byte
	owned    bool     // file is closed when it was sent
}

func (s *segment) len() int { return s.end - s.beg }

// outChunk is memory of messages; len(buf) of it is in use.
type outChunk struct {
	buf     []byte
	n       int    // segments in it
	release func() // gives back memory that is not the Writer's
}

type outPools struct {
	chunks pools
	lists  sync.Pool // of *outLists, while the queue is empty
	want   int       // size of the next chunk
	began  uint64    // stream offset where the queue was empty last
}

type outLists struct {
	segs  []segment
	sizes []uint32
	bufs  [][]byte
}

// Longer lists are not kept for later.
const (
	keepSegments = 64
	keepSizes    = bigChunk / 16
)

// Append adds a message of n bytes and returns its memory, to be filled before
// any other call but Pending's and Consume's of what was queued before. The file,
// if not nil, goes along: owned says that the queue closes it when it was sent
// or dropped, otherwise it must stay open until then.
func (w *Writer) Append(n int, file *os.File, owned bool) []byte {
	if n > bigChunk/4 && n > w.Available() { // no chunk would be used well
		p := make([]byte, n)
		w.add(&outChunk{buf: p}, n, file, owned)
		w.end += uint64(n)
		w.sizes = append(w.sizes, uint32(n))
		return p
	}
	if file != nil || n > w.Available() {
		w.begin(n, file, owned)
	}
	return w.Extend(n)
}

// Available returns how many bytes Extend can add.
func (w *Writer) Available() int { return len(w.mem) - w.used }

// Extend is Append of a message without a file and of not more than Available bytes.
// It is small enough to be inlined, which matters with small messages.
func (w *Writer) Extend(n int) []byte {
	w.sizes = append(w.sizes, uint32(n))
	return w.extend(n)
}

// extend returns the next n bytes of memory.
func (w *Writer) extend(n int) []byte {
	beg := w.used
	w.used = beg + n
	return w.mem[beg:w.used]
}

// AppendOwned adds a message that is n bytes, which may be 0 and are to be filled
// as with Append, followed by body. The queue owns body and the file, which may
// be nil, from here on: it closes the file when it was sent, and calls release
// when body was written, or both when the message is dropped.
func (w *Writer) AppendOwned(n int, body []byte, file *os.File, release func()) (head []byte) {
	if n > 0 {
		w.begin(n, file, true)
		head = w.extend(n)
		file = nil
	}
	w.add(&outChunk{buf: body, release: release}, len(body), file, true)
	w.end += uint64(len(body))
	w.sizes = append(w.sizes, uint32(n+len(body)))
	return head
}

// add adds a segment for the bytes that are, or will be, at the end of c.
func (w *Writer) add(c *outChunk, n int, file *os.File, owned bool) {
	w.seal()
	if file != nil {
		w.files++
	}
	c.n++
	w.segs = append(w.segs, segment{at: w.end, c: c, beg: len(c.buf) - n, end: len(c.buf), file: file, owned: owned})
}

// begin makes the last segment one that grows with the chunk, in which there is
// room for n bytes: a new one where a file begins.
func (w *Writer) begin(n int, file *os.File, owned bool) {
	w.seal()
	c := w.cur
	if c == nil || cap(c.buf)-len(c.buf) < n {
		c = w.room(n)
	}
	last := len(w.segs) - 1
	if file != nil || last < w.head || w.segs[last].c != c || w.segs[last].end != len(c.buf) || w.gap() {
		w.add(c, 0, file, owned)
	}
	w.mem, w.used = c.buf[:cap(c.buf)], len(c.buf)
	w.end -= uint64(w.used) // below 0 is fine: seal adds it
}

// gap reports whether a message was removed behind the last segment.
func (w *Writer) gap() bool {
	s := &w.segs[len(w.segs)-1]
	return s.at+uint64(s.len()) != w.end
}

// seal ends the growth of the last segment.
func (w *Writer) seal() {
	if w.mem != nil {
		w.cur.buf = w.mem[:w.used]
		w.segs[len(w.segs)-1].end = w.used
		w.end += uint64(w.used)
		w.mem, w.used = nil, 0
	}
}

// room makes a chunk with room for n bytes the current one.
func (w *Writer) room(n int) *outChunk {
	if w.pools == nil {
		w.pools = new(outPools)
	}
	old := w.cur
	if old != nil {
		w.pools.want = min(cap(old.buf)*growFactor, bigChunk)
	}
	free, size := w.pools.chunks.get(max(n, w.pools.want))
	c, _ := free.(*outChunk)
	if c == nil {
		c = &outChunk{buf: make([]byte, 0, size)}
	}
	c.buf = c.buf[:0]
	if w.segs == nil {
		if w.lists, _ = w.pools.lists.Get().(*outLists); w.lists != nil {
			w.segs, w.sizes, w.bufs = w.lists.segs, w.lists.sizes, w.lists.bufs
		}
	}
	w.cur = c
	if old != nil && old.n == 0 {
		w.free(old)
	}
	return c
}

// drop takes one segment off c.
func (w *Writer) drop(c *outChunk) {
	if c.n--; c.n == 0 && c != w.cur {
		w.free(c)
	}
}

// free gives back memory that was cleared.
func (w *Writer) free(c *outChunk) {
	if c.release != nil {
		c.release()
	} else if w.pools != nil {
		w.pools.chunks.put(c, cap(c.buf))
	}
}

// Pending returns what the next write should carry, and the file that must go
// with it, or nil: whole segments up to the next file, in not more than max
// pieces. What it returns stays valid until Consume.
func (w *Writer) Pending(max int) ([][]byte, *os.File) {
	w.seal()
	w.bufs = w.bufs[:0]
	if w.head == len(w.segs) {
		return nil, nil
	}
	w.gather(w.head, max)
	return w.bufs, w.segs[w.head].file
}

// A Group is what one of several writes should carry, as Pending returns it.
type Group struct {
	Bufs [][]byte
	File *os.File
}

// PendingGroups is Pending for several writes, one behind the other. It fills
// groups, with not more than max pieces altogether, and returns how many groups
// there are.
func (w *Writer) PendingGroups(groups []Group, max int) (n int) {
	w.seal()
	w.bufs = w.bufs[:0]
	for i := w.head; i < len(w.segs) && n < len(groups) && len(w.bufs) < max; n++ {
		beg, file := len(w.bufs), w.segs[i].file
		i = w.gather(i, max)
		groups[n] = Group{w.bufs[beg:len(w.bufs):len(w.bufs)], file}
	}
	return n
}

// gather adds to w.bufs what is in the segments from the i-th on up to the next
// file, while there are less than max pieces. It returns where that ended.
func (w *Writer) gather(i, max int) int {
	var last *segment
	for first := i; i < len(w.segs); i++ {
		s := &w.segs[i]
		if i > first && s.file != nil {
			break
		}
		if s.len() == 0 {
			continue
		}
		n := len(w.bufs)
		if last != nil && last.c == s.c && last.end == s.beg { // behind a removed message
			p := w.bufs[n-1]
			w.bufs[n-1] = p[:len(p)+s.len()]
		} else if n == max {
			break
		} else {
			w.bufs = append(w.bufs, s.c.buf[s.beg:s.end])
		}
		last = s
	}
	return i
}

// Consume tells that n bytes of what Pending returned were written, and with the
// first of them the file. Memory that was written is cleared. A file that the
// queue owns is closed.
func (w *Writer) Consume(n int) {
	w.seal()
	clear(w.bufs)
	w.gone += uint64(n)
	w.part += n
	for w.head < len(w.segs) {
		s := &w.segs[w.head]
		if s.file != nil && (n > 0 || s.len() == 0) {
			w.sentFiles++
			w.dropFile(s)
		}
		k := min(n, s.len())
		clear(s.c.buf[s.beg : s.beg+k])
		s.beg, s.at = s.beg+k, s.at+uint64(k)
		n -= k
		if s.len() > 0 {
			break
		}
		w.shift()
	}
	sent, part := 0, w.part // for each message: as little as possible
	for _, size := range w.sizes[w.first:] {
		if part < int(size) {
			break
		}
		part -= int(size)
		sent++
	}
	w.first, w.part = w.first+sent, part
	w.sentMessages += uint64(sent)
	if w.first == len(w.sizes) && w.head == len(w.segs) {
		w.rest()
	} else if w.first > 1024 && w.first > len(w.sizes)/2 {
		w.sizes = w.sizes[:copy(w.sizes, w.sizes[w.first:])]
		w.first = 0
	}
}

// shift removes the first segment, which is written.
func (w *Writer) shift() {
	s := &w.segs[w.head]
	c := s.c
	*s = segment{}
	w.head++
	if w.head == len(w.segs) {
		w.segs, w.head = w.segs[:0], 0
	} else if w.head > 64 && w.head > len(w.segs)/2 {
		n := copy(w.segs, w.segs[w.head:])
		clear(w.segs[n:])
		w.segs, w.head = w.segs[:n], 0
	}
	w.drop(c)
}

func (w *Writer) dropFile(s *segment) {
	if s.file == nil {
		return
	}
	if s.owned {
		s.file.Close()
	}
	s.file = nil
	w.files--
}

// rest gives up the memory of an empty queue.
func (w *Writer) rest() {
	if c := w.cur; c != nil {
		w.cur = nil
		if p := w.pools; w.end-p.began < uint64(p.want/growFactor) { // smaller ones would do
			p.want /= growFactor
		}
		w.pools.began = w.end
		w.free(c)
		if cap(w.segs) <= keepSegments && cap(w.sizes) <= keepSizes {
			if w.lists == nil {
				w.lists = new(outLists)
			}
			*w.lists = outLists{w.segs[:0], w.sizes[:0], w.bufs[:0]}
			w.pools.lists.Put(w.lists)
		}
	}
	w.segs, w.sizes, w.bufs, w.lists, w.head, w.first, w.part = nil, nil, nil, nil, 0, 0, 0
}

// Remove takes the message that ends at stream offset end and is n bytes long
// out of the queue again, and reports whether it could: not when a part of it
// was written. Its memory is free at once. No write of what Pending returned
// may be under way.
func (w *Writer) Remove(end uint64, n int) bool {
	w.seal()
	beg := end - uint64(n)
	if beg < w.Start() || n == 0 {
		return false
	}
	behind := 0 // bytes of later messages
	for i := len(w.segs) - 1; i >= w.head; i-- {
		s := &w.segs[i]
		next := s.at + uint64(s.len())
		if next <= beg {
			break
		}
		if s.at >= end {
			behind += s.len()
			continue
		}
		if next > end {
			behind += int(next - end)
		}
		if s.at == beg {
			w.dropFile(s)
		}
		w.cut(i, int(max(beg, s.at)-s.at), int(min(end, next)-s.at))
	}
	k := len(w.sizes) - 1
	for behind > 0 || w.sizes[k] == 0 {
		behind -= int(w.sizes[k])
		k--
	}
	w.sizes = slices.Delete(w.sizes, k, k+1)
	w.gone += uint64(n)
	if w.Len() == 0 {
		w.Clear()
	}
	return true
}

// cut removes the bytes from..to of the segment i and closes the gap in its
// chunk.
func (w *Writer) cut(i, from, to int) {
	s := &w.segs[i]
	c, n := s.c, to-from
	used := copy(c.buf[s.beg+from:], c.buf[s.beg+to:]) + s.beg + from
	clear(c.buf[used:])
	c.buf = c.buf[:used]
	for j := i + 1; j < len(w.segs); j++ {
		if t := &w.segs[j]; t.c == c {
			t.beg, t.end = t.beg-n, t.end-n
		}
	}
	tail := *s
	tail.at, tail.beg, tail.end, tail.file = s.at+uint64(to), s.beg+from, s.end-n, nil
	switch {
	case from == 0 && tail.len() == 0:
		w.segs = slices.Delete(w.segs, i, i+1)
		if w.drop(c); c == w.cur && c.n == 0 {
			w.cur = nil
			w.free(c)
			return
		}
	case from == 0:
		*s = tail
	default:
		s.end = s.beg + from
		if tail.len() > 0 {
			c.n++
			w.segs = slices.Insert(w.segs, i+1, tail)
		}
	}
	if c != w.cur && c.n > 0 && c.release == nil && used < cap(c.buf)/3*2 {
		w.shrink(c)
	}
}

// shrink moves what is left in a chunk to which nothing will be added to memory
// of its own.
func (w *Writer) shrink(c *outChunk) {
	beg := -1
	p := []byte(nil)
	for i := w.head; i < len(w.segs); i++ {
		s := &w.segs[i]
		if s.c != c {
			continue
		}
		if beg < 0 {
			beg = s.beg
			p = slices.Clone(c.buf[beg:])
		}
		s.beg, s.end = s.beg-beg, s.end-beg
	}
	clear(c.buf)
	c.buf = p
}

// First returns the message that the next write begins with: what it has in
// memory first, which is at least its header, the stream offset behind it, its
// size, and whether the queue owns the file that goes with it. ok is false if
// no file does, because it has none or a part of it was written.
func (w *Writer) First() (p []byte, end uint64, n int, owned, ok bool) {
	if w.Len() == 0 {
		return nil, 0, 0, false, false
	}
	w.seal()
	s, n := &w.segs[w.head], int(w.sizes[w.first])
	return s.c.buf[s.beg:s.end], s.at + uint64(n), n, s.owned, s.file != nil
}

// Each calls f with every message of which nothing was written: what it has in
// memory first, which is at least its header, the stream offset behind it, its
// size, and whether it has a file. What Pending returned must not be in use: f
// may change the message.
func (w *Writer) Each(f func(p []byte, end uint64, n int, file bool)) {
	w.seal()
	i, rest := w.first, 0 // rest of the message before sizes[i]
	if w.part > 0 {
		rest = int(w.sizes[i]) - w.part
		i++
	}
	for _, s := range w.segs[w.head:] {
		k := min(rest, s.len())
		rest -= k
		for k < s.len() {
			n := int(w.sizes[i])
			i++
			f(s.c.buf[s.beg+k:min(s.beg+k+n, s.end)], s.at+uint64(k+n), n, k == 0 && s.file != nil)
			rest = max(0, k+n-s.len())
			k += n - rest
		}
	}
}

// Start returns the stream offset up to which everything was written or removed.
func (w *Writer) Start() uint64 {
	if w.head == len(w.segs) {
		return w.end
	}
	return w.segs[w.head].at
}

// End returns the stream offset behind the last message.
func (w *Writer) End() uint64 { return w.end + uint64(w.used) }

// Len returns the number of messages that are not completely written.
func (w *Writer) Len() int { return len(w.sizes) - w.first }

// Size returns the number of bytes that are not written.
func (w *Writer) Size() int { return int(w.End() - w.gone) }

// Files returns the number of files that are not sent.
func (w *Writer) Files() int { return w.files }

// Sent returns how many messages were written completely so far, and how many
// files.
func (w *Writer) Sent() (messages, files uint64) { return w.sentMessages, w.sentFiles }

// Clear discards what was not written and closes the files that the queue
// owns. A message that was written in part stays torn: the stream must not be
// used after it.
func (w *Writer) Clear() {
	w.seal()
	clear(w.bufs)
	for w.head < len(w.segs) {
		s := &w.segs[w.head]
		w.dropFile(s)
		clear(s.c.buf[s.beg:s.end])
		w.shift()
	}
	w.gone = w.end
	w.rest()
}
