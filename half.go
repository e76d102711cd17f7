package imsg

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxPause bounds the wait between two tries when the system says "later"
// without telling when.
const maxPause = 32 * time.Millisecond

// A half is what each direction of a Conn needs so that many goroutines can
// use it: one of them, the one that took the turn, makes the system calls, and
// the others sleep until something has changed. All of them can be woken by
// their context, by a deadline and by Close.
type half struct {
	mu   sync.Mutex // guards the direction's state and what follows
	err  error      // final
	busy bool       // somebody has the turn
	wait []chan struct{}
	free []chan struct{}

	// For the goroutine that has the turn:
	loop   func(func(fd uintptr) bool) error // RawConn.Read or Write
	call   func(fd uintptr) bool             // one system call; false: wait and try again
	serr   error                             // what the last call said
	nowait bool                              // call must not ask to wait

	done <-chan struct{} // closed by Conn.Close

	deadline deadline
}

// sleep gives up h.mu until wake, or until ctx ends, whose error it returns.
func (h *half) sleep(ctx context.Context) error {
	var ch chan struct{}
	if n := len(h.free); n > 0 {
		ch, h.free = h.free[n-1], h.free[:n-1]
	} else {
		ch = make(chan struct{}, 1)
	}
	h.wait = append(h.wait, ch)
	h.mu.Unlock()
	var err error
	select {
	case <-ch:
	case <-ctx.Done():
		err = ctx.Err()
	}
	h.mu.Lock()
	if err != nil {
		for i, w := range h.wait {
			if w == ch {
				h.wait = append(h.wait[:i], h.wait[i+1:]...)
				break
			}
		}
		select {
		case <-ch: // woken at the same time
		default:
		}
	}
	h.free = append(h.free, ch)
	return err
}

// wake lets everyone who sleeps look again.
func (h *half) wake() {
	for _, ch := range h.wait {
		ch <- struct{}{}
	}
	h.wait = h.wait[:0]
}

// run makes system calls until one has an outcome, and returns its error, or
// until ctx ends. Only the goroutine that has the turn may call it, without
// h.mu.
func (h *half) run(ctx context.Context) error {
	err := h.interruptible(ctx)
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

func (h *half) interruptible(ctx context.Context) error {
	if ctx.Done() == nil {
		return h.loop(h.call)
	}
	h.nowait = true
	err := h.loop(h.call)
	h.nowait = false
	if err != nil || !again(h.serr) {
		return err
	}
	token := h.deadline.arm()
	stop := context.AfterFunc(ctx, func() { h.deadline.interrupt(token) })
	err = h.loop(h.call)
	stop()
	h.deadline.disarm()
	if cerr := ctx.Err(); err != nil && os.IsTimeout(err) && cerr != nil {
		return cerr
	}
	return err
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
