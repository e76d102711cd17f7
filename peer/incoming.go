package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/internal/flow"
)

// An Incoming is a request of the other end. Its message, with the payload, is
// closed when the handler returns; TakeFile moves its file to the handler.
type Incoming struct {
	imsg.Message
	peer   *Peer
	row    *row
	header imsg.Header
	since  time.Time
	ctx    handling
	cancel context.CancelFunc // with Config.CancelType

	replied  atomic.Bool // at least once: the message was sent, or may have been
	refused  atomic.Bool // as replied, with an error, which ends the answer
	later    atomic.Bool // the handler has called ReplyLater
	finished atomic.Bool // the handler has returned, or what ReplyLater gave it was called

	flow   flow.Handler // guarded by the gate's lock
	nested bool         // it has a call without a slot; guarded by that of calls

	// Guarded by the lock of requests.
	index     int  // in requests.begun
	returned  bool // the handler has
	concluded bool // its answer is: finished, and sent
	givenUp   bool // by the other end
}

func newIncoming(p *Peer, row *row, m imsg.Message, h imsg.Header) *Incoming {
	r := &Incoming{Message: m, peer: p, row: row, header: h, since: time.Now()}
	r.ctx = handling{p.ctx, r}
	if p.cfg.CancelType != 0 {
		r.ctx.Context, r.cancel = context.WithCancel(p.ctx)
	}
	return r
}

// flowHandler is what the gate knows of the handler of r, nil for nobody's.
func (r *Incoming) flowHandler() *flow.Handler {
	if r == nil {
		return nil
	}
	return &r.flow
}

// smallRequest is how many bytes of payload are copied when a request must wait:
// as it came, each could keep 256 KiB of its neighbours' memory from being used.
const smallRequest = 4 << 10

// compact lets r hold its own memory only.
func (r *Incoming) compact() {
	if r.Len() > smallRequest || r.FileErr() != nil {
		return
	}
	var q ibuf.Queue
	if imsg.Push(&q, r.Message) == nil {
		r.Message, _, _ = imsg.Pop(&q)
	}
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

// WantsAnswer reports whether the other end waits for an answer: with ByID, a
// message with id 0, as Send's, expects none. Without ids nobody can tell, and
// it is true.
func (r *Incoming) WantsAnswer() bool { return r.peer.cfg.Match != ByID || r.header.ID != 0 }

var (
	errNoAnswerWanted = errors.New("the message, with id 0, expects no answer")
	errNoAnswer       = errors.New("the request was handled, without an answer")
	errReplied        = errors.New("the request was answered")
	errRefused        = errors.New("the request was answered with an error")
	errShutdown       = errors.New("shutting down")
	errInternal       = errors.New("internal error")
	errGoexit         = errors.New("the handler has ended its goroutine")
)

// Reply sends an answer, with the request's id and pid. It may be called many
// times, for answers of many messages, and also after the handler has returned.
// A file f, if not nil, is borrowed. It waits until the kernel has the message,
// for Config.WriteTimeout: then the error wraps context.DeadlineExceeded, and
// either nothing was sent or the rest follows. A request that expects no
// answer, and one that was answered with an error, as is one whose handler has
// returned without an answer, cannot be answered: that is an error of the call
// only. A message of which nothing was sent is no answer.
func (r *Incoming) Reply(typ uint32, f *os.File, data ...[]byte) error {
	if !r.WantsAnswer() {
		return opError("reply", typ, errNoAnswerWanted)
	}
	err := r.reply(typ, f, data, func(id uint32) (uint32, error) {
		if r.refused.Load() {
			return id, errRefused
		}
		return id, nil
	}, &r.replied)
	return opError("reply", typ, err)
}

func (r *Incoming) reply(typ uint32, f *os.File, data [][]byte, enter func(uint32) (uint32, error), out *atomic.Bool) error {
	h := r.header
	h.Type = typ
	limit := newTimeLimit(r.peer.cfg.WriteTimeout)
	defer limit.stop()
	err := r.peer.sendFor(limit, r, h, f, data, enter, out)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the other end does not read, for %v: %w", limit.after, err)
	}
	return err
}

// ReplyLater says that the answer comes after the handler has returned. finish
// must be called when the last Reply has returned, with nil, or with what a
// handler would return: an error, which is answered as a handler's. Until then
// Pending has the request and Shutdown waits for it. Further calls of finish do
// nothing. How many requests may be left for later is for the handler to bound.
func (r *Incoming) ReplyLater() (finish func(error)) {
	r.later.Store(true)
	return func(err error) {
		if !r.finished.Swap(true) {
			r.peer.conclude(r, err)
			r.peer.requests.finish(r, false, true)
		}
	}
}

// refuse answers with an error, which ends the answer. That there was no answer
// is no longer true if one that was under way was sent meanwhile.
func (r *Incoming) refuse(reason error) error {
	enter := func(id uint32) (uint32, error) {
		if reason == errNoAnswer && r.replied.Load() {
			return id, errReplied
		}
		return id, nil
	}
	typ := r.peer.cfg.ErrorType
	err := r.reply(typ, nil, [][]byte{[]byte(cut(reason.Error()))}, enter, &r.refused)
	if errors.Is(err, imsg.ErrTooLarge) {
		err = r.reply(typ, nil, nil, enter, &r.refused)
	}
	if errors.Is(err, errReplied) {
		return nil
	}
	return opError("reply", typ, err)
}
