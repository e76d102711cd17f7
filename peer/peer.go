package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"

	"example.org/imsg"
)

// A Peer makes requests and answers them on one channel. All methods may be
// called by many goroutines at a time.
//
// Its state is in three parts, each with a lock of its own: our calls, the
// requests of the other end, and the gate that decides when reading pauses.
// The gate's lock may be taken while one of the others is held; otherwise
// nobody holds two, and none is held while a file is closed, a message is sent
// or the program's code runs.
type Peer struct {
	conn     *imsg.Conn
	cfg      Config
	gate     gate
	calls    calls
	requests requests

	ctx    context.Context // ends when nothing more can come
	cancel context.CancelFunc
	done   chan struct{}
	turn   chan struct{}  // holds a token while somebody sends
	io     sync.WaitGroup // the reader, and those that finish messages and send cancellations

	mu      sync.Mutex
	started bool
	ended   bool  // the channel is closed
	err     error // with ended: why
	cause   error // why no call can have an answer any more; nil as long as it can
}

// New returns a peer that takes over c, on which nothing may be queued: it
// closes it when it ends. Nothing is read and no goroutine runs before the
// first Call, Stream or Serve. cfg may be nil and is copied.
func New(c *imsg.Conn, cfg *Config) *Peer {
	if cfg == nil {
		cfg = &Config{}
	}
	p := &Peer{conn: c, cfg: cfg.withDefaults(), done: make(chan struct{}), turn: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.gate.init(p.cfg.limits())
	p.calls.init(&p.cfg, &p.gate)
	p.requests.init(p)
	return p
}

// Conn returns the peer's channel, for what is known only from it, as
// Conn.PeerCred, and for programs that do without requests: it must not be
// read, written or closed beside the peer.
func (p *Peer) Conn() *imsg.Conn { return p.conn }

// Serve reads until the other end has closed the channel between messages,
// which is nil, and what had come before is handled. It also returns when the
// other end broke a rule, a handler failed in a way that cannot be answered,
// ctx ended or Close or Shutdown was called, and says which. When it returns,
// all handlers have returned and the channel is closed. Without Serve, requests
// are handled too from the first Call on.
func (p *Peer) Serve(ctx context.Context) error {
	p.start()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.end(ctx.Err())
		<-p.done
	}
	return p.Err()
}

// Close ends the channel. Calls under way and Serve return net.ErrClosed, and
// requests that wait are dropped. It returns when nothing is read or written
// any more, and does not wait for handlers, so that a handler may call it:
// their context has ended, and when they have returned Done is closed. The
// error is nil.
func (p *Peer) Close() error {
	p.end(net.ErrClosed)
	p.start()
	p.io.Wait()
	return nil
}

// Shutdown is Close after what has begun: requests that no handler has begun
// are answered with an error, and so are those that still come, calls can only
// be made by handlers, and when all handlers have returned, answers that were
// left for later have been given, calls under way have ended and everything is
// sent, the channel is closed. If ctx ends before, it is closed at once and the
// error is ctx.Err(). If the peer ends before, the error is Err's. A handler
// must not call it, which would be to wait for itself.
func (p *Peer) Shutdown(ctx context.Context) error {
	p.start()
	defer p.Close()
	for _, idle := range []<-chan struct{}{p.requests.stop(), p.calls.stop()} {
		select {
		case <-idle:
		case <-p.done:
			return p.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case p.turn <- struct{}{}: // the last message is out
		<-p.turn
		return p.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done returns a channel that is closed when the peer has ended and all
// handlers have returned.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Err returns why the peer has ended: nil if the other end closed the channel
// between messages, or as long as it has not ended.
func (p *Peer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// start lets the reader run.
func (p *Peer) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		p.started = true
		p.io.Add(1)
		go p.run()
	}
}

// run reads to the end, and then joins everything.
func (p *Peer) run() {
	err := p.read()
	if err == io.EOF {
		p.endReading()
	} else {
		p.end(err)
	}
	p.io.Done()
	p.requests.work.Wait()
	p.end(nil)
	p.io.Wait()
	close(p.done)
}

// read receives until there is an error. It never waits for a goroutine that
// waits for the other end, or both ends could stop; handlers have goroutines of
// their own.
func (p *Peer) read() error {
	for {
		m, err := p.conn.Receive(context.Background())
		if err != nil {
			return err
		}
		if err := p.dispatch(m); err != nil {
			return err
		}
		if p.gate.pause() {
			closeAll(p.calls.failSlow())
		}
		runtime.Gosched() // who was woken goes first: Receive may be busy for a while
	}
}

// dispatch gives a message to the call that it answers, or to a handler.
func (p *Peer) dispatch(m imsg.Message) error {
	h := m.Header()
	failed := p.cfg.isError(h.Type)
	f := p.calls.match(h)
	switch {
	case f.call != nil:
		last, err := f.isLast(m)
		if err != nil || !p.calls.deliver(f.call, h, m, last) {
			m.Close()
		}
		return err
	case p.cfg.isCancel(h.Type):
		p.requests.giveUp(h.ID)
		return m.Close()
	case f.late && !p.requests.has(h.Type): // nobody remembers the call
		return m.Close()
	case failed && p.cfg.Match == ByID && h.ID == 0:
		p.report(remoteError(0, m))
		return m.Close()
	case failed:
		m.Close()
		return &RuleError{Type: h.Type, Reason: "unasked answer"}
	case p.requests.has(h.Type):
		return p.requests.add(m, h)
	}
	m.Close()
	return p.calls.unmatched(h)
}

// report passes on an error that reaches no caller, and reports whether anybody
// takes it.
func (p *Peer) report(err error) bool {
	if p.cfg.Report != nil {
		p.cfg.Report(err)
	}
	return p.cfg.Report != nil
}

// endReading lets calls fail that can have no answer any more. Requests that
// have come are still handled, and can be answered if the other end has closed
// only its sending side.
func (p *Peer) endReading() {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = &goneError{p, io.ErrUnexpectedEOF}
	}
	cause := p.cause
	p.mu.Unlock()
	p.calls.failAll(cause, false)
	p.cancel()
}

// end closes the channel because of err, unless it is closed.
func (p *Peer) end(err error) {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.ended, p.err = true, err
	if p.cause == nil {
		p.cause = p.causeOf(err)
	}
	cause := p.cause
	p.mu.Unlock()
	drop := p.calls.failAll(cause, true)
	drop = append(drop, p.requests.close()...)
	p.gate.close()
	p.cancel()
	p.conn.Close()
	closeAll(drop)
}

// causeOf says to callers why the peer has ended. A rule that the other end
// broke is not the caller's fault, which may be the handler of another peer: it
// does not match ErrViolation.
func (p *Peer) causeOf(err error) error {
	var panicked *PanicError
	if errors.Is(err, ErrViolation) || errors.As(err, &panicked) {
		return &closedError{err}
	}
	return p.lost(err)
}

// isEnded reports whether the channel is closed, and why.
func (p *Peer) isEnded() (ended bool, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended, p.cause
}

func closeAll(msgs []imsg.Message) {
	for _, m := range msgs {
		m.Close()
	}
}
