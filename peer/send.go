package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"example.org/imsg"
)

// Send sends a message that expects no answer, and returns when the kernel has
// it. A file f, if not nil, is borrowed as by Conn.Send. When ctx ends, the
// message was either not sent at all, or the beginning was and the rest
// follows. The other end's handler should have nothing to answer; what it says
// with Config.ErrorType is dropped.
func (p *Peer) Send(ctx context.Context, typ uint32, f *os.File, data ...[]byte) error {
	h := imsg.Header{Type: typ, PID: p.pid}
	if p.cfg.Match != ByID {
		h.ID = p.cfg.ID
	}
	return opError("send", typ, p.sendFor(ctx, p.handling(ctx), h, f, data))
}

// sendFor sends, and lets the reader know who waits: the handler r, or somebody
// else if r is nil.
func (p *Peer) sendFor(ctx context.Context, r *Incoming, h imsg.Header, f *os.File, data [][]byte) error {
	p.mu.Lock()
	p.wait()
	handler := r != nil && !r.done
	if handler {
		p.sending++
	}
	p.mu.Unlock()
	_, err := p.send(ctx, nil, h, f, data)
	p.mu.Lock()
	if handler {
		p.sending--
	}
	p.waiters--
	p.mu.Unlock()
	return err
}

// wait counts a goroutine that waits for the other end: the reader must go on.
// p.mu is held.
func (p *Peer) wait() {
	p.waiters++
	p.resume.Signal()
}

// send sends a message when it is its turn, for the call c if that is not nil.
// sent says that at least a part of it is out and the rest will follow,
// whatever the error. Only one goroutine sends at a time: so what is queued
// after a Send that was cancelled can only be the rest of its message.
func (p *Peer) send(ctx context.Context, c *call, h imsg.Header, f *os.File, data [][]byte) (sent bool, err error) {
	if err := p.mayPass(f); err != nil {
		return false, err
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if c != nil {
		if h.ID, err = p.enter(c); err != nil {
			<-p.turn
			return false, err
		}
	}
	err = p.conn.Send(ctx, h, f, data...)
	if err == nil {
		<-p.turn
		return true, nil
	}
	if p.conn.QueueLen() > 0 && p.finish() {
		return true, err
	}
	if c != nil {
		p.withdraw(c)
	}
	<-p.turn
	if errors.Is(err, net.ErrClosed) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if cause := p.cause(); cause != nil {
			return false, cause
		}
	}
	return false, p.lost(err)
}

// finish sends the rest of a message whose sender does not wait any longer. It
// keeps the turn until then. It reports false if the channel is closed.
func (p *Peer) finish() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.io.Go(func() {
		p.conn.Flush(context.Background()) // an error is the channel's: the next to send gets it
		<-p.turn
	})
	return true
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
