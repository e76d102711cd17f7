package imsg

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/turn"
)

// A sender is the sending half of a Conn.
type sender struct {
	halfConn
	turn turn.Senders[*sending]
	out  output
	fd   int // for direct; -1 before it becomes another file's

	contention contention
	writing    bool          // a system call is reading out.q's memory: nothing may be removed from it
	written    chan struct{} // closed when writing becomes false, if somebody waits for that
	failedAt   uint64        // with out.err set: the stream offset that had been written when it was set

	// The messages that were taken out of the queue because their file could
	// not be sent, until their Send or a Flush asks for the reason.
	rejected []rejection
}

// A rejection is why one message was not sent.
type rejection struct {
	end    uint64 // stream offset behind the message
	queued bool   // by Compose or Commit: for Flush to report
	err    error
}

// maxRejected limits how many rejections wait for a Flush, in a program that
// never calls it.
const maxRejected = 64

// contention counts down from maxContention after a Send has found another
// sender at work. While it is positive a Send yields the processor once before
// it writes: the messages that others queue meanwhile share its system call,
// which costs more than the yield.
type contention int32

const maxContention = 64

// note counts one send, which found another sender or did not.
func (c *contention) note(found bool) {
	if found {
		*c = maxContention
	} else if *c > 0 {
		*c--
	}
}

// A letter is a message on its way into the queue, but for the payload: with that
// in it, every Send's would go to the heap.
type letter struct {
	h    Header
	f    *os.File // borrowed
	lost bool     // it had a file: see composeLost
}

// A sending is a waiter with a message.
type sending struct {
	waiter
	next   *sending // to be woken after it
	size   int      // 0: no message, a Flush
	end    uint64   // with queued: the stream offset behind it
	queued bool
	done   bool  // it is written, or rejected because of err
	err    error // or why it cannot be queued

	// With kept set, others may queue it: the payload is a copy, as nobody else
	// may look at what is on a goroutine's stack.
	kept    bool
	letter  letter
	payload [1][]byte
}

// maxKept is up to what size the payload of a message that waits for room is
// copied. Whoever waits with a larger one queues it himself.
const maxKept = 4 << 10

// keep lets others queue l.
func (s *sending) keep(l letter, data [][]byte) {
	p := s.payload[0][:0]
	for _, part := range data {
		p = append(p, part...)
	}
	s.payload[0], s.letter, s.kept = p, l, true
}

// forget is the end of keep.
func (s *sending) forget() {
	clear(s.payload[0])
	s.payload[0], s.letter, s.kept = s.payload[0][:0], letter{}, false
}

// free gives s back, which nobody refers to any more.
func (s *sending) free() {
	if s.kept {
		s.forget()
	}
	s.mine, s.queued, s.done, s.err, s.size = false, false, false, nil, 0
	sendings.Put(s)
}

var sendings = sync.Pool{New: func() any {
	s := new(sending)
	s.init()
	s.token = make(chan struct{}, 1)
	return s
}}

func (w *sender) init(c *Conn, fd int) {
	w.fd = fd
	w.out.c = &c.settings
	w.c = c
	w.deadline.set = c.file.SetWriteDeadline
}

// Send sends a message with the payload data, whose parts are copied one
// behind the other, and returns when the kernel has it whole; messages queued
// before go first. A file f, if not nil, is only borrowed: it must stay open
// until Send returns, and stays the caller's. When the queue is full, Send
// waits for room.
//
// The error is an *OpError. ErrTooLarge, ErrNoFDPass, os.ErrClosed (the file
// is) and ErrFileNotSent concern this message only. net.ErrClosed and a system
// call's (EPIPE) end this direction of the channel.
// os.ErrDeadlineExceeded and ctx.Err() mean that waiting has ended: if no byte
// of the message was written it is taken out of the queue again, and otherwise
// the rest of it stays queued and is sent by the next Send or Flush.
func (c *Conn) Send(ctx context.Context, h Header, f *os.File, data ...[]byte) error {
	return c.send(ctx, "send", letter{c.withPID(h), f, false}, data)
}

// send sends a message with a header that is sent as it is.
func (c *Conn) send(ctx context.Context, op string, l letter, data [][]byte) error {
	if err := ctx.Err(); err != nil {
		return c.opError(op, l.h.Type, err)
	}
	n := sizeOf(data)
	w := &c.w
	if !w.mu.TryLock() {
		w.mu.Lock()
		w.contention.note(true)
	}
	taken, err := w.direct(l, n, data)
	if err != nil || taken && w.out.q.Len() == 0 {
		w.unlock()
		return c.opError(op, l.h.Type, err)
	}
	x := sendings.Get().(*sending)
	x.size = n
	if taken { // and the rest of it is queued
		x.queued, x.end = true, w.out.q.End()
	}
	err = w.await(ctx, x, l, data)
	x.free()
	return c.opError(op, l.h.Type, err)
}

