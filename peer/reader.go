package peer

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"example.org/imsg"
)

// read receives until there is an error. It waits for nobody of ours who waits
// for the other end, and runs no handlers.
func (p *Peer) read() error {
	for {
		m, err := p.conn.Receive(context.Background())
		if err != nil {
			return err
		}
		if err = p.dispatch(m); err == nil {
			p.closeDropped()
			p.pause()
		}
		p.closeDropped()
		if err != nil {
			return err
		}
		runtime.Gosched() // who was woken goes first: Receive may be busy for a while
	}
}

// closeDropped closes what nobody wants, without the lock: closing a file can
// take long.
func (p *Peer) closeDropped() {
	closeAll(p.drop)
	clear(p.drop)
	p.drop = p.drop[:0]
}

// dispatch finds out whose message it is.
func (p *Peer) dispatch(m imsg.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := m.Header()
	c, reason := p.match(h)
	if c != nil {
		p.deliver(c, m)
		return nil
	}
	row := p.rules[h.Type]
	if row != nil {
		reason = row.admit(m)
	}
	if reason == "" && p.held() >= p.hard && (p.handlers == p.calling || p.late) {
		reason = fmt.Sprintf("one too many, %d wait", p.hard)
	}
	if p.ended || reason != "" || row == nil {
		p.drop = append(p.drop, m)
	} else {
		p.queue = append(p.queue, newIncoming(p, row, m, h))
		p.startHandlers()
	}
	if reason != "" {
		return &RuleError{h.Type, reason}
	}
	return nil
}

// match finds the call that a message answers, or says why it answers none, or
// "" if that does not matter. p.mu is held.
func (p *Peer) match(h imsg.Header) (*call, string) {
	failed := h.Type == p.cfg.ErrorType && h.Type != 0
	c := p.calls[h.ID]
	if p.cfg.Match != ByID && len(p.order) > 0 {
		c = p.order[0]
	}
	switch {
	case c == nil && failed && p.cfg.Match == ByID && h.ID == 0: // about a Send
		return nil, ""
	case c == nil && failed:
		return nil, "unasked answer"
	case c == nil:
		return nil, "not in the table"
	case !failed && !slices.Contains(c.end, h.Type) && !slices.Contains(c.item, h.Type):
		return nil, fmt.Sprintf("not in the table, and no answer to type %d", c.typ)
	case p.cfg.Match == ByPID && h.PID != p.pid:
		return nil, fmt.Sprintf("answer for pid %d, not %d", h.PID, p.pid)
	}
	return c, ""
}

// held is how many requests wait, themselves or with their handlers. p.mu is
// held.
func (p *Peer) held() int { return len(p.queue) + p.calling }

// pause lets the reader wait while too much waits to be handled.
func (p *Peer) pause() {
	p.mu.Lock()
	p.late = false
	if now, _ := p.mayRead(); !now {
		p.pauseLong()
	}
	p.mu.Unlock()
}

func (p *Peer) pauseLong() {
	late := false
	var timer *time.Timer
	for ; !p.ended; p.resume.Wait() {
		now, soon := p.mayRead()
		switch {
		case now:
			return
		case soon && late:
			p.late = true
			p.failSlow()
			return
		case soon && timer == nil:
			timer = time.AfterFunc(patience, func() {
				p.mu.Lock()
				late = true
				p.resume.Signal()
				p.mu.Unlock()
			})
			defer timer.Stop()
		}
	}
}

// mayRead tells whether the reader may go on now. It must not pause while
// somebody here waits for the other end, which would be to wait for itself, as
// long as that can be afforded. Beyond that it pauses while a handler runs,
// which will take the next request, and for a short time, which soon tells,
// while handlers send or a stream is not taken: that may not end by itself. p.mu
// is held.
func (p *Peer) mayRead() (now, soon bool) {
	much := p.held() >= p.hard
	switch {
	case much && p.handlers > p.calling+p.sending:
		return false, false
	case p.waiters == 0 && (len(p.queue) >= p.cfg.MaxRequests || p.full > 0):
		return false, false
	case much && p.sending > 0, p.stuck > 0:
		return false, true
	}
	return true, false
}

// underway returns all calls in the table. p.mu is held.
func (p *Peer) underway() []*call {
	all := slices.Clone(p.order)
	for _, c := range p.calls {
		all = append(all, c)
	}
	return all
}
