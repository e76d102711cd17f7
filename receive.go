package imsg

import (
	"context"
	"io"
	"iter"
	"net"
	"sync"
	"time"

	"example.org/imsg/internal/stream"
	"example.org/imsg/internal/turn"
)

// A receiver is the receiving half of a Conn.
type receiver struct {
	halfConn
	turn turn.Receivers[*waiter]
	in   input
	err  error // final

	reading bool // a system call puts bytes into the framer's memory
	spin    spinner
}

// receiving has waiters that receive.
var receiving = sync.Pool{New: func() any {
	x := new(waiter)
	x.init()
	return x
}}

func (r *receiver) init(c *Conn) {
	r.in.init(&c.settings)
	r.spin.busy = c.cfg.BusyPoll
	r.c = c
	r.deadline.set = c.file.SetReadDeadline
}

// Receive returns the oldest message that was not received yet, and waits for
// it. The caller must close the message. The error is io.EOF when the peer has
// closed the channel between messages, which is also what a peer looks like that
// failed and ended, and otherwise an *OpError:
// io.ErrUnexpectedEOF inside a message, *HeaderError, net.ErrClosed, a system
// call's, which all end this direction of the channel, or
// os.ErrDeadlineExceeded or ctx.Err(), which do not. Messages that arrived
// before an error are returned first.
func (c *Conn) Receive(ctx context.Context) (Message, error) {
	if err := ctx.Err(); err != nil {
		return Message{}, opError("receive", 0, err)
	}
	if m, ok := c.r.next(); ok {
		return m, nil
	}
	return c.r.wait(ctx)
}

// next returns the oldest message that is there already.
func (r *receiver) next() (Message, bool) {
	if r.in.c.cfg.Trace != nil {
		return r.nextTraced()
	}
	r.mu.Lock()
	m, ok := r.in.next()
	r.mu.Unlock() // without the cost of a defer
	return m, ok
}

// nextTraced is next if Trace may panic.
func (r *receiver) nextTraced() (Message, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in.next()
}

// wait is Receive when nothing is there.
func (r *receiver) wait(ctx context.Context) (Message, error) {
	x := receiving.Get().(*waiter)
	r.mu.Lock()
	defer r.leave(x) // Trace may panic
	for again := false; ; {
		if m, ok := r.in.next(); ok {
			return m, nil
		}
		switch r.turn.Step(x.mine) {
		case turn.Failed:
			return Message{}, r.err
		case turn.Sleep:
			if err := r.sleep(ctx, x, again); err != nil {
				return Message{}, opError("receive", 0, err)
			}
			again = true
		default:
			x.mine = true
			r.turn.Take()
			if err := r.read(ctx, x); err != nil {
				return Message{}, err
			}
		}
	}
}

// leave is the end of wait.
func (r *receiver) leave(x *waiter) {
	if x.mine {
		r.turn.Leave()
	}
	r.wakeNext()
	r.mu.Unlock()
	x.mine = false
	receiving.Put(x)
}

// sleep waits for a message or the turn. r.mu is held, but not while it waits.
func (r *receiver) sleep(ctx context.Context, x *waiter, again bool) error {
	if x.token == nil { // who waits alone needs none
		x.token = make(chan struct{}, 1)
	}
	r.turn.Wait(x, again)
	r.wakeNext()
	r.mu.Unlock()
	err := x.sleep(ctx)
	r.mu.Lock()
	if err != nil && r.turn.GiveUp(x) {
		return err
	}
	if err != nil {
		<-x.token // woken at the same time
	}
	if !x.mine {
		r.turn.Looked()
	}
	return err
}

// wakeNext wakes whoever is due, before r.mu is unlocked.
func (r *receiver) wakeNext() {
	for {
		x, mine, ok := r.turn.Next(r.in.framer.Pending() > 0)
		if !ok {
			return
		}
		x.mine = mine
		x.wake()
	}
}

