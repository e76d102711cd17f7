package peer

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"example.org/imsg"
)

// Stream sends a request and returns the messages of its answer: any number of
// Request.Items, and one of Request.Ends as the last. Each is the loop's, which
// must close it. An error, which is Call's, is the last value too. The request
// is sent when the loop begins, and each loop sends it again.
//
// Leaving the loop early discards the rest of the answer as it comes. Nothing
// is read while the loop holds back 64 messages, unless somebody else waits for
// the same peer: the loop's body, for one, may make a call. Then 256 may be held
// back, and if none of them is taken for a second, the loop ends with an error.
// The loop's body must not wait for what a handler of the same peer does.
func (p *Peer) Stream(ctx context.Context, req Request) iter.Seq2[imsg.Message, error] {
	return func(yield func(imsg.Message, error) bool) {
		r := p.handling(ctx)
		c, err := p.begin(ctx, r, &req)
		if err != nil {
			yield(imsg.Message{}, opError("call", req.Type, err))
			return
		}
		defer p.leave(c)
		for {
			m, last, err := p.next(ctx, r, c)
			if !yield(m, opError("call", req.Type, err)) || last || err != nil {
				return
			}
		}
	}
}

// next waits for the next message of the answer to c, and tells whether it is
// the last.
func (p *Peer) next(ctx context.Context, r *Incoming, c *call) (m imsg.Message, last bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(c.msgs) == 0 {
		if c.err != nil {
			return imsg.Message{}, false, c.err
		}
		c.waiting, c.r = true, r
		p.block(r)
		p.mu.Unlock()
		select {
		case <-c.wake:
		case <-ctx.Done():
			err = ctx.Err()
		}
		p.mu.Lock()
		p.found(c)
		if err != nil {
			return imsg.Message{}, false, err
		}
	}
	p.count(c, -1)
	m = c.msgs[0]
	c.msgs = slices.Delete(c.msgs, 0, 1)
	p.count(c, +1)
	p.resume.Signal()
	return m, slices.Contains(c.end, m.Type()), nil
}

// deliver gives c a message of its answer. What is not wanted goes to p.drop.
// p.mu is held.
func (p *Peer) deliver(c *call, m imsg.Message) {
	typ := m.Type()
	last := slices.Contains(c.end, typ)
	switch {
	case typ == p.cfg.ErrorType && typ != 0:
		err := &RemoteError{c.typ, cut(string(m.Bytes()[:min(m.Len(), 2*maxText)]))}
		p.drop = append(p.drop, m)
		p.fail(c, err)
		return
	case c.left || c.err != nil:
		p.drop = append(p.drop, m)
	default:
		p.count(c, -1)
		c.msgs = append(c.msgs, m)
		p.count(c, +1)
		p.notify(c)
	}
	if last {
		p.forget(c)
		p.recycle(c)
	}
}

// count adds c to, or takes it away from, the streams that hold much. p.mu is
// held.
func (p *Peer) count(c *call, d int) {
	n := len(c.msgs)
	if n >= maxItems {
		p.full += d
	}
	if n >= hardFactor*maxItems {
		p.stuck += d
	}
}

// notify wakes whoever waits for c. p.mu is held.
func (p *Peer) notify(c *call) {
	p.found(c)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// found counts the one who waits for c no longer: there is something, or no
// more need. p.mu is held.
func (p *Peer) found(c *call) {
	if c.waiting {
		c.waiting = false
		p.unblock(c.r)
	}
}

// take takes the messages that c holds. p.mu is held.
func (p *Peer) take(c *call) []imsg.Message {
	p.count(c, -1)
	held := slices.Clone(c.msgs)
	clear(c.msgs)
	c.msgs = c.msgs[:0]
	p.resume.Signal()
	return held
}

// failSlow ends the streams that hold as much as may be. p.mu is held.
func (p *Peer) failSlow() {
	for _, c := range p.underway() {
		if n := len(c.msgs); n >= hardFactor*maxItems {
			p.drop = append(p.drop, p.take(c)...)
			c.err = fmt.Errorf("%d messages of its answer wait to be taken", n)
		}
	}
}

func closeAll(msgs []imsg.Message) {
	for _, m := range msgs {
		m.Close()
	}
}
