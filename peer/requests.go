package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"example.org/imsg"
	"example.org/imsg/internal/flow"
)

// requests are those of the other end: the table of what it may ask for, those
// that wait, and those that have begun.
type requests struct {
	peer *Peer
	work sync.WaitGroup // handlers

	mu     sync.Mutex
	rules  map[uint32]*row
	state  string
	queue  []*Incoming   // no handler has begun
	begun  []*Incoming   // and not finished
	closed bool          // what comes is dropped
	idle   chan struct{} // of stop: closed when there are none
}

func (q *requests) init(p *Peer) {
	q.peer = p
	q.rules = make(map[uint32]*row)
}

// has reports whether there is a rule for requests of the type typ.
func (q *requests) has(typ uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.rules[typ] != nil
}

// add lets a request wait for a handler, if the rule for it allows it.
func (q *requests) add(m imsg.Message, h imsg.Header) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	row := q.rules[h.Type]
	reason := row.admit(m)
	if reason == "" && !q.peer.gate.admit() {
		reason = fmt.Sprintf("one too many, %d wait", hardFactor*q.peer.cfg.MaxRequests)
	}
	if reason != "" || q.closed { // then nobody hears of the error
		m.Close()
		return &RuleError{Type: h.Type, Reason: reason}
	}
	q.queue = append(q.queue, newIncoming(q.peer, row, m, h))
	q.beginLocked()
	if n := len(q.queue); n > 0 {
		q.queue[n-1].compact()
	}
	return nil
}

// begin begins to handle requests, as many as may be at once.
func (q *requests) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.beginLocked()
}

func (q *requests) beginLocked() {
	for r := q.nextLocked(); r != nil; r = q.nextLocked() {
		q.work.Add(1)
		go q.handleAll(r) // Go of a WaitGroup allocates twice
	}
}

// nextLocked takes the next request to be handled; nil if there is none, or it
// must wait.
func (q *requests) nextLocked() *Incoming {
	if len(q.queue) == 0 || !q.peer.gate.begin(q.queue[0]) {
		return nil
	}
	r := q.queue[0]
	q.queue = slices.Delete(q.queue, 0, 1)
	r.index = len(q.begun)
	q.begun = append(q.begun, r)
	return r
}

// handleAll handles r, and then what waits.
func (q *requests) handleAll(r *Incoming) {
	defer q.work.Done()
	returned := false
	defer func() {
		if !returned { // runtime.Goexit, by the program: others go on
			q.begin()
		}
	}()
	for r != nil {
		q.handle(r)
		q.mu.Lock()
		r = q.nextLocked()
		q.mu.Unlock()
	}
	returned = true
}

// handle handles one request, whatever its handler does.
func (q *requests) handle(r *Incoming) {
	err := errGoexit
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(r.header.Type, v)
		}
		r.Close()
		later := r.later.Load() && err == nil
		concludes := !later && !r.finished.Swap(true)
		if concludes {
			q.peer.conclude(r, err)
		}
		q.peer.gate.update(func(s *flow.State) { s.Finish(&r.flow) })
		q.finish(r, true, concludes)
	}()
	if refusal := q.refusal(r); refusal != nil {
		err = refusal
	} else {
		err = r.row.Handle(&r.ctx, r)
	}
}

// refusal says why a request is not handled: earlier ones may have changed the
// state since it came.
func (q *requests) refusal(r *Incoming) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch in := r.row.States; {
	case in != nil && !slices.Contains(in, q.state):
		return &RuleError{Type: r.row.Type, Reason: fmt.Sprintf("in state %q, allowed in %q", q.state, in)}
	case q.idle != nil:
		return errShutdown
	case r.givenUp:
		return context.Canceled
	}
	return r.FileErr() // our own table may be full: no violation, but nothing to work with
}

// conclude ends the answer to r, of whose handling err is the result.
func (p *Peer) conclude(r *Incoming, err error) {
	if err == nil && p.cfg.Match == ByID && r.WantsAnswer() && !r.replied.Load() {
		err = errNoAnswer
	}
	if err == nil {
		return
	}
	if panicked := (*PanicError)(nil); errors.As(err, &panicked) {
		if !p.report(err) {
			p.end(err)
			return
		}
		err = errInternal
	}
	switch {
	case errors.Is(err, ErrViolation):
		p.end(err)
	case p.isLost(err): // the reader will find out how
	case !p.cfg.NoErrorType:
		if err = r.refuse(err); err != nil && !p.isLost(err) {
			p.end(err)
		}
	case p.ctx.Err() != nil && errors.Is(err, context.Canceled): // as it should
	default:
		p.end(opError("request", r.header.Type, err))
	}
}

// finish forgets a request once its handler has returned and its answer is
// concluded, of which each is told once, in any order.
func (q *requests) finish(r *Incoming, returned, concluded bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.returned = r.returned || returned
	r.concluded = r.concluded || concluded
	if !r.returned || !r.concluded {
		return
	}
	end := len(q.begun) - 1
	q.begun[r.index], q.begun[end].index = q.begun[end], r.index
	q.begun[end] = nil
	q.begun = q.begun[:end]
	if r.cancel != nil {
		r.cancel()
	}
	q.checkIdleLocked()
}

// giveUp ends the context of the handler of the request with the given id: the
// other end does not wait for its answer any more.
func (q *requests) giveUp(id uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, list := range [][]*Incoming{q.queue, q.begun} {
		for _, r := range list {
			if r.header.ID == id && id != 0 {
				r.givenUp = true
				r.cancel()
			}
		}
	}
}

// close drops what waits and what comes, and returns the messages, which the
// caller must close.
func (q *requests) close() (drop []imsg.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, r := range q.queue {
		drop = append(drop, r.Message)
	}
	q.queue = nil
	return drop
}

// stop lets all requests whose handlers have not begun be refused, and returns a
// channel that is closed when there are none.
func (q *requests) stop() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	q.checkIdleLocked()
	return q.idle
}

func (q *requests) checkIdleLocked() {
	if q.idle == nil || len(q.queue)+len(q.begun) > 0 {
		return
	}
	select {
	case <-q.idle:
	default:
		close(q.idle)
	}
}
