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
	mu       sync.Mutex // guards the direction's state, with the turn
	c        *Conn
	deadline deadline
}

// A caller is a direction's socket. It makes one system call, for x, and reports
// false if x must wait and then try again.
type caller interface {
	call(fd uintptr, x *waiter) bool
}

// A waiter is a goroutine that may have to wait: for others, or, while it has the
// turn, for the socket. An idle Conn has none.
type waiter struct {
	token chan struct{} // has room for the one that wakes it
	mine  bool          // it has the turn: set before it is woken

	// With the turn:
	try   func(fd uintptr) bool // makes one system call for by
	by    caller
	serr  error           // what the last one said
	ctx   context.Context // of the run under way
	stop  func() bool     // ends the care for ctx, if not nil
	space []byte          // of a receiver: the framer's memory to read into
}

func (x *waiter) init() {
	x.try = func(fd uintptr) bool { return x.by.call(fd, x) }
}

// wake wakes x.
func (x *waiter) wake() { x.token <- struct{}{} }

// sleep waits until x is woken, or until ctx ends, whose error it returns: then
// x may have been woken nevertheless.
func (x *waiter) sleep(ctx context.Context) error {
	end := ctx.Done()
	if end == nil {
		<-x.token
		return nil
	}
	select {
	case <-x.token:
		return nil
	case <-end:
		return ctx.Err()
	}
}

// run lets loop, which is RawConn.Read or Write, make system calls until one has
// an outcome, and returns its error, or until ctx ends. x has the turn, and h.mu
// is not held.
func (h *halfConn) run(ctx context.Context, x *waiter, by caller, loop func(func(fd uintptr) bool) error) error {
	x.by, x.ctx, x.serr = by, ctx, nil
	err := loop(x.try)
	x.by, x.ctx = nil, nil
	if x.stop != nil {
		x.stop()
		x.stop = nil
		h.deadline.disarm()
		if cerr := ctx.Err(); err != nil && os.IsTimeout(err) && cerr != nil {
			err = cerr
		}
	}
	switch {
	case err == nil:
		return x.serr
	case h.c.closed.Load():
		return net.ErrClosed
	}
	return err
}

// interruptible lets the end of run's context end the wait that x is about to
// ask for. A call that has an outcome at once has no need of it.
func (h *halfConn) interruptible(x *waiter) {
	if x.ctx.Done() == nil || x.stop != nil {
		return
	}
	token := h.deadline.arm()
	x.stop = context.AfterFunc(x.ctx, func() { h.deadline.interrupt(token) })
}

// A deadline is the user's, which a context that ends overrides for as long as
// the operation runs that it belongs to.
type deadline struct {
	mu    sync.Mutex
	set   func(time.Time) error
	user  time.Time
	token uint32
	given atomic.Bool // user is not zero
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

func (d *deadline) arm() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token++
	d.armed = true
	return d.token
}

// interrupt ends the operation that got token, if it still runs.
func (d *deadline) interrupt(token uint32) {
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
