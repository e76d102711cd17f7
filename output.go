package imsg

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/stream"
	"example.org/imsg/internal/unixmsg"
)

// An output is the sending half of a channel without its socket: messages in,
// encoded bytes and files in a queue out.
type output struct {
	q   stream.Writer
	c   *settings
	err error // final; nothing is queued any more

	spoke   Dialect  // in which the last message was encoded
	mixed   bool     // and maybe not all of those before it
	drained bool     // the peer had read the last message of lost when we looked
	lost    []uint64 // stream offsets behind the messages of composeLost that may be unread
	torn    uint64   // stream offset behind the last message of which only the rest was queued

	count Counters // written; Messages and Files are those that were not queued
}

// compose queues one message. The file belongs to the queue if owned is set.
// Most messages have no file and a payload in one piece: these take the way
// that calls nothing but memmove, and need no other check than that of sizes.
func (o *output) compose(h Header, f *os.File, owned bool, data [][]byte) error {
	if len(data) == 1 && f == nil && o.err == nil && plainAlike {
		payload := data[0]
		n := HeaderSize + len(payload)
		if len(payload) <= o.q.Available()-HeaderSize && o.withinLimits(n) {
			p := o.q.Extend(n)
			putHeader(p, h, uint32(n))
			copy(p[HeaderSize:], payload)
			return nil
		}
	}
	return o.composeAny(h, f, owned, data)
}

// composeBatch is compose for many messages, whose files belong to the queue. It
// returns how many were queued: all, if the error is nil.
func (o *output) composeBatch(ms []Outgoing) (n int, err error) {
	for n < len(ms) {
		n += o.composePlain(ms[n:])
		if n < len(ms) {
			m := &ms[n]
			if err := o.compose(o.c.withPID(m.Header), m.File, true, [][]byte{m.Data}); err != nil {
				return n, o.c.opError("compose", m.Header.Type, err)
			}
			n++
		}
	}
	return n, nil
}

// composePlain is compose for many messages, up to one for which it is not enough
// to look at sizes.
func (o *output) composePlain(ms []Outgoing) int {
	if o.err != nil || !plainAlike {
		return 0
	}
	room := min(o.q.Available(), o.c.plainQueue-o.q.Size()) - HeaderSize
	limit, pid := o.c.maxMessage()-HeaderSize, o.c.pid
	for i := range ms {
		m := &ms[i]
		if m.File != nil || len(m.Data) > min(room, limit) {
			return i
		}
		n, h := HeaderSize+len(m.Data), m.Header
		room -= n
		if h.PID == 0 {
			h.PID = pid
		}
		p := o.q.Extend(n)
		putHeader(p, h, uint32(n))
		copy(p[HeaderSize:], m.Data)
	}
	return len(ms)
}

// composeAny is compose of whatever there is. It checks everything before it
// changes anything.
func (o *output) composeAny(h Header, f *os.File, owned bool, data [][]byte) error {
	if o.err != nil {
		return o.err
	}
	n := sizeOf(data)
	if f == nil && n <= o.q.Available() && o.withinLimits(n) { // no other check is needed
		encode(o.q.Extend(n), h, o.lengthWord(n, false), data)
		return nil
	}
	payload := n - HeaderSize
	if n == math.MaxInt {
		payload = n // too large for any limit
	}
	if err := o.check(f, payload); err != nil {
		return err
	}
	p := o.q.Append(n, f, owned)
	encode(p, h, o.lengthWord(n, f != nil), data)
	o.trace(h, p[HeaderSize:], f != nil)
	return nil
}

