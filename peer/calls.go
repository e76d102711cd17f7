package peer

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/flow"
)

// A call is one request of ours. It stays in the table, even if nobody waits
// any more, until the message comes that ends its answer: only so later calls
// find theirs. The lock of calls guards it.
type call struct {
	index       int // in calls.all
	id          uint32
	typ         uint32
	items, ends []uint32
	last        func(imsg.Message) bool
	since       time.Time
	slot        bool      // it holds one; set before sent, without the lock
	nested      *Incoming // whose handler's call it is, without a slot

	msgs []imsg.Message
	err  error // behind msgs
	sent bool  // it is in the table, or was
	over bool  // its answer has ended, or none can come
	left bool  // nobody waits: what comes is closed
	wake chan struct{}

	waiting bool      // somebody waits for the next message
	waiter  *Incoming // on behalf of this handler, if any
}

// calls are our calls under way.
type calls struct {
	cfg   *Config
	gate  *gate
	slots chan struct{} // holds a token for each call that is counted

	mu      sync.Mutex
	all     []*call
	byID    map[uint32]*call
	order   []*call // without ids: the oldest first
	nextID  uint32
	nested  int // calls without a slot
	left    int // calls with an id that nobody waits for any more
	dropped bool
	newest  uint32 // with dropped: the highest id of a call that was given up and is not remembered
	free    []*call
	err     error         // why there can be no more calls
	idle    chan struct{} // of stop: closed when there are no calls that somebody waits for
	cancels []uint32      // ids that the other end is to be told of
	telling bool          // somebody does
}

func (t *calls) init(cfg *Config, g *gate) {
	t.cfg, t.gate = cfg, g
	t.slots = make(chan struct{}, cfg.MaxCalls)
	t.byID = make(map[uint32]*call)
}

// add makes a call, of memory that was used before if there is any. One of the
// handler of r must not wait for a slot, which calls may hold that wait for this
// handler.
func (t *calls) add(req *Request, r *Incoming) (*call, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle != nil && r == nil {
		return nil, fmt.Errorf("shutting down: %w", net.ErrClosed)
	}
	c := &call{}
	if n := len(t.free); n > 0 {
		c, t.free = t.free[n-1], t.free[:n-1]
	} else {
		c.wake = make(chan struct{}, 1)
	}
	c.typ, c.last, c.since = req.Type, req.Last, time.Now()
	c.items = append(c.items[:0], req.Items...)
	c.ends = append(c.ends[:0], req.Ends...)
	c.index = len(t.all)
	t.all = append(t.all, c)
	if r != nil && !r.nested && t.cfg.Match == ByID && t.nested < t.gate.limits.Most {
		r.nested, c.nested = true, r
		t.nested++
	}
	return c, nil
}

// enter puts c into the table and returns the id for its request. It must be
// called in the order in which requests are sent.
func (t *calls) enter(c *call) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, t.err
	}
	c.sent = true
	if t.cfg.Match != ByID {
		t.order = append(t.order, c)
		return t.cfg.ID, nil
	}
	for {
		t.nextID++
		if t.nextID != 0 && t.byID[t.nextID] == nil {
			break
		}
	}
	c.id = t.nextID
	t.byID[c.id] = c
	return c.id, nil
}

// deliver gives c, which match has found, a message of its answer. It reports
// false if nobody wants it.
func (t *calls) deliver(c *call, h imsg.Header, m imsg.Message, last bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.order, c) && t.byID[h.ID] != c {
		return false // it was given up meanwhile
	}
	if t.cfg.isError(h.Type) {
		t.failLocked(c, remoteError(c.typ, m))
		return false
	}
	wanted := !c.left && c.err == nil
	if wanted {
		t.setHeld(c, append(c.msgs, m))
		t.notifyLocked(c)
	}
	if last {
		t.forgetLocked(c)
	}
	return wanted
}

// next returns the next message of the answer to c, and tells whether it is the
// last. ok is false if it has not come: then the caller, who is the handler of
// r if that is not nil, is counted as one who waits, until stopWaiting.
func (t *calls) next(c *call, r *Incoming) (m imsg.Message, last, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(c.msgs) > 0:
		m = c.msgs[0]
		t.setHeld(c, slices.Delete(c.msgs, 0, 1))
		return m, len(c.msgs) == 0 && c.over && c.err == nil, true, nil
	case c.err != nil:
		return m, false, true, c.err
	}
	c.waiting, c.waiter = true, r
	t.gate.wait(r, flow.Call)
	return m, false, false, nil
}

// stopWaiting is the end of next's waiting, whoever ends it.
func (t *calls) stopWaiting(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopWaitingLocked(c)
}

func (t *calls) stopWaitingLocked(c *call) {
	if c.waiting {
		c.waiting = false
		t.gate.done(c.waiter, flow.Call)
	}
}

