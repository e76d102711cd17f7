package imsg

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

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
