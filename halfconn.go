package imsg

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxPause bounds the wait between two tries after an error that goes away by
// itself (isTemporary).
const maxPause = 32 * time.Millisecond

// A halfConn is what each direction of a Conn needs so that many goroutines can
// use it: one of them, the one that has the turn, makes the system calls, and
// the others sleep until they are woken. All of them can be woken by their
// context, by a deadline and by Close. Package turn decides who has the turn.
type halfConn struct {
	mu  sync.Mutex // guards the direction's state, with the turn, and err
	err error      // final

	// For the goroutine that has the turn:
	loop func(func(fd uintptr) bool) error // RawConn.Read or Write
	call func(fd uintptr) bool             // one system call; false: wait and try again
	serr error                             // what the last call said
	ctx  context.Context                   // of the run under way
	stop func() bool                       // ends the care for ctx, if not nil

	done <-chan struct{} // closed by Conn.Close

	deadline deadline
}

// A waiter is a goroutine that may have to sleep.
type waiter struct {
	ch   chan struct{} // has room for the one token that wakes it
	mine bool          // it has the turn: set before it is woken

	sending         // of a sender
	next    *waiter // to be woken after it
}

var waiters = sync.Pool{New: func() any { return &waiter{ch: make(chan struct{}, 1)} }}

// wake wakes x.
func (x *waiter) wake() { x.ch <- struct{}{} }

// sleep waits until x is woken, or until ctx ends, whose error it returns: then
// x may have been woken nevertheless.
func (x *waiter) sleep(ctx context.Context) error {
	end := ctx.Done()
	if end == nil {
		<-x.ch
		return nil
	}
	select {
	case <-x.ch:
		return nil
	case <-end:
		return ctx.Err()
	}
}

// free gives x back, which nobody refers to any more.
func (x *waiter) free() {
	x.mine = false
	x.forget()
	waiters.Put(x)
}

// run makes system calls until one has an outcome, and returns its error, or
// until ctx ends. Only the goroutine that has the turn may call it, without
// h.mu.
func (h *halfConn) run(ctx context.Context) error {
	h.ctx = ctx
	err := h.loop(h.call)
	h.ctx = nil
	if h.stop != nil {
		h.stop()
		h.stop = nil
		h.deadline.disarm()
		if cerr := ctx.Err(); err != nil && os.IsTimeout(err) && cerr != nil {
			err = cerr
		}
	}
	if err == nil {
		return h.serr
	}
	select {
	case <-h.done:
		return net.ErrClosed
	default:
		return err
	}
}

// interruptible lets the end of run's context end the wait that call is about to
// ask for. A call that has an outcome at once has no need of it.
func (h *halfConn) interruptible() {
	if h.ctx.Done() == nil || h.stop != nil {
		return
	}
	token := h.deadline.arm()
	h.stop = context.AfterFunc(h.ctx, func() { h.deadline.interrupt(token) })
}

// A deadline is the user's, which a context that ends overrides for as long as
// the operation runs that it belongs to.
type deadline struct {
	mu    sync.Mutex
	set   func(time.Time) error
	user  time.Time
	given atomic.Bool // user is not zero
	token uint64
	armed bool
	hit   bool
}

// change sets the user's deadline.
func (d *deadline) change(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.user = t
	d.given.Store(!t.IsZero())
	if d.hit {
		return nil // disarm does it
	}
	return d.set(t)
}

// left returns how long the user's deadline lets an operation wait, at most max.
func (d *deadline) left(max time.Duration) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user.IsZero() {
		return max, nil
	}
	t := time.Until(d.user)
	if t <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return min(t, max), nil
}

// over reports whether an operation that waits must end now.
func (d *deadline) over(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hit || !d.user.IsZero() && now.After(d.user)
}

func (d *deadline) arm() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token++
	d.armed = true
	return d.token
}

// interrupt ends the operation that got token, if it still runs.
func (d *deadline) interrupt(token uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed && d.token == token {
		d.hit = true
		d.set(time.Unix(1, 0))
	}
}

func (d *deadline) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
	if d.hit {
		d.hit = false
		d.set(d.user)
	}
}