// composeLost queues a message whose file was lost, with the mark of one.
func (o *output) composeLost(h Header, payload []byte) error {
	if o.err != nil {
		return o.err
	}
	if o.c.cfg.RequireDialect && o.c.guesses(HeaderSize, true) {
		return ErrDialectUnknown
	}
	if !unixmsg.CanDrain && o.c.cfg.AllowFDPass {
		return ErrFileLost // a later file could be taken for this message's
	}
	if err := o.check(nil, len(payload)); err != nil {
		return err
	}
	n := HeaderSize + len(payload)
	p := o.q.Append(n, nil, false)
	encode(p, h, o.lengthWord(n, true), [][]byte{payload})
	for len(o.lost) > 0 && o.lost[0] <= o.q.Start() {
		o.lost = o.lost[1:]
	}
	o.lost = append(o.lost, o.q.End())
	if o.c.cfg.Trace != nil {
		o.c.trace(Event{Direction: Sent, Header: h, Payload: ibuf.NewView(p[HeaderSize:]), FileLost: true})
	}
	return nil
}

// mayFollow returns an error if the file f, unless it is nil, must not be sent
// yet. A reader gives a message with a mark and without a file (see composeLost)
// the file that arrives with the same read: no file may follow before the peer
// has read it, nor at once, as that read may still be under way.
func (o *output) mayFollow(fd int, f *os.File) error {
	if n := len(o.lost); n > 0 && f != nil && o.q.Start() >= o.lost[n-1] {
		if !unixmsg.Drained(fd) {
			return errUnpaired
		}
		if !o.drained {
			o.drained = true
			return errUnpaired
		}
		o.lost, o.drained = nil, false
	}
	return nil
}

// errUnpaired is temporary: see isTemporary.
var errUnpaired = os.NewSyscallError("wait for the peer to read", syscall.ENOBUFS)

// sizeOf is the size of a message with the payload data, header included;
// math.MaxInt if an int cannot hold it.
func sizeOf(data [][]byte) int {
	n := HeaderSize
	for _, p := range data {
		if n += len(p); n < 0 {
			return math.MaxInt
		}
	}
	return n
}

// withinLimits reports whether there is nothing to look at but sizes, and they are
// right.
func (o *output) withinLimits(n int) bool {
	return o.c.allows(n) && n <= o.c.plainQueue-o.q.Size()
}

// encode writes a whole message to p.
func encode(p []byte, h Header, word uint32, data [][]byte) {
	putHeader(p, h, word)
	p = p[HeaderSize:]
	for _, part := range data {
		p = p[copy(p, part):]
	}
}

// copyPayload is up to what size the payload of a Buffer is copied, so that a
// small message costs the queue no more than its size.
const copyPayload = 4 << 10

// composeBuffer queues one message whose payload is what is unread of b. The
// queue owns b and its file if the error is nil.
func (o *output) composeBuffer(h Header, b *ibuf.Buffer) error {
	if o.err != nil {
		return o.err
	}
	var q ibuf.Queue
	if err := q.Push(b); err != nil { // it is another queue's, or was
		return err
	}
	n, f := b.Len(), b.TakeFile()
	if err := o.check(f, n); err != nil {
		q.Pop()
		b.SetFile(f)
		return err
	}
	word, p := o.lengthWord(HeaderSize+n, f != nil), b.Bytes()
	if n <= copyPayload || b.Cap() > n+n/4 {
		encode(o.q.Append(HeaderSize+n, f, true), h, word, [][]byte{p})
		defer q.Clear()
	} else {
		owned := new(ibuf.Queue)
		owned.Concat(&q)
		putHeader(o.q.AppendOwned(HeaderSize, p, f, owned.Clear), h, word)
	}
	o.trace(h, p, f != nil)
	return nil
}

// lengthWord is what a message of n bytes has in bytes 4 to 7 of its header.
func (o *output) lengthWord(n int, file bool) uint32 {
	d := o.c.spoken()
	if d != o.spoke {
		o.spoke, o.mixed = d, true
	}
	return wordIn(d, n, file)
}

func wordIn(d Dialect, n int, file bool) uint32 {
	if n > legacyLimit { // checked before the peer turned out to speak Legacy
		d = Current
	}
	return d.lengthWord(n, file)
}

// respeak makes what is queued say its lengths in the dialect d, apart from a
// message that was written in part.
func (o *output) respeak(d Dialect) {
	o.q.Each(func(p []byte, end uint64, n int, file bool) {
		if !file {
			_, file = slices.BinarySearch(o.lost, end)
		}
		if (file || !plainAlike) && end > o.torn {
			putLength(p, wordIn(d, n, file))
		}
	})
	o.spoke, o.mixed = d, false
}