// maxParts is how many parts of a payload one system call takes from where they
// are. A message with more is queued.
const maxParts = 7

// direct writes a message at once if it is the only one and nobody waits: header
// and payload from where they are, without the queue and the poller. What the
// kernel does not take is queued. The lock is held meanwhile: the call does not
// wait, and copies no more than fits the socket. If taken is false nothing has
// happened. w.mu is held.
func (w *sender) direct(l letter, n int, data [][]byte) (taken bool, err error) {
	f := l.f
	if len(data) > maxParts || !w.out.withinLimits(n) || f != nil && !w.out.c.cfg.AllowFDPass || l.lost {
		return false, nil
	}
	if w.fd < 0 || w.out.err != nil || !w.turn.Idle() || w.contention > 0 || w.out.q.Len() > 0 || w.deadline.given.Load() {
		return false, nil
	}
	var head [HeaderSize]byte
	putHeader(head[:], l.h, w.out.lengthWord(n, f != nil))
	var parts [1 + maxParts][]byte
	parts[0] = head[:]
	for i, p := range data {
		parts[1+i] = p
	}
	err = w.out.mayFollow(w.fd, f)
	k := 0
	if err == nil {
		k, err = transmit(w.fd, parts[:1+len(data)], f, w.out.c.flags)
	}
	switch {
	case err == nil:
		w.out.passed(parts[:], n, k, f)
		return true, nil
	case isWouldBlock(err) || isTemporary(err) || err == os.ErrClosed: // f is
		return false, nil
	case f != nil && isFileError(w.fd, err):
		return true, fileNotSent(err)
	}
	w.fail(opError("send", 0, err))
	return true, w.out.err
}

// await queues l, unless that is done, and waits until it is written. It unlocks
// w.mu.
func (w *sender) await(ctx context.Context, x *sending, l letter, data [][]byte) (err error) {
	defer w.leave(x) // Trace may panic
	torn := x.queued
	if !x.queued {
		err = w.compose(ctx, x, l, data)
	}
	if err == nil && !x.done {
		err = w.flush(ctx, x)
	}
	switch {
	case x.done:
		return x.err
	case err == nil:
		return w.rejection(x)
	case !x.queued || w.out.err != nil:
	case (torn || !w.withdraw(x)) && w.sent(x.end):
		return nil // the last byte went out while we were giving up
	}
	return err
}

// compose queues l, as soon as there is room.
func (w *sender) compose(ctx context.Context, x *sending, l letter, data [][]byte) error {
	if !w.turn.Crowded() {
		if err := w.put(x, l, data); !errors.Is(err, ErrQueueFull) {
			return err
		}
	}
	if w.out.c.cfg.Trace == nil && x.size <= maxKept {
		x.keep(l, data)
	}
	w.turn.WaitRoom(x)
	err := w.sleep(ctx, x)
	for pause := time.Millisecond; err == nil && !x.queued; {
		if err := cmp.Or(w.out.err, x.err); err != nil {
			return err
		}
		// It has the turn.
		if err := w.put(x, l, data); !errors.Is(err, ErrQueueFull) {
			w.turn.Queued()
			w.admit()
			return err
		}
		err = w.work(ctx, x, &pause)
	}
	return err
}

// put queues l, which is x's message.
func (w *sender) put(x *sending, l letter, data [][]byte) (err error) {
	if l.lost {
		err = w.out.composeLost(l.h, data[0])
	} else {
		err = w.out.compose(l.h, l.f, false, data)
	}
	if err == nil {
		x.queued, x.end = true, w.out.q.End()
	}
	return err
}

// admit queues the messages of those who wait for room, as far as there is some.
func (w *sender) admit() {
	for {
		x, ok := w.turn.First()
		if !ok || !x.kept {
			return
		}
		switch err := w.put(x, x.letter, x.payload[:]); {
		case err == nil:
			x.forget() // while it is in the cache
			w.turn.Admit(x.end)
		case errors.Is(err, ErrQueueFull):
			return
		default:
			x.err = err
			w.turn.Refuse()
			x.wake()
		}
	}
}

