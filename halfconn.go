package imsg

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// maxPause bounds the wait between two tries when the system says "later"
// without telling when.
const maxPause = 32 * time.Millisecond

// A halfConn is what each direction of a Conn needs so that many goroutines can
// use it: one of them, the one that took the turn, makes the system calls, and
// the others sleep until something has changed. All of them can be woken by
// their context, by a deadline and by Close.
type halfConn struct {
	mu   sync.Mutex // guards the direction's state and what follows
	err  error      // final
	busy bool       // somebody has the turn
	wait []chan struct{}
	free []chan struct{}

	// For the goroutine that has the turn:
	loop func(func(fd uintptr) bool) error // RawConn.Read or Write
	call func(fd uintptr) bool             // one system call; false: wait and try again
	serr error                             // what the last call said
	try  bool                              // make one system call and return its EAGAIN instead of parking in the poller

	done <-chan struct{} // closed by Conn.Close

	deadline deadline
}

// sleep gives up h.mu until wake, or until ctx ends, whose error it returns.
func (h *halfConn) sleep(ctx context.Context) error {
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
func (h *halfConn) wake() {
	for _, ch := range h.wait {
		ch <- struct{}{}
	}
	h.wait = h.wait[:0]
}

// run makes system calls until one has an outcome, and returns its error, or
// until ctx ends. Only the goroutine that has the turn may call it, without
// h.mu.
func (h *halfConn) run(ctx context.Context) error {
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

func (h *halfConn) interruptible(ctx context.Context) error {
	if ctx.Done() == nil {
		return h.loop(h.call)
	}
	h.try = true
	err := h.loop(h.call)
	h.try = false
	if err != nil || !isWouldBlock(h.serr) {
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
