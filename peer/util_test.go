package peer_test

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
	"golang.org/x/sys/unix"
)

// The types of the tests' messages.
const (
	ask uint32 = iota + 1
	answer
	item
	note
	nest
	failed = 99
)

// limit bounds what fails by never ending.
const limit = 20 * time.Second

// dialects runs f for both layouts of the header.
func dialects(t *testing.T, f func(*testing.T, imsg.Dialect)) {
	for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
		t.Run(d.String(), func(t *testing.T) { f(t, d) })
	}
}

// end returns a peer and, as its other end, a bare channel.
func end(t testing.TB, cfg *peer.Config) (*peer.Peer, *imsg.Conn) {
	t.Helper()
	a, b := imsgtest.Pair(t, nil)
	return closed(t, peer.New(a, cfg)), b
}

// both returns the two peers of a channel.
func both(t testing.TB, cfg *peer.Config) (p, q *peer.Peer) {
	t.Helper()
	a, b := imsgtest.Pair(t, nil)
	return closed(t, peer.New(a, cfg)), closed(t, peer.New(b, cfg))
}

// closed lets p be closed, with all handlers, when the test ends.
func closed(t testing.TB, p *peer.Peer) *peer.Peer {
	t.Cleanup(func() {
		p.Close()
		<-p.Done()
	})
	return p
}

// smallBuffers returns the two ends of a channel with the smallest buffers.
func smallBuffers(t testing.TB, cfg *imsg.Config) (a, b *imsg.Conn) {
	t.Helper()
	var ends [2]*imsg.Conn
	sa, sb := imsgtest.Sockets(t)
	for i, s := range []*imsgtest.Socket{sa, sb} {
		for _, opt := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
			testutil.Must(t, unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, opt, 4096))
		}
		c := testutil.NewConn(t, s.Take(), cfg)
		ends[i] = c
	}
	return ends[0], ends[1]
}

func shortCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// serve lets p serve and returns a function that waits for its error.
func serve(t testing.TB, p *peer.Peer) func() error {
	c := make(chan error, 1)
	ctx := t.Context()
	go func() { c <- p.Serve(ctx) }()
	return func() error {
		t.Helper()
		select {
		case err := <-c:
			return err
		case <-time.After(limit):
			t.Fatal("Serve does not return")
			return nil
		}
	}
}

func send(t testing.TB, c *imsg.Conn, h imsg.Header, f *os.File, text string) {
	t.Helper()
	testutil.Must(t, c.Send(shortCtx(t), h, f, []byte(text)))
}

// receive returns the next message of the bare end c.
func receive(t testing.TB, c *imsg.Conn) imsg.Message {
	t.Helper()
	m, err := c.Receive(shortCtx(t))
	testutil.Must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// call makes a request of the type ask and returns the text of its answer.
func call(ctx context.Context, p *peer.Peer, text string) (string, error) {
	m, err := p.Call(ctx, peer.Request{Type: ask, Data: []byte(text), Items: []uint32{item}, Ends: []uint32{answer}})
	if err != nil {
		return "", err
	}
	defer m.Close()
	return string(m.Bytes()), nil
}

// echo answers a request with its own text.
func echo(_ context.Context, r *peer.Incoming) error { return r.Reply(answer, nil, r.Bytes()) }

var check = testutil.WantError

// until waits for a condition that becomes true without telling.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !cond(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal(what, "does not happen")
		}
	}
}

// pipe returns a file to pass, and one that is at its end when all copies of
// the first are closed.
func pipe(t testing.TB) (w, r *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	testutil.Must(t, err)
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return w, r
}

// allClosed waits until all copies of a pipe's writing end are closed.
func allClosed(t testing.TB, r *os.File) {
	t.Helper()
	r.SetReadDeadline(time.Now().Add(limit))
	if n, err := r.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) {
		t.Errorf("a copy of the file is still open: %d, %v", n, err)
	}
}

// An ending is a context that ends when it is looked at for the nth time.
type ending struct {
	context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	left   int
}

func endingAfter(t testing.TB, n int) *ending {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &ending{Context: ctx, cancel: cancel, left: n}
}

func (e *ending) look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left--; e.left <= 0 {
		e.cancel()
	}
}

func (e *ending) Done() <-chan struct{} {
	e.look()
	return e.Context.Done()
}

func (e *ending) Err() error {
	e.look()
	return e.Context.Err()
}