// withdraw takes x's message out of the queue, if no byte of it was written.
func (w *sender) withdraw(x *sending) bool {
	for w.writing {
		if w.written == nil {
			w.written = make(chan struct{})
		}
		written := w.written
		w.mu.Unlock()
		<-written
		w.mu.Lock()
	}
	if w.out.err != nil || w.sent(x.end) || !w.out.q.Remove(x.end, x.size) {
		return false
	}
	w.admit()
	return true
}

// sleep waits until x is woken. w.mu is held, but not while it waits, nor
// afterwards if x.done is set.
func (w *sender) sleep(ctx context.Context, x *sending) error {
	w.unlock()
	err := x.sleep(ctx)
	if err != nil {
		w.mu.Lock()
		if w.turn.GiveUp(x) {
			w.admit() // those behind x
			return err
		}
		w.mu.Unlock()
		<-x.token // woken at the same time
	}
	if x.done {
		return nil
	}
	w.mu.Lock()
	return err
}

// leave unlocks w.mu, and gives up the turn if x has it.
func (w *sender) leave(x *sending) {
	if x.done {
		return
	}
	if x.mine {
		x.mine = false
		w.turn.Leave()
		w.admit() // those behind x
	}
	w.unlock()
}

// unlock unlocks w.mu and wakes whoever is due. Those whose message is written
// need the lock no more.
func (w *sender) unlock() {
	var first, last *sending
	for {
		x, mine, ok := w.turn.Next(w.out.q.Start())
		if !ok {
			break
		}
		if x.mine = mine; !mine && x.queued && w.sent(x.end) {
			x.err, x.done = w.rejection(x), true
		}
		switch {
		case first == nil:
			first, last = x, x
		case mine: // with the longest way to go
			x.next, first = first, x
		default:
			last.next, last = x, x
		}
	}
	w.mu.Unlock()
	for x := first; x != nil; {
		next := x.next
		x.next = nil
		x.wake()
		x = next
	}
}

// Compose queues a message like Buf.Compose: it does not wait and sends nothing,
// which is for Flush or the next Send to do. A file f, if not nil, belongs to
// the queue if the error is nil. ErrQueueFull when a limit of Config is
// reached.
func (c *Conn) Compose(h Header, f *os.File, data ...[]byte) error {
	h = c.withPID(h)
	if c.cfg.Trace != nil {
		return c.composeTraced(h, f, data)
	}
	w := &c.w
	w.mu.Lock()
	err := w.out.compose(h, f, true, data)
	w.mu.Unlock() // without the cost of a defer
	return c.opError("compose", h.Type, err)
}

// composeTraced is Compose if Trace may panic.
func (c *Conn) composeTraced(h Header, f *os.File, data [][]byte) error {
	w := &c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.opError("compose", h.Type, w.out.compose(h, f, true, data))
}

// An Outgoing is a message for ComposeBatch.
type Outgoing struct {
	Header Header
	File   *os.File // nil: none
	Data   []byte   // the payload
}

// ComposeBatch is Buf.ComposeBatch; others' messages do not come between.
func (c *Conn) ComposeBatch(ms []Outgoing) (n int, err error) {
	w := &c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.composeBatch(ms)
}

// queueBuffer is what Builder.Commit calls.
func (c *Conn) queueBuffer(h Header, b *ibuf.Buffer) error {
	w := &c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.opError("commit", h.Type, w.out.composeBuffer(h, b))
}

// QueueLen returns the number of messages that are not completely written.
func (c *Conn) QueueLen() int {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.w.out.q.Len()
}

// Flush sends what is queued now and waits until the kernel has it. The errors
// are Send's; what was not sent stays queued when ctx ends or a deadline
// passes. ErrFileNotSent concerns messages that Compose or a Builder queued
// and this Flush, or a Send or Flush before it, took out of the queue: one
// *OpError with the message's type each, joined if there are more than one.
// The other messages were sent.
func (c *Conn) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return opError("flush", 0, err)
	}
	w := &c.w
	w.mu.Lock()
	if err := w.out.err; err != nil {
		w.mu.Unlock()
		return err
	}
	if w.out.q.Len() > 0 {
		x := sendings.Get().(*sending)
		x.queued, x.end = true, w.out.q.End()
		err := w.await(ctx, x, letter{}, nil)
		x.free()
		if err != nil {
			return opError("flush", 0, err)
		}
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	return w.rejections()
}

// reject fails the message that the last write began with.
func (w *sender) reject(err error) {
	end, queued, reason := w.out.reject(err)
	if queued {
		n := 0
		for _, r := range w.rejected {
			if r.queued {
				n++
			}
		}
		if n >= maxRejected {
			return
		}
	}
	w.rejected = append(w.rejected, rejection{end, queued, reason})
}