// notifyLocked wakes whoever waits for c, and counts it as awake: the reader
// must not go on as if somebody still waited.
func (t *calls) notifyLocked(c *call) {
	t.stopWaitingLocked(c)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// setHeld sets the messages that c holds.
func (t *calls) setHeld(c *call, msgs []imsg.Message) {
	n := len(c.msgs)
	c.msgs = msgs
	if now := len(msgs); max(n, now) >= maxItems {
		t.gate.update(func(s *flow.State) { s.Hold(t.gate.limits, n, now) })
	}
}

// takeLocked takes the messages that c holds.
func (t *calls) takeLocked(c *call) []imsg.Message {
	held := slices.Clone(c.msgs)
	clear(c.msgs)
	t.setHeld(c, c.msgs[:0])
	return held
}

// withdraw takes a call that was not sent out of the table again.
func (t *calls) withdraw(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.sent = false
	t.forgetLocked(c)
}

// leave tells that nobody waits for c any more. A call with an id gives its
// place back, even if its answer has not ended, and a bounded number of them is
// remembered. Without ids its place is all that tells what comes next. tell says
// that the caller must let tellCancels run.
func (t *calls) leave(c *call) (tell bool) {
	t.mu.Lock()
	drop := t.takeLocked(c)
	c.left = true
	if c.over {
		t.recycleLocked(c)
	} else if t.cfg.Match == ByID {
		tell = t.abandonLocked(c)
	}
	t.checkIdleLocked()
	t.mu.Unlock()
	closeAll(drop)
	return tell
}

// abandonLocked remembers c as one whose answer is to be dropped.
func (t *calls) abandonLocked(c *call) (tell bool) {
	t.releaseLocked(c)
	limit := hardFactor * t.cfg.MaxCalls
	if t.cfg.CancelType != 0 && len(t.cancels) < limit {
		t.cancels = append(t.cancels, c.id)
		tell = !t.telling
		t.telling = true
	}
	if t.left++; t.left <= limit {
		return tell
	}
	oldest := c
	for _, o := range t.all {
		if o.left && int32(oldest.id-o.id) > 0 {
			oldest = o
		}
	}
	if !t.dropped || int32(oldest.id-t.newest) > 0 {
		t.dropped, t.newest = true, oldest.id
	}
	t.forgetLocked(oldest)
	return tell
}

// forgetLocked takes c out of the table and gives its place back.
func (t *calls) forgetLocked(c *call) {
	if c.over {
		return
	}
	c.over = true
	if t.byID[c.id] == c {
		delete(t.byID, c.id)
	}
	if i := slices.Index(t.order, c); i >= 0 {
		t.order = slices.Delete(t.order, i, i+1)
	}
	end := t.all[len(t.all)-1]
	t.all[c.index], end.index = end, c.index
	t.all[len(t.all)-1] = nil
	t.all = t.all[:len(t.all)-1]
	t.releaseLocked(c)
	if c.left {
		if t.cfg.Match == ByID {
			t.left--
		}
		t.recycleLocked(c)
	}
	t.checkIdleLocked()
}

// releaseLocked gives the place of c to another call.
func (t *calls) releaseLocked(c *call) {
	if c.slot {
		c.slot = false
		<-t.slots
	}
	if c.nested != nil {
		c.nested.nested = false
		c.nested = nil
		t.nested--
	}
}

// recycleLocked keeps the memory of a call that nobody knows any more.
func (t *calls) recycleLocked(c *call) {
	if len(t.free) >= cap(t.slots) {
		return
	}
	select {
	case <-c.wake:
	default:
	}
	*c = call{items: c.items, ends: c.ends, msgs: c.msgs, wake: c.wake}
	t.free = append(t.free, c)
}

// failLocked ends c with an error.
func (t *calls) failLocked(c *call, err error) {
	c.err = err
	t.notifyLocked(c)
	t.forgetLocked(c)
}

// failAll ends all calls because of err, and lets no more begin. With take, it
// returns the messages that they hold, which the caller must close.
func (t *calls) failAll(err error, take bool) (drop []imsg.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	for _, c := range slices.Clone(t.all) {
		if !c.sent {
			continue // who sends it finds out
		}
		if take {
			drop = append(drop, t.takeLocked(c)...)
		}
		t.failLocked(c, err)
	}
	return drop
}

// failSlow ends the streams that hold as much as may be, and returns their
// messages, which the caller must close.
func (t *calls) failSlow() (drop []imsg.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.all {
		if n := len(c.msgs); n >= t.gate.limits.HardItems {
			drop = append(drop, t.takeLocked(c)...)
			c.err = fmt.Errorf("%d messages of its answer wait to be taken", n)
		}
	}
	return drop
}

// stop lets only handlers begin calls, and returns a channel that is closed when
// nobody waits for a call any more.
func (t *calls) stop() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	t.checkIdleLocked()
	return t.idle
}

func (t *calls) checkIdleLocked() {
	if t.idle == nil || slices.ContainsFunc(t.all, func(c *call) bool { return !c.left }) {
		return
	}
	select {
	case <-t.idle:
	default:
		close(t.idle)
	}
}

// nextCancel returns the id of a call whose end the other end is to be told of,
// or 0 if there is none: then the caller has told of all.
func (t *calls) nextCancel() (id uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.telling = len(t.cancels) > 0; t.telling {
		id, t.cancels = t.cancels[0], t.cancels[1:]
	}
	return id
}

// waited says why a call has waited in vain for a slot.
func (t *calls) waited(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	given := 0
	for _, c := range t.all {
		if c.left && c.slot {
			given++
		}
	}
	if given == 0 {
		return err
	}
	return fmt.Errorf("%d of %d places are held by calls that were given up and are not answered: %w", given, cap(t.slots), err)
}

var errNoEnd = errors.New("nothing ends its answer")
