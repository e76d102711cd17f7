package peer

import (
	"context"
	"fmt"
	"iter"
	"os"

	"example.org/imsg"
	"example.org/imsg/internal/flow"
)

// A Request is what Call and Stream send.
type Request struct {
	Type  uint32
	File  *os.File // borrowed, as by Conn.Send; nil: none
	Data  []byte   // copied
	Items []uint32 // types of messages that are part of the answer and do not end it
	Ends  []uint32 // types of messages that end the answer; none if Last says it

	// Last, if not nil, tells whether a message of one of the types in Items
	// ends the answer, for servers that say it with an empty message or a
	// count. It is called once for each, in their order, by the goroutine that
	// reads, also when nobody waits for the answer any more: it must not
	// wait, use the peer, keep or close the message, or take anything out of
	// it but by Bytes. If it panics, the peer ends with a *PanicError.
	Last func(imsg.Message) bool
}

// Call sends a request and returns the message that ends its answer, which the
// caller must close; Request.Items, which may come before, are closed. The error
// is a *RemoteError if the other end could not do it, io.ErrUnexpectedEOF if it
// is gone, net.ErrClosed after Close or a violation, or ctx.Err(), also if an
// answer has come by then. After ctx.Err() either nothing was sent, or the
// answer is closed when it comes: the channel stays usable.
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

// Stream sends a request and returns the messages of its answer: any number of
// Request.Items, and the one that ends it as the last. Each is the loop's, which
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

// begin sends a request for the handler of r, or for somebody else if r is nil.
func (p *Peer) begin(ctx context.Context, r *Incoming, req *Request) (*call, error) {
	if len(req.Ends) == 0 && req.Last == nil {
		return nil, errNoEnd
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.start()
	c, err := p.calls.add(req, r)
	if err != nil {
		return nil, err
	}
	p.gate.wait(r, flow.Call)
	if r != nil {
		p.requests.begin() // in place of the handler of r
	}
	sent, err := p.request(ctx, c, req)
	p.gate.done(r, flow.Call)
	if !sent {
		p.calls.withdraw(c)
	}
	if err != nil {
		p.leave(c)
		return nil, err
	}
	return c, nil
}

// request waits for a slot and sends.
func (p *Peer) request(ctx context.Context, c *call, req *Request) (sent bool, err error) {
	if c.nested == nil {
		select {
		case p.calls.slots <- struct{}{}:
			c.slot = true
		case <-ctx.Done():
			return false, p.calls.waited(ctx.Err())
		}
	}
	h := imsg.Header{Type: req.Type, PID: p.cfg.PID}
	return p.send(ctx, h, req.File, [][]byte{req.Data}, func(uint32) (uint32, error) { return p.calls.enter(c) }, nil)
}

// next waits for the next message of the answer to c, and tells whether it is
// the last.
func (p *Peer) next(ctx context.Context, r *Incoming, c *call) (imsg.Message, bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return imsg.Message{}, false, err
		}
		m, last, ok, err := p.calls.next(c, r)
		if ok {
			return m, last, err
		}
		if r != nil {
			p.requests.begin()
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
		}
		p.calls.stopWaiting(c)
	}
}

// leave ends a call, and tells the other end if it is to know.
func (p *Peer) leave(c *call) {
	if p.calls.leave(c) {
		p.goIO(p.tellCancels)
	}
}

// tellCancels tells the other end of the calls that were given up.
func (p *Peer) tellCancels() {
	for {
		id := p.calls.nextCancel()
		if id == 0 {
			return
		}
		p.send(context.Background(), imsg.Header{Type: p.cfg.CancelType, ID: id, PID: p.cfg.PID}, nil, nil, nil, nil)
	}
}

// goIO runs f in a goroutine that Close waits for, unless the channel is closed.
func (p *Peer) goIO(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.io.Go(f)
	return true
}