// read lets what one system call delivers be cut into messages. An error that
// does not end the channel is returned, others are kept in r.err. r.mu is held,
// but not while it waits.
func (r *receiver) read(ctx context.Context, x *waiter) error {
	x.space, r.reading = r.in.framer.Buffer(), true
	r.wakeNext()
	r.mu.Unlock()
	err := r.run(ctx, x, r, r.c.raw.Read)
	r.mu.Lock()
	x.space, r.reading = nil, false
	if err == nil {
		err = r.in.deliver()
	}
	switch {
	case r.err != nil: // closed meanwhile
		r.in.framer.Clear()
	case err == nil:
	case isContextErr(err):
		r.in.framer.Release() // it may have ended before the first try
		return opError("receive", 0, err)
	default:
		r.err = receiveError(err)
		r.turn.End()
	}
	return nil
}

// call makes one system call, or a few: a message that is likely to come soon
// is worth a few tries before going to sleep.
func (r *receiver) call(fd uintptr, x *waiter) bool {
	if x.space == nil {
		r.mu.Lock()
		x.space = r.in.framer.Buffer()
		r.mu.Unlock()
	}
	if r.callOnce(fd, x) {
		return true
	}
	r.interruptible(x)
	r.spin.until(func() bool { return r.callOnce(fd, x) }, r.stopped)
	if !isWouldBlock(x.serr) {
		return true
	}
	r.mu.Lock()
	x.space = nil
	r.in.framer.Release()
	r.mu.Unlock()
	return false
}

// callOnce makes one system call and reports whether it had an outcome.
func (r *receiver) callOnce(fd uintptr, x *waiter) bool {
	x.serr = r.in.receive(int(fd), x.space)
	return !isWouldBlock(x.serr)
}

// stopped reports whether the Conn was closed or nobody waits any more.
func (r *receiver) stopped(now time.Time) bool {
	return r.c.closed.Load() || r.deadline.over(now)
}

// close ends the direction. Whoever is reading discards what has arrived.
func (r *receiver) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = opError("receive", 0, net.ErrClosed)
	r.turn.End()
	if !r.reading {
		r.in.framer.Clear()
	}
	r.wakeNext()
}

// ReceiveBatch is Receive for up to len(ms) messages at the price of little more
// than one. It waits for the first only and returns how many there were: at
// least one if the error is nil and ms is not empty. The caller must close
// each; CloseAll does it.
func (c *Conn) ReceiveBatch(ctx context.Context, ms []Message) (n int, err error) {
	if len(ms) == 0 {
		return 0, nil
	}
	if ctx.Err() == nil {
		n = c.r.take(ms, 0)
	}
	if n == 0 {
		if ms[0], err = c.Receive(ctx); err == nil {
			n = c.r.take(ms, 1)
		}
	}
	return n, err
}

// take moves messages that are there already to ms, as input.take.
func (r *receiver) take(ms []Message, n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in.take(ms, n)
}

// All receives messages until the peer closes the channel (io.EOF), where the
// loop ends, or until another error, which is the loop's last value. The loop's
// body must close each message; see Each.
func (c *Conn) All(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) { // in one piece, it becomes a part of the caller's loop
		for endless := ctx.Done() == nil; ; {
			var m Message
			var ok bool
			var err error
			if endless || ctx.Err() == nil {
				m, ok = c.r.next()
			}
			if !ok {
				m, err = c.Receive(ctx)
			}
			if err == io.EOF || !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Each is All, but lends the messages to the loop's body: the loop closes them,
// which is cheaper than Close, each after its body or soon after that and at the
// latest when the loop waits for another or ends. A message that the body has
// called Keep for is the caller's to close.
func (c *Conn) Each(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		var run stream.Run
		defer run.Flush()
		for endless := ctx.Done() == nil; ; {
			var m Message
			var ok bool
			var err error
			if endless || ctx.Err() == nil {
				m, ok = c.r.next()
			}
			if !ok {
				run.Flush()
				m, err = c.Receive(ctx)
			}
			if err == io.EOF {
				return
			}
			more := yield(m, err)
			if !m.f.Kept() {
				run.Close(m.f)
			}
			if !more || err != nil {
				return
			}
		}
	}
}
