package imsg

import (
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
	turn turn.Senders[*waiter]
	out  output
	fd   int // for direct; -1 before it becomes another file's

	writing  bool      // a system call is reading out.q's memory: nothing may be removed from it
	written  sync.Cond // signalled when writing becomes false
	failedAt uint64    // with err set: the stream offset that had been written when it was set

	contention contention

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
type contention int

const maxContention = 64

// note counts one send, which found another sender or did not.
func (c *contention) note(found bool) {
	if found {
		*c = maxContention
	} else if *c > 0 {
		*c--
	}
}

func (w *sender) init(c *Conn, fd int) {
	w.fd = fd
	w.out.c = &c.settings
	w.written.L = &w.mu
	w.done = c.done
	w.loop, w.call = c.raw.Write, w.write
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
	return c.send(ctx, "send", c.withPID(h), f, data)
}

// send is Send of a header that is sent as it is.
func (c *Conn) send(ctx context.Context, op string, h Header, f *os.File, data [][]byte) error {
	if err := ctx.Err(); err != nil {
		return c.opError(op, h.Type, err)
	}
	n := sizeOf(data)
	w := &c.w
	if !w.mu.TryLock() {
		w.mu.Lock()
		w.contention.note(true)
	}
	defer w.mu.Unlock()
	mine := false
	taken, err := w.direct(h, f, n, data)
	if !taken {
		mine, err = w.compose(ctx, func() error { return w.out.compose(h, f, false, data) })
	}
	if err != nil {
		return c.opError(op, h.Type, err)
	}
	end := w.out.q.End()
	err = w.flush(ctx, end, mine)
	if err != nil && w.err == nil && (taken || !w.withdraw(end, n)) && w.sent(end) {
		err = nil // the last byte went out while we were giving up
	}
	if err == nil && len(w.rejected) > 0 {
		err = w.rejection(end)
	}
	return c.opError(op, h.Type, err)
}

// maxParts is how many parts of a payload one system call takes from where they
// are. A message with more is queued.
const maxParts = 7

// direct writes a message at once if it is the only one and nobody waits: header
// and payload from where they are, without the queue and the poller. What the
// kernel does not take is queued. The lock is held meanwhile: the call does not
// wait, and copies no more than fits the socket. If taken is false nothing has
// happened. w.mu is held.
func (w *sender) direct(h Header, f *os.File, n int, data [][]byte) (taken bool, err error) {
	if len(data) > maxParts || !w.out.withinLimits(n) || f != nil && !w.out.c.cfg.AllowFDPass {
		return false, nil
	}
	if w.fd < 0 || w.err != nil || !w.turn.Idle() || w.contention > 0 || w.out.q.Len() > 0 || w.deadline.given.Load() {
		return false, nil
	}
	var head [HeaderSize]byte
	putHeader(head[:], h, w.out.lengthWord(n, f != nil))
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
	return true, w.err
}

// compose queues a message with queue, as soon as there is room, and reports
// whether the caller has the turn then.
func (w *sender) compose(ctx context.Context, queue func() error) (mine bool, err error) {
	queued, waited := false, false
	defer func() {
		if !queued {
			w.leave(mine)
		}
	}()
	for pause := time.Millisecond; ; {
		if w.err != nil {
			return mine, w.err
		}
		if waited || !w.turn.Crowded() {
			err := queue()
			if queued = err == nil; queued || !errors.Is(err, ErrQueueFull) {
				return mine, err
			}
			w.turn.Full()
			if w.turn.Step(false, mine) == turn.Work {
				mine = true
				w.turn.Take()
				if err := w.work(ctx, &pause); err != nil {
					return mine, err
				}
				waited = true
				continue
			}
		}
		x := waiters.Get().(*waiter)
		w.turn.WaitRoom(x, waited)
		mine, err = w.sleep(ctx, x, true)
		if waited = true; err != nil {
			return mine, err
		}
	}
}

// withdraw takes the message that ends at end out of the queue, if no byte of
// it was written.
func (w *sender) withdraw(end uint64, n int) bool {
	for w.writing {
		w.written.Wait()
	}
	if w.err != nil || w.sent(end) || !w.out.q.Remove(end, n) {
		return false
	}
	w.turn.Freed()
	w.wakeNext()
	return true
}

// sleep waits until x is woken, for room or for what was written, and reports
// whether the caller has the turn then. w.mu is held, but not while it waits.
func (w *sender) sleep(ctx context.Context, x *waiter, room bool) (mine bool, err error) {
	defer x.free()
	w.wakeNext()
	err = w.halfConn.sleep(ctx, x)
	if err != nil && w.turn.GiveUp(x) {
		return false, err
	}
	if err != nil {
		<-x.ch // woken at the same time
	}
	if room && !x.mine {
		w.turn.Looked()
	}
	return x.mine, err
}

// leave gives the turn up, if the caller has it.
func (w *sender) leave(mine bool) {
	if mine {
		w.turn.Leave()
	}
	w.wakeNext()
}

// wakeNext wakes whoever is due, before w.mu is unlocked.
func (w *sender) wakeNext() {
	for {
		x, mine, ok := w.turn.Next(w.out.q.Start(), w.out.q.Len() > 0)
		if !ok {
			return
		}
		x.wake(mine)
	}
}

// Compose queues a message like Buf.Compose: it does not wait and sends nothing,
// which is for Flush or the next Send to do. A file f, if not nil, belongs to
// the queue if the error is nil. ErrQueueFull when a limit of Config is
// reached.
func (c *Conn) Compose(h Header, f *os.File, data ...[]byte) error {
	h = c.withPID(h)
	w := &c.w
	w.mu.Lock()
	if c.cfg.Trace != nil { // it may panic
		defer w.mu.Unlock()
		return c.opError("compose", h.Type, w.queue(h, f, data))
	}
	err := w.queue(h, f, data)
	w.mu.Unlock() // without the cost of a defer
	return c.opError("compose", h.Type, err)
}

// An Outgoing is a message for ComposeBatch.
type Outgoing struct {
	Header Header
	File   *os.File // nil: none
	Data   []byte   // the payload
}

// ComposeBatch is Compose for many messages at a time, which others' do not come
// between. It returns how many were queued: all of them if the error is nil,
// and otherwise those before the one that the error is about.
func (c *Conn) ComposeBatch(ms []Outgoing) (n int, err error) {
	w := &c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range ms {
		m := &ms[i]
		if err := w.queue(c.withPID(m.Header), m.File, [][]byte{m.Data}); err != nil {
			return i, c.opError("compose", m.Header.Type, err)
		}
	}
	return len(ms), nil
}

// queue is Compose. w.mu is held.
func (w *sender) queue(h Header, f *os.File, data [][]byte) error {
	if w.err != nil {
		return w.err
	}
	return w.out.compose(h, f, true, data)
}

// queueBuffer is what Builder.Commit calls.
func (c *Conn) queueBuffer(h Header, b *ibuf.Buffer) error {
	w := &c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
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
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if err := w.flush(ctx, w.out.q.End(), false); err != nil {
		return opError("flush", 0, err)
	}
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

// rejection returns why the Send whose message ended at end failed, or nil.
func (w *sender) rejection(end uint64) error {
	for i, r := range w.rejected {
		if !r.queued && r.end == end {
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
	if w.err != nil {
		return w.failedAt >= end
	}
	return w.out.q.Start() >= end
}

// flush writes, or lets another goroutine write, until the queue is written up
// to the stream offset end. mine says that the caller has the turn, which it
// gives up. w.mu is held, but not while it waits.
func (w *sender) flush(ctx context.Context, end uint64, mine bool) (err error) {
	pause := time.Millisecond
	gathered := false
	for {
		switch w.turn.Step(w.sent(end), mine) {
		case turn.Done:
			w.leave(mine)
			return nil
		case turn.Failed:
			w.leave(mine)
			return w.err
		case turn.Sleep:
			w.contention.note(true)
			x := waiters.Get().(*waiter)
			w.turn.WaitWritten(x, end)
			mine, err = w.sleep(ctx, x, false)
		case turn.Work:
			if w.contention.note(false); !gathered && w.contention > 0 {
				gathered = true
				w.gather()
				continue
			}
			mine = true
			w.turn.Take()
			err = w.work(ctx, &pause)
		}
		if err != nil {
			w.leave(mine)
			return err
		}
	}
}

// work writes once, as the one that has the turn. An error that ends the
// direction is kept in w.err, others are returned. w.mu is held, but not while
// it waits.
func (w *sender) work(ctx context.Context, pause *time.Duration) error {
	w.wakeNext()
	w.mu.Unlock()
	err := w.run(ctx)
	if isTemporary(err) {
		err = w.pause(ctx, *pause)
		*pause = min(2**pause, maxPause)
	}
	w.mu.Lock()
	switch {
	case err == nil || w.err != nil:
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
	w.wakeNext()
	w.mu.Unlock()
	runtime.Gosched()
	w.mu.Lock()
	w.contention.note(w.out.q.End() != end)
}

// write makes one system call. What others have queued meanwhile goes along.
func (w *sender) write(fd uintptr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.out.pending(int(fd))
	w.writing = true
	w.mu.Unlock()
	n, err := next.transmit(int(fd), w.out.c.flags)
	w.mu.Lock()
	w.writing = false
	w.written.Broadcast()
	w.serr = err
	if w.err != nil { // closed meanwhile
		w.out.q.Clear()
		return true
	}
	switch {
	case err == nil:
		w.out.wrote(n)
		w.turn.Freed()
	case next.file != nil && isFileError(int(fd), err):
		w.reject(err)
		w.turn.Freed()
		w.serr = nil
	}
	if !isWouldBlock(err) {
		return true
	}
	w.interruptible()
	return false
}

// pause waits a while for a condition that no socket event tells of.
func (w *sender) pause(ctx context.Context, d time.Duration) error {
	d, err := w.deadline.left(d)
	if err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// fail ends the direction: what is queued is discarded.
func (w *sender) fail(err error) {
	w.failedAt = w.out.q.Start()
	w.err = err
	if !w.writing {
		w.out.q.Clear()
	}
	w.turn.End()
	w.wakeNext()
}

// release ends the use of the descriptor without the poller.
func (w *sender) release() {
	w.mu.Lock()
	w.fd = -1
	w.mu.Unlock()
}

func (w *sender) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.fail(opError("send", 0, net.ErrClosed))
	}
	w.err = opError("send", 0, net.ErrClosed)
}