// check reports whether a message with n bytes of payload may be queued.
func (o *output) check(f *os.File, n int) error {
	cfg := &o.c.cfg
	if err := o.c.checkSize(n); err != nil {
		return err
	}
	if cfg.RequireDialect && o.c.guesses(HeaderSize+n, f != nil) {
		return ErrDialectUnknown
	}
	files := 0
	if f != nil {
		files = 1
		if !cfg.AllowFDPass {
			return ErrNoFDPass
		}
		if err := control(f, func(uintptr) {}); err != nil {
			return err
		}
	}
	if o.q.Len() == 0 {
		return nil
	}
	switch {
	case HeaderSize+n > cfg.MaxQueueBytes-o.q.Size():
		return fmt.Errorf("%d bytes beside %d that wait to be sent, limit %d (MaxQueueBytes): %w", HeaderSize+n, o.q.Size(), cfg.MaxQueueBytes, ErrQueueFull)
	case cfg.MaxQueueMessages > 0 && o.q.Len() >= cfg.MaxQueueMessages:
		return fmt.Errorf("%d messages wait to be sent, limit %d (MaxQueueMessages): %w", o.q.Len(), cfg.MaxQueueMessages, ErrQueueFull)
	case o.q.Files()+files > cfg.MaxQueueFiles:
		return fmt.Errorf("%d files wait to be sent, limit %d (MaxQueueFiles): %w", o.q.Files(), cfg.MaxQueueFiles, ErrQueueFull)
	}
	return nil
}

func (o *output) trace(h Header, payload []byte, file bool) {
	if o.c.cfg.Trace == nil {
		return
	}
	o.c.trace(Event{Direction: Sent, Header: h, Payload: ibuf.NewView(payload), HasFile: file})
}

// pending returns what the next write should carry, in the dialect in force now,
// which may be another one than when it was queued.
func (o *output) pending(fd int) (w outgoing) {
	if d := o.c.spoken(); d != o.spoke || o.mixed {
		o.respeak(d)
	}
	if o.q.Files() > 1 && len(o.lost) == 0 {
		w.batch = fileBatches.Get().(*fileBatch)
		w.batch.n = o.q.PendingGroups(w.batch.groups[:], maxGather)
		w.file = w.batch.groups[0].File
		return w
	}
	w.bufs, w.file = o.q.Pending(maxGather)
	w.err = o.mayFollow(fd, w.file)
	return w
}

// wrote accounts for what one system call took.
func (o *output) wrote(n int) {
	o.called(n)
	o.q.Consume(n)
}

// reject takes the message that the last write began with out of the queue,
// because its file cannot be sent, and returns the stream offset behind it,
// whether the queue owned its file, and the error to report.
func (o *output) reject(err error) (end uint64, owned bool, reason error) {
	p, end, n, owned, _ := o.q.First()
	typ := binary.NativeEndian.Uint32(p)
	o.q.Remove(end, n)
	return end, owned, o.c.opError("send", typ, fileNotSent(err))
}

func (o *output) called(n int) {
	if n > 0 {
		o.count.Calls++
		o.count.Bytes += uint64(n)
	}
}

// passed accounts for a message of n bytes that was not queued, and of whose
// parts one system call took k bytes, and the file f, if it is not nil. The rest
// is queued.
func (o *output) passed(parts [][]byte, n, k int, f *os.File) {
	o.called(k)
	if f != nil {
		o.count.Files++
	}
	if k == n {
		o.count.Messages++
		return
	}
	rest := o.q.Append(n-k, nil, false)
	o.torn = o.q.End()
	for _, p := range parts {
		skip := min(k, len(p))
		k -= skip
		rest = rest[copy(rest, p[skip:]):]
	}
}

// sent returns the counters of what was written.
func (o *output) sent() Counters {
	c := o.count
	messages, files := o.q.Sent()
	c.Messages += messages
	c.Files += files
	return c
}
