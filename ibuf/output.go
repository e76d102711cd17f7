package ibuf

import (
	"os"
	"sort"
	"weak"
)

// An Output is a queue of messages to be written: ranges of its own chunk,
// into which messages are encoded one behind the other, and Buffers handed
// over whole. It makes no system call: Gather tells what the next write should
// carry, Wrote how far it got. A message's file goes with its first byte, and
// a write carries at most one file, at its beginning.
//
// The zero Output is empty and ready. It must not be used by several goroutines
// at a time, with one exception: what Gather returned may be read (written to a
// socket, that is) while messages are added.
type Output struct {
	segs  []segment // what is not written yet is segs[head:]
	head  int
	ends  []uint64 // stream offsets behind each message, ends[first:]
	first int
	end   uint64 // stream offset behind the last message
	gone  uint64 // bytes written or removed
	files int
	bufs  [][]byte // what Gather returned

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
	buf     *Buffer   // p is its memory: closed when written
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
// any other call but Gather's and Wrote's of what was queued before. The file,
// if not nil, goes along: owned says that the queue closes it when it was sent
// or dropped, otherwise it must stay open until then.
func (o *Output) Append(n int, file *os.File, owned bool) []byte {
	if file != nil || n > o.Room() {
		o.begin(n, file, owned)
	}
	return o.Extend(n)
}

// Room returns how many bytes Extend can add.
func (o *Output) Room() int {
	if !o.grows {
		return 0
	}
	return cap(o.cur.buf) - len(o.cur.buf)
}

// Extend is Append of a message without a file and of not more than Room bytes.
// It is in line where it is called: with small messages a call counts.
func (o *Output) Extend(n int) []byte {
	o.finish(n)
	return o.cur.extend(n)
}

// extend returns the next n bytes of c, which must have room.
func (c *outChunk) extend(n int) []byte {
	beg := len(c.buf)
	c.buf = c.buf[:beg+n]
	return c.buf[beg : beg+n : beg+n]
}

// AppendBuffer adds a message that is n bytes, to be filled as with Append,
// followed by what is unread of b. The queue owns b from here on, and b's file
// goes with the message's first byte. It corresponds to imsg_compose_ibuf's
// two calls of ibuf_close.
func (o *Output) AppendBuffer(n int, b *Buffer) []byte {
	body := b.Bytes()
	o.begin(n, b.TakeFile(), true)
	head := o.cur.extend(n)
	o.seal()
	o.segs = append(o.segs, segment{p: body, at: o.end + uint64(n), buf: b})
	o.finish(n + len(body))
	return head
}

// Push adds what is unread of b as one message. The queue owns b and its file
// from here on: both are closed when they were written, or by Clear. It
// corresponds to ibuf_close.
func (o *Output) Push(b *Buffer) {
	o.seal()
	s := segment{p: b.Bytes(), at: o.end, file: b.TakeFile(), owned: true, buf: b}
	if s.file != nil {
		o.files++
	}
	o.segs = append(o.segs, s)
	o.finish(len(s.p))
}

// finish counts a message of n bytes that was added.
func (o *Output) finish(n int) {
	o.end += uint64(n)
	o.ends = append(o.ends, o.end)
}

// begin makes the last segment one that grows with the chunk, in which there is
// room for n bytes: a new one where a file begins.
func (o *Output) begin(n int, file *os.File, owned bool) {
	o.seal()
	c := o.cur
	if c == nil || cap(c.buf)-len(c.buf) < n {
		c = o.room(n)
	}
	o.grows = true
	if file != nil {
		o.files++
	} else if last := len(o.segs) - 1; last >= o.head && o.segs[last].chunk == c && o.segs[last].reaches(c) {
		return
	}
	o.segs = append(o.segs, segment{p: c.buf[len(c.buf):], at: o.end, chunk: c, file: file, owned: owned})
}

// reaches reports whether s goes to the end of c.
func (s *segment) reaches(c *outChunk) bool { return cap(s.p)-len(s.p) == cap(c.buf)-len(c.buf) }

// seal ends the growth of the last segment.
func (o *Output) seal() {
	if o.grows {
		o.grows = false
		s := &o.segs[len(o.segs)-1]
		s.p = s.p[:cap(s.p)-cap(o.cur.buf)+len(o.cur.buf)]
	}
}

// room makes a chunk with room for n bytes the current one.
func (o *Output) room(n int) *outChunk {
	size := smallChunk
	if c := o.cur; c != nil {
		if last := len(o.segs) - 1; last >= o.head && o.segs[last].chunk == c {
			o.segs[last].retired = true
		}
		size = min(cap(c.buf)*growFactor, bigChunk)
	}
	for size < n && size < bigChunk {
		size *= growFactor
	}
	size = max(size, n)
	c := o.spare
	o.spare = nil
	if idle := o.idle.Value(); idle != nil && c == nil {
		c = idle
		if o.Len() == 0 {
			o.segs, o.ends, o.bufs = c.segs, c.ends, c.bufs
		}
	}
	o.idle = weak.Pointer[outChunk]{}
	if c == nil || cap(c.buf) < size {
		c = &outChunk{buf: make([]byte, 0, size)}
		c.self = keep(c, &c.kept)
	}
	c.segs, c.ends, c.bufs = nil, nil, nil
	c.buf = c.buf[:0]
	c.use()
	o.cur = c
	return c
}

// Gather returns what the next write should carry, and the file that must go
// with it, or nil: whole segments up to the next file, not more than max of
// them. What it returns stays valid until Wrote.
func (o *Output) Gather(max int) ([][]byte, *os.File) {
	o.seal()
	o.bufs = o.bufs[:0]
	if o.head == len(o.segs) {
		return nil, nil
	}
	for i := o.head; i < len(o.segs) && len(o.bufs) < max; i++ {
		s := &o.segs[i]
		if i > o.head && s.file != nil {
			break
		}
		if len(s.p) > 0 {
			o.bufs = append(o.bufs, s.p)
		}
	}
	return o.bufs, o.segs[o.head].file
}

// Wrote tells that n bytes of what Gather returned were written, and with the
// first of them the file. Memory that was written is cleared. A file that the
// queue owns is closed.
func (o *Output) Wrote(n int) {
	o.seal()
	clear(o.bufs)
	o.gone += uint64(n)
	first := o.first
	for o.head < len(o.segs) {
		s := &o.segs[o.head]
		if s.file != nil && (n > 0 || len(s.p) == 0) {
			o.sentFiles++
			o.dropFile(s)
		}
		k := min(n, len(s.p))
		clear(s.p[:k])
		s.p, s.at = s.p[k:], s.at+uint64(k)
		n -= k
		if len(s.p) > 0 {
			break
		}
		o.shift()
	}
	if o.head == len(o.segs) {
		o.first = len(o.ends)
	}
	done := o.Done()
	for o.first < len(o.ends) && o.ends[o.first] <= done {
		o.first++
	}
	o.sentMessages += uint64(o.first - first)
	if o.first == len(o.ends) {
		o.ends, o.first = o.ends[:0], 0
		o.rest()
	} else if o.first > 1024 && o.first > len(o.ends)/2 {
		o.ends = o.ends[:copy(o.ends, o.ends[o.first:])]
		o.first = 0
	}
}

// shift removes the first segment, which is written.
func (o *Output) shift() {
	s := &o.segs[o.head]
	if s.buf != nil {
		s.buf.Close()
	}
	if s.retired {
		o.spare = s.chunk
	}
	*s = segment{}
	o.head++
	if o.head == len(o.segs) {
		o.segs, o.head = o.segs[:0], 0
	} else if o.head > 64 && o.head > len(o.segs)/2 {
		n := copy(o.segs, o.segs[o.head:])
		clear(o.segs[n:])
		o.segs, o.head = o.segs[:n], 0
	}
}

func (o *Output) dropFile(s *segment) {
	if s.file == nil {
		return
	}
	if s.owned {
		s.file.Close()
	}
	s.file = nil
	o.files--
}

// rest gives up the memory of an empty queue, which finds it again if nobody
// else has found a use for it: an idle channel holds no buffer.
func (o *Output) rest() {
	if c := o.cur; c != nil {
		c.buf, c.segs, c.ends, c.bufs = c.buf[:0], o.segs[:0], o.ends[:0], o.bufs[:0]
		o.cur, o.idle = nil, c.self
	}
	o.segs, o.ends, o.bufs, o.spare = nil, nil, nil, nil
}

// Remove takes the message that ends at stream offset end and is n bytes long
// out of the queue again, and reports whether it could: not when a part of it
// was written. No write of what Gather returned may be under way.
func (o *Output) Remove(end uint64, n int) bool {
	o.seal()
	beg := end - uint64(n)
	if beg < o.Done() || n == 0 {
		return false
	}
	for i := len(o.segs) - 1; i >= o.head; i-- {
		s := &o.segs[i]
		if s.at >= end || s.at+uint64(len(s.p)) <= beg {
			continue
		}
		if s.at == beg {
			o.dropFile(s)
		}
		tail := *s
		skip := min(end-s.at, uint64(len(s.p)))
		tail.p, tail.at, tail.file = s.p[skip:], s.at+skip, nil
		if keep := beg - min(beg, s.at); beg > s.at {
			clear(s.p[keep:skip])
			s.p = s.p[:keep]
			s.retired = false
			i++
			o.segs = append(o.segs, segment{})
			copy(o.segs[i+1:], o.segs[i:])
			o.segs[i] = tail
		} else {
			clear(s.p[:skip])
			*s = tail
		}
	}
	k := o.first + sort.Search(len(o.ends)-o.first, func(i int) bool { return o.ends[o.first+i] >= end })
	o.ends = append(o.ends[:k], o.ends[k+1:]...)
	o.gone += uint64(n)
	if o.Len() == 0 {
		o.Clear()
	}
	return true
}

// First returns the message that the next write begins with: what it has in
// memory first, which is at least its header, the stream offset behind it, its
// size, and whether the queue owns the file that goes with it. ok is false if
// no file does, because it has none or a part of it was written.
func (o *Output) First() (p []byte, end uint64, n int, owned, ok bool) {
	if o.Len() == 0 {
		return nil, 0, 0, false, false
	}
	o.seal()
	s := &o.segs[o.head]
	end = o.ends[o.first]
	return s.p, end, int(end - s.at), s.owned, s.file != nil
}

// Done returns the stream offset up to which everything was written or removed.
func (o *Output) Done() uint64 {
	if o.head == len(o.segs) {
		return o.end
	}
	return o.segs[o.head].at
}

// End returns the stream offset behind the last message.
func (o *Output) End() uint64 { return o.end }

// Len returns the number of messages that are not completely written.
func (o *Output) Len() int { return len(o.ends) - o.first }

// Size returns the number of bytes that are not written.
func (o *Output) Size() int { return int(o.end - o.gone) }

// Files returns the number of files that are not sent.
func (o *Output) Files() int { return o.files }

// Sent returns how many messages were written completely so far, and how many
// files.
func (o *Output) Sent() (messages, files uint64) { return o.sentMessages, o.sentFiles }

// Clear discards what was not written and closes the files and Buffers that
// the queue owns. A message that was written in part stays torn: the stream
// must not be used after it. It corresponds to the write half of msgbuf_clear.
func (o *Output) Clear() {
	o.seal()
	clear(o.bufs)
	for o.head < len(o.segs) {
		s := &o.segs[o.head]
		o.dropFile(s)
		clear(s.p)
		o.shift()
	}
	o.ends, o.first, o.gone = o.ends[:0], 0, o.end
	o.rest()
}