// rejection returns why x's message was rejected, or nil.
func (w *sender) rejection(x *sending) error {
	for i, r := range w.rejected {
		if !r.queued && r.end == x.end && x.size > 0 {
			w.rejected = slices.Delete(w.rejected, i, i+1)
			return r.err
		}
	}
	return nil
}

// rejections returns why queued messages failed.
func (w *sender) rejections() error {
	if len(w.rejected) == 0 {
		return nil
	}
	var errs []error
	var others []rejection
	for _, r := range w.rejected {
		if r.queued {
			errs = append(errs, r.err)
		} else {
			others = append(others, r)
		}
	}
	w.rejected = others
	return joinErrors(errs)
}

// sent reports whether the queue was written up to the stream offset end.
func (w *sender) sent(end uint64) bool {
	if w.out.err != nil {
		return w.failedAt >= end
	}
	return w.out.q.Start() >= end
}

// flush writes, or lets another goroutine write, until x's message is written.
func (w *sender) flush(ctx context.Context, x *sending) (err error) {
	pause := time.Millisecond
	gathered := false
	for err == nil && !x.done {
		switch w.turn.Step(w.sent(x.end), x.mine) {
		case turn.Done:
			return nil
		case turn.Failed:
			return w.out.err
		case turn.Sleep:
			w.contention.note(true)
			w.turn.WaitWritten(x, x.end)
			err = w.sleep(ctx, x)
		case turn.Work:
			if w.contention.note(false); !gathered && w.contention > 0 && !w.turn.Crowded() {
				gathered = true
				w.gather()
				continue
			}
			x.mine = true
			w.turn.Take()
			err = w.work(ctx, x, &pause)
		}
	}
	return err
}

// work writes once, as the one that has the turn. An error that ends the
// direction is kept in w.out.err, others are returned. w.mu is held, but not while
// it waits.
func (w *sender) work(ctx context.Context, x *sending, pause *time.Duration) error {
	w.unlock()
	err := w.run(ctx, &x.waiter, w, w.c.raw.Write)
	if isTemporary(err) {
		err = w.pause(ctx, *pause)
		*pause = min(2**pause, maxPause)
	}
	w.mu.Lock()
	switch {
	case err == nil || w.out.err != nil:
	case isContextErr(err):
		return err
	default:
		w.fail(opError("send", 0, err))
	}
	return nil
}

// gather lets other goroutines queue their messages, so that one system call
// takes them all along.
func (w *sender) gather() {
	end := w.out.q.End()
	w.unlock()
	runtime.Gosched()
	w.mu.Lock()
	w.contention.note(w.out.q.End() != end)
}

// call makes one system call. What others have queued meanwhile goes along.
func (w *sender) call(fd uintptr, x *waiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.out.pending(int(fd))
	w.writing = true
	w.mu.Unlock()
	n, err := next.transmit(int(fd), w.out.c.flags)
	w.mu.Lock()
	w.writing = false
	if w.written != nil {
		close(w.written)
		w.written = nil
	}
	x.serr = err
	if w.out.err != nil { // closed meanwhile
		w.out.q.Clear()
		return true
	}
	switch {
	case err == nil:
		w.out.wrote(n)
		w.admit()
	case next.file != nil && isFileError(int(fd), err):
		w.reject(err)
		w.admit()
		x.serr = nil
	}
	if !isWouldBlock(err) {
		return true
	}
	w.interruptible(x)
	return false
}

// pause waits a while, at most maxPause, for a condition that nobody tells of.
func (w *sender) pause(ctx context.Context, d time.Duration) error {
	d, err := w.deadline.left(d)
	if err == nil {
		err = sleepCtx(ctx, d)
	}
	return err
}

// fail ends the direction: what is queued is discarded. unlock must follow.
func (w *sender) fail(err error) {
	w.failedAt = w.out.q.Start()
	w.out.err = err
	if !w.writing {
		w.out.q.Clear()
	}
	w.turn.End()
}

// release ends the use of the descriptor without the poller.
func (w *sender) release() {
	w.mu.Lock()
	w.fd = -1
	w.mu.Unlock()
}

func (w *sender) close() {
	w.mu.Lock()
	defer w.unlock()
	if w.out.err == nil {
		w.fail(opError("send", 0, net.ErrClosed))
	}
	w.out.err = opError("send", 0, net.ErrClosed)
}
