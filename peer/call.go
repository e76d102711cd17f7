package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"example.org/imsg"
)

// A Request is what Call and Stream send.
type Request struct {
	Type  uint32
	File  *os.File // borrowed, as by Conn.Send; nil: none
	Data  []byte   // copied
	Items []uint32 // types of messages that are part of the answer and do not end it
	Ends  []uint32 // types of messages that end the answer; at least one
}

// A call is one request under way. It stays in the table, even if nobody waits
// any more, until the message comes that ends its answer: only so later calls
// find theirs. p.mu guards it.
type call struct {
	id        uint32
	typ       uint32
	item, end []uint32
	slot, own bool // its place: a slot, or without one as a handler's call

	msgs []imsg.Message
	err  error // behind msgs
	over bool  // not in the table any more
	left bool  // nobody waits: what comes is closed
	wake chan struct{}

	waiting bool      // somebody waits for the next message
	r       *Incoming // on behalf of this handler, if any
}

// maxItems is how many messages a call holds before reading pauses; see
// hardFactor.
const maxItems = 64

// Call sends a request and returns the message that ends its answer, which the
// caller must close; Request.Items, which may come before, are closed. The error
// is a *RemoteError if the other end could not do it, io.ErrUnexpectedEOF if it
// is gone, net.ErrClosed after Close or a violation, or ctx.Err(). After ctx.Err() either nothing was sent, or the answer is closed
// when it comes: the channel stays usable.
func (p *Peer) Call(ctx context.Context, req Request) (imsg.Message, error) {
	r := p.handling(ctx)
	c, err := p.begin(ctx, r, &req)
	if err != nil {
		return imsg.Message{}, opError("call", req.Type, err)
	}
	defer p.leave(c)
	for {
		m, last, err := p.next(ctx, r, c)
		if err != nil || last {
			return m, opError("call", req.Type, err)
		}
		m.Close()
	}
}

// CallFile is Call for an answer that is a file, which it returns and the caller
// must close. An answer without one is an error: imsg.ErrFileLost if it was lost
// on the way, and otherwise one that ends the call only.
func (p *Peer) CallFile(ctx context.Context, req Request) (*os.File, error) {
	m, err := p.Call(ctx, req)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	f := m.TakeFile()
	if f == nil {
		if err = m.FileErr(); err == nil {
			err = fmt.Errorf("the answer, type %d, has no file", m.Type())
		}
		return nil, opError("call", req.Type, err)
	}
	return f, nil
}

var errNoEnd = errors.New("no type ends its answer")

// begin sends a request for the handler r, or for somebody else if r is nil.
func (p *Peer) begin(ctx context.Context, r *Incoming, req *Request) (*call, error) {
	if len(req.Ends) == 0 {
		return nil, errNoEnd
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.startLocked()
	c := p.newCall(req)
	if r != nil && r.blocked == 0 && p.own < p.hard && p.cfg.Match != ByPID {
		c.own = true // it must not wait for calls that wait for this handler
		p.own++
	}
	p.block(r)
	p.mu.Unlock()
	sent, err := p.request(ctx, c, req)
	p.mu.Lock()
	p.unblock(r)
	if !sent {
		p.forget(c)
	}
	p.mu.Unlock()
	if err != nil {
		p.leave(c)
		return nil, err
	}
	return c, nil
}

// request waits for a slot and sends.
func (p *Peer) request(ctx context.Context, c *call, req *Request) (sent bool, err error) {
	if !c.own {
		select {
		case p.slots <- struct{}{}:
			c.slot = true
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return p.send(ctx, c, imsg.Header{Type: req.Type, PID: p.pid}, req.File, [][]byte{req.Data})
}

// newCall makes a call, of memory that was used before if there is any. p.mu
// is held.
func (p *Peer) newCall(req *Request) *call {
	c := &call{}
	if n := len(p.free); n > 0 {
		c, p.free = p.free[n-1], p.free[:n-1]
	} else {
		c.wake = make(chan struct{}, 1)
	}
	c.typ = req.Type
	c.item = append(c.item[:0], req.Items...)
	c.end = append(c.end[:0], req.Ends...)
	return c
}

// enter puts c into the table and returns the id for its request. It must be
// called in the order in which requests are sent.
func (p *Peer) enter(c *call) (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cause(); err != nil {
		return 0, err
	}
	if p.cfg.Match != ByID {
		p.order = append(p.order, c)
		return p.cfg.ID, nil
	}
	for {
		p.nextID++
		if p.nextID != 0 && p.calls[p.nextID] == nil {
			break
		}
	}
	c.id = p.nextID
	p.calls[c.id] = c
	return c.id, nil
}

// withdraw is forget for somebody who has not p.mu.
func (p *Peer) withdraw(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(c)
}

// forget takes c out of the table, if it is there, and gives its place back.
// p.mu is held.
func (p *Peer) forget(c *call) {
	c.over = true
	if p.calls[c.id] == c {
		delete(p.calls, c.id)
	}
	if i := slices.Index(p.order, c); i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
	}
	if c.own {
		p.own--
	}
	if c.slot {
		<-p.slots
	}
	c.own, c.slot = false, false
}

// fail ends c with an error. p.mu is held.
func (p *Peer) fail(c *call, err error) {
	p.forget(c)
	c.err = err
	p.notify(c)
	p.recycle(c)
}

// failAll ends all calls under way with an error. p.mu is held.
func (p *Peer) failAll(err error) {
	for _, c := range p.calls {
		p.fail(c, err)
	}
	for len(p.order) > 0 {
		p.fail(p.order[0], err)
	}
}

// leave tells that nobody waits for c any more.
func (p *Peer) leave(c *call) {
	p.mu.Lock()
	drop := p.take(c)
	c.left = true
	p.recycle(c)
	p.mu.Unlock()
	closeAll(drop)
}

// recycle keeps the memory of a call that nobody knows any more. p.mu is held.
func (p *Peer) recycle(c *call) {
	if !c.over || !c.left || len(p.free) >= cap(p.slots) {
		return
	}
	select {
	case <-c.wake:
	default:
	}
	*c = call{item: c.item, end: c.end, msgs: c.msgs, wake: c.wake}
	p.free = append(p.free, c)
}
