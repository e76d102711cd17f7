package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/flow"
)

// Send sends a message that expects no answer, and returns when the kernel has
// it. A file f, if not nil, is borrowed as by Conn.Send. When ctx ends, the
// message was either not sent at all, or the beginning was and the rest
// follows. The other end's handler should have nothing to answer; what it says
// with Config.ErrorType goes to Config.Report.
func (p *Peer) Send(ctx context.Context, typ uint32, f *os.File, data ...[]byte) error {
	h := imsg.Header{Type: typ, PID: p.cfg.PID}
	if p.cfg.Match != ByID {
		h.ID = p.cfg.ID
	}
	return opError("send", typ, p.sendFor(ctx, p.handling(ctx), h, f, data, nil, nil))
}

// sendFor sends, and lets the reader know who waits: the handler of r, or
// somebody else if r is nil.
func (p *Peer) sendFor(ctx context.Context, r *Incoming, h imsg.Header, f *os.File, data [][]byte, enter func(id uint32) (uint32, error), out *atomic.Bool) error {
	p.gate.wait(r, flow.Send)
	defer p.gate.done(r, flow.Send)
	_, err := p.send(ctx, h, f, data, enter, out)
	return err
}

// send sends a message when it is its turn, after enter, if not nil, has agreed
// and returned its id. sent says that at least a part of it is out and the
// rest will follow, whatever the error. out, if not nil, is set before the next
// enter if anything may be out. Only one goroutine sends at a time: so what is
// queued after a Send that was cancelled can only be the rest of its message.
func (p *Peer) send(ctx context.Context, h imsg.Header, f *os.File, data [][]byte, enter func(id uint32) (uint32, error), out *atomic.Bool) (sent bool, err error) {
	if err := p.mayPass(f); err != nil {
		return false, err
	}
	select {
	case p.turn <- struct{}{}:
	default:
		select {
		case p.turn <- struct{}{}:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if enter != nil {
		if h.ID, err = enter(h.ID); err != nil {
			<-p.turn
			return false, err
		}
	}
	err = p.lost(p.conn.Send(ctx, h, f, data...))
	rest := err != nil && p.conn.QueueLen() > 0
	if out != nil && (err == nil || rest || p.isLost(err)) {
		out.Store(true)
	}
	if rest && p.goIO(p.finish) {
		return true, err
	}
	<-p.turn
	if ended, cause := p.isEnded(); ended && errors.Is(err, net.ErrClosed) {
		return false, cause
	}
	return err == nil, err
}

// finish sends the rest of a message whose sender does not wait any longer, and
// keeps the turn until then.
func (p *Peer) finish() {
	p.conn.Flush(context.Background()) // an error is the channel's: the next to send gets it
	<-p.turn
}

// mayPass refuses to pass a directory.
func (p *Peer) mayPass(f *os.File) error {
	if f == nil || p.cfg.Directories {
		return nil
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return fmt.Errorf("not to be passed: %w", syscall.EISDIR)
	}
	return nil
}

// A timeLimit is a context that ends some time after somebody has begun to wait
// for it, which most sends never do: a timer for each would cost more than they.
type timeLimit struct {
	context.Context // of the timer, once there is one
	after           time.Duration
	cancel          context.CancelFunc
}

var timeLimits = sync.Pool{New: func() any { return new(timeLimit) }}

func newTimeLimit(after time.Duration) *timeLimit {
	l := timeLimits.Get().(*timeLimit)
	l.Context, l.after = context.Background(), after
	return l
}

// Done starts the timer.
func (l *timeLimit) Done() <-chan struct{} {
	if l.cancel == nil && l.after > 0 {
		l.Context, l.cancel = context.WithTimeout(l.Context, l.after)
	}
	return l.Context.Done()
}

// stop ends the wait. Nobody may use l any more.
func (l *timeLimit) stop() {
	if l.cancel != nil {
		l.cancel()
	}
	*l = timeLimit{}
	timeLimits.Put(l)
}
