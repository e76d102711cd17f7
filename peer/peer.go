package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"example.org/imsg"
)

// Match says how an answer is recognised as the answer to one of our requests.
type Match uint8

const (
	// ByID gives every request an id of its own, which its answers carry. It
	// is what Incoming.Reply does on the other side.
	ByID Match = iota

	// ByPID is for servers that route answers by the pid of the request, as
	// bgpd does. All our requests carry the same pid, so there is one call at
	// a time and the others wait.
	ByPID

	// InOrder is for servers whose answers carry nothing of the request, as
	// ntpd's: they come in the order of the requests.
	InOrder
)

// A Config says how a peer behaves. The zero Config, which nil stands for, is
// for two ends that both use this package.
type Config struct {
	Match Match
	ID    uint32 // the id of our requests with ByPID and InOrder
	PID   int32  // the pid of our requests; 0: this process's

	// ErrorType is the type of a message that answers any request with a text
	// that says what failed. With 0 there is none, and a handler's error ends
	// the peer.
	ErrorType uint32

	// MaxCalls is how many calls may be under way at once; more wait. 0: 64.
	// Calls that handlers make, with their context, are not counted, but there
	// are at most 4 x MaxRequests of them.
	MaxCalls int

	// MaxRequests is how many requests may wait for a handler before reading
	// pauses, and four times as many while somebody here waits for the other
	// end. 0: 64.
	MaxRequests int

	// Workers is how many handlers run at once. With 1, which 0 stands for,
	// requests are handled one after the other in the order in which they
	// came. With more, a handler that waits for an answer of the same peer is
	// not counted, so that ends that call each other back always go on.
	Workers int

	// Directories lets directories be sent. Who holds one can open what lies
	// below and, with "..", beside it: past its own chroot. Without it a
	// directory is refused with syscall.EISDIR.
	Directories bool
}

// hardFactor is how much more than its bound a queue may hold while somebody
// here waits for what comes behind.
const hardFactor = 4

// patience is how long the reader waits when what would let it go on may never
// happen.
const patience = time.Second

// A Peer makes requests and answers them on one channel. All methods may be
// called by many goroutines at a time.
type Peer struct {
	conn *imsg.Conn
	cfg  Config
	pid  int32
	hard int // requests and handlers that wait for answers, at most

	ctx    context.Context // ends when nothing more can come
	cancel context.CancelFunc
	done   chan struct{}
	turn   chan struct{}  // holds a token while somebody sends
	slots  chan struct{}  // holds a token for each call under way
	io     sync.WaitGroup // the reader and the one that finishes a message
	work   sync.WaitGroup // handlers

	mu      sync.Mutex
	resume  sync.Cond // the reader pauses here
	started bool
	eof     bool  // nothing more will come, what has come is still handled
	ended   bool  // the channel is closed
	err     error // with ended: why
	state   string
	rules   map[uint32]*row

	waiters int // of our goroutines that wait for the other end

	calls  map[uint32]*call // by id
	order  []*call          // without ids: the oldest first
	nextID uint32
	own    int // calls of handlers, which need no slot
	full   int // calls that hold maxItems messages
	stuck  int // of these, that hold hardFactor times as much
	free   []*call
	drop   []imsg.Message // the reader's: to be closed without the lock

	queue    []*Incoming // requests that no handler has begun
	handlers int         // that have begun
	calling  int         // of these, that wait for an answer of this peer
	sending  int         // sends by handlers
	late     bool        // the reader has waited for them in vain
}

// New returns a peer that takes over c, on which nothing may be queued: it
// closes it when it ends. Nothing is read and no goroutine runs before the
// first Call, Stream or Serve. cfg may be nil and is copied.
func New(c *imsg.Conn, cfg *Config) *Peer {
	p := &Peer{conn: c, done: make(chan struct{}), turn: make(chan struct{}, 1)}
	if cfg != nil {
		p.cfg = *cfg
	}
	p.cfg.MaxCalls = orElse(p.cfg.MaxCalls, 64)
	p.cfg.MaxRequests = orElse(p.cfg.MaxRequests, 64)
	p.cfg.Workers = orElse(p.cfg.Workers, 1)
	if p.cfg.Match == ByPID {
		p.cfg.MaxCalls = 1
	}
	if p.pid = p.cfg.PID; p.pid == 0 {
		p.pid = int32(os.Getpid())
	}
	p.hard = hardFactor * p.cfg.MaxRequests
	p.slots = make(chan struct{}, p.cfg.MaxCalls)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.resume.L = &p.mu
	p.rules = make(map[uint32]*row)
	p.calls = make(map[uint32]*call)
	return p
}

func orElse(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

// Conn returns the peer's channel, for what is known only from it, as
// Conn.PeerCred, and for programs that do without requests: it must not be
// read, written or closed beside the peer.
func (p *Peer) Conn() *imsg.Conn { return p.conn }

// State returns the state of the channel that SetState has set; "" at first.
func (p *Peer) State() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// SetState sets the state of the channel, which says what the other end may
// ask for: see Rule. It applies to requests whose handlers have not begun.
func (p *Peer) SetState(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

// Serve reads until the other end has closed the channel between messages,
// which is nil, and what had come before is handled. It also returns when the
// other end broke a rule, a handler failed, ctx ended or Close was called, and
// says which. When it returns, all handlers have returned and the channel is
// closed. Without Serve, requests are handled too from the first Call on.
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
	p.startLocked()
}

func (p *Peer) startLocked() {
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
	p.work.Wait()
	p.end(nil)
	p.io.Wait()
	close(p.done)
}

// endReading lets calls fail that can have no answer any more. Requests that
// have come are still handled, and can be answered if the other end has closed
// only its sending side.
func (p *Peer) endReading() {
	p.mu.Lock()
	p.eof = true
	p.failAll(p.cause())
	p.mu.Unlock()
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
	var drop []imsg.Message
	for _, c := range p.underway() {
		drop = append(drop, p.take(c)...)
	}
	p.failAll(p.cause())
	for _, r := range p.queue {
		drop = append(drop, r.Message)
	}
	p.queue = nil
	p.resume.Signal()
	p.mu.Unlock()
	p.cancel()
	p.conn.Close()
	closeAll(drop)
}

// cause says to callers why the peer has ended; nil if it has not. A rule that
// the other end broke is not the caller's fault, which may be the handler of
// another peer: it does not match ErrViolation. p.mu is held.
func (p *Peer) cause() error {
	switch {
	case errors.Is(p.err, ErrViolation):
		return fmt.Errorf("%w: %v", net.ErrClosed, p.err)
	case p.err != nil:
		return p.lost(p.err)
	case p.ended || p.eof:
		return &goneError{p, io.ErrUnexpectedEOF}
	}
	return nil
}
