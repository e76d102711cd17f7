package stream

import (
	"os"
	"sort"
	"weak"
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
type Writer struct {
	segs  []segment // what is not written yet is segs[head:]
	head  int
	ends  []uint64 // stream offsets behind each message, ends[first:]
	first int
	end   uint64 // stream offset behind the last message
	gone  uint64 // bytes written or removed
	files int
	bufs  [][]byte // what Pending returned

	sentMessages, sentFiles uint64

	cur   *outChunk // messages are encoded at its end
	grows bool      // and with it the last segment, whose p is out of date
	spare *outChunk
	idle  weak.Pointer[outChunk]
}

// A segment is a run of bytes that one write may carry with others.
type segment struct {
	p       []byte    // not written yet
	at      uint64    // stream offset of p[0]
	file    *os.File  // goes with p[0]
	owned   bool      // file is closed when it was sent
	release func()    // called when p was written
	chunk   *outChunk // p is in its memory
	retired bool      // nothing else will be: chunk is free when p is written
}

// outChunk is memory for encoded messages; len(buf) of it is in use. While the
// queue is empty it keeps the queue's lists too.
type outChunk struct {
	buf  []byte
	segs []segment
	ends []uint64
	bufs [][]byte
	self weak.Pointer[outChunk]
	kept
}

// Append adds a message of n bytes and returns its memory, to be filled before
// any other call but Pending's and Consume's of what was queued before. The file,
// if not nil, goes along: owned says that the queue closes it when it was sent
// or dropped, otherwise it must stay open until then.
func (w *Writer) Append(n int, file *os.File, owned bool) []byte {
	if file != nil || n > w.Available() {
		w.begin(n, file, owned)
	}
	return w.Extend(n)
}

// Available returns how many bytes Extend can add.
func (w *Writer) Available() int {
	if !w.grows {
		return 0
	}
	return cap(w.cur.buf) - len(w.cur.buf)
}

// Extend is Append of a message without a file and of not more than Available bytes.
// It is small enough to be inlined, which matters with small messages.
func (w *Writer) Extend(n int) []byte {
	w.finish(n)
	return w.cur.extend(n)
}

// extend returns the next n bytes of c, which must have room.
func (c *outChunk) extend(n int) []byte {
	beg := len(c.buf)
	c.buf = c.buf[:beg+n]
	return c.buf[beg : beg+n : beg+n]
}

// AppendOwned adds a message that is n bytes, which may be 0 and are to be filled
// as with Append, followed by body. The queue owns body and the file, which may
// be nil, from here on: it closes the file when it was sent, and calls release
// when body was written, or both when the message is dropped.
func (w *Writer) AppendOwned(n int, body []byte, file *os.File, release func()) (head []byte) {
	s := segment{p: body, at: w.end + uint64(n), release: release}
	if n > 0 {
		w.begin(n, file, true)
		head = w.cur.extend(n)
		w.seal()
	} else {
		w.seal()
		if s.file, s.owned = file, true; file != nil {
			w.files++
		}
	}
	w.segs = append(w.segs, s)
	w.finish(n + len(body))
	return head
}

// finish counts a message of n bytes that was added.
func (w *Writer) finish(n int) {
	w.end += uint64(n)
	w.ends = append(w.ends, w.end)
}

// begin makes the last segment one that grows with the chunk, in which there is
// room for n bytes: a new one where a file begins.
func (w *Writer) begin(n int, file *os.File, owned bool) {
	w.seal()
	c := w.cur
	if c == nil || cap(c.buf)-len(c.buf) < n {
		c = w.room(n)
	}
	w.grows = true
	if file != nil {
		w.files++
	} else if last := len(w.segs) - 1; last >= w.head && w.segs[last].chunk == c && w.segs[last].reaches(c) {
		return
	}
	w.segs = append(w.segs, segment{p: c.buf[len(c.buf):], at: w.end, chunk: c, file: file, owned: owned})
}

// reaches reports whether s goes to the end of c.
func (s *segment) reaches(c *outChunk) bool { return cap(s.p)-len(s.p) == cap(c.buf)-len(c.buf) }

// seal ends the growth of the last segment.
func (w *Writer) seal() {
	if w.grows {
		w.grows = false
		s := &w.segs[len(w.segs)-1]
		s.p = s.p[:cap(s.p)-cap(w.cur.buf)+len(w.cur.buf)]
	}
}

// room makes a chunk with room for n bytes the current one.
func (w *Writer) room(n int) *outChunk {
	size := smallChunk
	if c := w.cur; c != nil {
		if last := len(w.segs) - 1; last >= w.head && w.segs[last].chunk == c {
			w.segs[last].retired = true
		}
		size = min(cap(c.buf)*growFactor, bigChunk)
	}
	for size < n && size < bigChunk {
		size *= growFactor
	}
	size = max(size, n)
	c := w.spare
	w.spare = nil
	if idle := w.idle.Value(); idle != nil && c == nil {
		c = idle
		if w.Len() == 0 {
			w.segs, w.ends, w.bufs = c.segs, c.ends, c.bufs
		}
	}
	w.idle = weak.Pointer[outChunk]{}
	if c == nil || cap(c.buf) < size {
		c = &outChunk{buf: make([]byte, 0, size)}
		c.self = keep(c, &c.kept)
	}
	c.segs, c.ends, c.bufs = nil, nil, nil
	c.buf = c.buf[:0]
	c.use()
	w.cur = c
	return c
}

// Pending returns what the next write should carry, and the file that must go
// with it, or nil: whole segments up to the next file, not more than max of
// them. What it returns stays valid until Consume.
func (w *Writer) Pending(max int) ([][]byte, *os.File) {
	w.seal()
	w.bufs = w.bufs[:0]
	if w.head == len(w.segs) {
		return nil, nil
	}
	for i := w.head; i < len(w.segs) && len(w.bufs) < max; i++ {
		s := &w.segs[i]
		if i > w.head && s.file != nil {
			break
		}
		if len(s.p) > 0 {
			w.bufs = append(w.bufs, s.p)
		}
	}
	return w.bufs, w.segs[w.head].file
}

// Consume tells that n bytes of what Pending returned were written, and with the
// first of them the file. Memory that was written is cleared. A file that the
// queue owns is closed.
func (w *Writer) Consume(n int) {
	w.seal()
	clear(w.bufs)
	w.gone += uint64(n)
	first := w.first
	for w.head < len(w.segs) {
		s := &w.segs[w.head]
		if s.file != nil && (n > 0 || len(s.p) == 0) {
			w.sentFiles++
			w.dropFile(s)
		}
		k := min(n, len(s.p))
		clear(s.p[:k])
		s.p, s.at = s.p[k:], s.at+uint64(k)
		n -= k
		if len(s.p) > 0 {
			break
		}
		w.shift()
	}
	if w.head == len(w.segs) {
		w.first = len(w.ends)
	}
	start := w.Start()
	for w.first < len(w.ends) && w.ends[w.first] <= start {
		w.first++
	}
	w.sentMessages += uint64(w.first - first)
	if w.first == len(w.ends) {
		w.ends, w.first = w.ends[:0], 0
		w.rest()
	} else if w.first > 1024 && w.first > len(w.ends)/2 {
		w.ends = w.ends[:copy(w.ends, w.ends[w.first:])]
		w.first = 0
	}
}

// shift removes the first segment, which is written.
func (w *Writer) shift() {
	s := &w.segs[w.head]
	if s.release != nil {
		s.release()
	}
	if s.retired {
		w.spare = s.chunk
	}
	*s = segment{}
	w.head++
	if w.head == len(w.segs) {
		w.segs, w.head = w.segs[:0], 0
	} else if w.head > 64 && w.head > len(w.segs)/2 {
		n := copy(w.segs, w.segs[w.head:])
		clear(w.segs[n:])
		w.segs, w.head = w.segs[:n], 0
	}
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

// rest drops the empty queue's memory but keeps a weak pointer to it: the next
// Append reuses it unless the garbage collector has freed it.
func (w *Writer) rest() {
	if c := w.cur; c != nil {
		c.buf, c.segs, c.ends, c.bufs = c.buf[:0], w.segs[:0], w.ends[:0], w.bufs[:0]
		w.cur, w.idle = nil, c.self
	}
	w.segs, w.ends, w.bufs, w.spare = nil, nil, nil, nil
}

// Remove takes the message that ends at stream offset end and is n bytes long
// out of the queue again, and reports whether it could: not when a part of it
// was written. No write of what Pending returned may be under way.
func (w *Writer) Remove(end uint64, n int) bool {
	w.seal()
	beg := end - uint64(n)
	if beg < w.Start() || n == 0 {
		return false
	}
	for i := len(w.segs) - 1; i >= w.head; i-- {
		s := &w.segs[i]
		if s.at >= end || s.at+uint64(len(s.p)) <= beg {
			continue
		}
		if s.at == beg {
			w.dropFile(s)
		}
		tail := *s
		skip := min(end-s.at, uint64(len(s.p)))
		tail.p, tail.at, tail.file = s.p[skip:], s.at+skip, nil
		if keep := beg - min(beg, s.at); beg > s.at {
			clear(s.p[keep:skip])
			s.p = s.p[:keep]
			s.retired = false
			i++
			w.segs = append(w.segs, segment{})
			copy(w.segs[i+1:], w.segs[i:])
			w.segs[i] = tail
		} else {
			clear(s.p[:skip])
			*s = tail
		}
	}
	k := w.first + sort.Search(len(w.ends)-w.first, func(i int) bool { return w.ends[w.first+i] >= end })
	w.ends = append(w.ends[:k], w.ends[k+1:]...)
	w.gone += uint64(n)
	if w.Len() == 0 {
		w.Clear()
	}
	return true
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
	s := &w.segs[w.head]
	end = w.ends[w.first]
	return s.p, end, int(end - s.at), s.owned, s.file != nil
}

// EachFile calls f with every message of which nothing was written and that has
// a file: what it has in memory first, which is at least its header, and its
// size. What Pending returned must not be in use: f may change the message.
func (w *Writer) EachFile(f func(p []byte, n int)) {
	w.seal()
	ends := w.ends[w.first:]
	for _, s := range w.segs[w.head:] {
		if s.file != nil {
			ends = ends[sort.Search(len(ends), func(i int) bool { return ends[i] > s.at }):]
			f(s.p, int(ends[0]-s.at))
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
func (w *Writer) End() uint64 { return w.end }

// Len returns the number of messages that are not completely written.
func (w *Writer) Len() int { return len(w.ends) - w.first }

// Size returns the number of bytes that are not written.
func (w *Writer) Size() int { return int(w.end - w.gone) }

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
		clear(s.p)
		w.shift()
	}
	w.ends, w.first, w.gone = w.ends[:0], 0, w.end
	w.rest()
}
