package peer

import (
	"context"
	"errors"
	"os"
	"slices"

	"example.org/imsg"
)

// An Incoming is a request of the other end. Its message, with the payload, is
// closed when the handler returns; TakeFile moves its file to the handler.
type Incoming struct {
	imsg.Message
	peer   *Peer
	row    *row
	header imsg.Header
	ctx    handling

	// p.mu guards what follows.
	blocked int  // calls that wait on behalf of the handler
	done    bool // the handler has returned
}

func newIncoming(p *Peer, row *row, m imsg.Message, h imsg.Header) *Incoming {
	r := &Incoming{Message: m, peer: p, row: row, header: h}
	r.ctx = handling{p.ctx, r}
	return r
}

// handling is the context of a handler, by which its own calls are recognised.
type handling struct {
	context.Context
	r *Incoming
}

type handlingKey struct{}

func (h *handling) Value(key any) any {
	if _, ok := key.(handlingKey); ok {
		return h.r
	}
	return h.Context.Value(key)
}

// handling returns the request of this peer that is handled with ctx, if any.
func (p *Peer) handling(ctx context.Context) *Incoming {
	r, _ := ctx.Value(handlingKey{}).(*Incoming)
	if r == nil || r.peer != p {
		return nil
	}
	return r
}

// Peer returns the peer whose other end makes the request.
func (r *Incoming) Peer() *Peer { return r.peer }

// Reply sends an answer, with the request's id and pid. It may be called many
// times, for answers of many messages, and also after the handler has returned.
// A file f, if not nil, is borrowed.
func (r *Incoming) Reply(typ uint32, f *os.File, data ...[]byte) error {
	h := r.header
	h.Type = typ
	return opError("reply", typ, r.peer.sendFor(context.Background(), r, h, f, data))
}

// startHandlers begins to handle requests, as many as may be at once. p.mu is
// held.
func (p *Peer) startHandlers() {
	for !p.ended && len(p.queue) > 0 && p.mayHandle() {
		p.handlers++
		r := p.dequeue()
		p.work.Go(func() { p.handleAll(r) })
	}
}

// mayHandle reports whether another request may be begun. p.mu is held.
func (p *Peer) mayHandle() bool {
	if p.cfg.Workers == 1 {
		return p.handlers == 0
	}
	return p.handlers-p.calling < p.cfg.Workers && p.calling < p.hard
}

func (p *Peer) dequeue() *Incoming {
	r := p.queue[0]
	p.queue = slices.Delete(p.queue, 0, 1)
	p.resume.Signal()
	return r
}

// handleAll handles r, and then what waits.
func (p *Peer) handleAll(r *Incoming) {
	for r != nil {
		p.handle(r)
		p.mu.Lock()
		r.done = true
		if r.blocked > 0 { // by a goroutine that it has left behind
			p.calling--
		}
		p.handlers--
		r = nil
		if !p.ended && len(p.queue) > 0 && p.mayHandle() {
			p.handlers++
			r = p.dequeue()
		}
		p.resume.Signal()
		p.mu.Unlock()
	}
}

// block counts somebody who waits for an answer, for the handler r if that is
// not nil. p.mu is held.
func (p *Peer) block(r *Incoming) {
	p.wait()
	if r == nil {
		return
	}
	if r.blocked++; r.blocked == 1 && !r.done {
		p.calling++
		p.startHandlers()
	}
}

// unblock is the end of block. p.mu is held.
func (p *Peer) unblock(r *Incoming) {
	p.waiters--
	if r == nil {
		return
	}
	if r.blocked--; r.blocked == 0 && !r.done {
		p.calling--
	}
}

// handle handles one request.
func (p *Peer) handle(r *Incoming) {
	err := p.allowed(r.row)
	if err == nil {
		err = r.FileErr() // our own table may be full: no violation, but nothing to work with
	}
	if err == nil {
		err = r.row.Handle(&r.ctx, r)
	}
	r.Close()
	switch {
	case err == nil:
	case errors.Is(err, ErrViolation):
		p.end(err)
	case p.isLost(err): // the reader will find out how
	case p.cfg.ErrorType != 0:
		p.refuse(r, err)
	case p.ctx.Err() != nil && errors.Is(err, context.Canceled): // as it should
	default:
		p.end(opError("request", r.header.Type, err))
	}
}

// refuse answers with an error.
func (p *Peer) refuse(r *Incoming, err error) {
	err = r.Reply(p.cfg.ErrorType, nil, []byte(cut(err.Error())))
	if errors.Is(err, imsg.ErrTooLarge) {
		err = r.Reply(p.cfg.ErrorType, nil)
	}
	if err != nil && !p.isLost(err) {
		p.end(err)
	}
}
