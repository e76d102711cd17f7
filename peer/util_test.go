package peer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
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

// matches runs f for all ways to recognise an answer.
func matches(t *testing.T, f func(*testing.T, peer.Match)) {
	for _, m := range []peer.Match{peer.ByID, peer.ByPID, peer.InOrder} {
		t.Run(fmt.Sprint("match ", m), func(t *testing.T) { f(t, m) })
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
	sa, sb := imsgtest.Sockets(t)
	for _, s := range []*imsgtest.Socket{sa, sb} {
		for _, opt := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
			testutil.Must(t, unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, opt, 4096))
		}
	}
	return testutil.NewConn(t, sa.Take(), cfg), testutil.NewConn(t, sb.Take(), cfg)
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

// answering gives the first message of the bare end c to f, on a goroutine.
func answering(t testing.TB, c *imsg.Conn, f func(m imsg.Message)) {
	ctx := shortCtx(t)
	go func() {
		m, err := c.Receive(ctx)
		if err == nil {
			f(m)
		}
		m.Close()
	}()
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

// calling makes a call on a goroutine of its own.
func calling(ctx context.Context, p *peer.Peer, text string) <-chan error {
	return testutil.Go(func() error { _, err := call(ctx, p, text); return err })
}

// wantAnswer makes a call and fails the test unless it is answered with want.
func wantAnswer(t testing.TB, p *peer.Peer, text, want string) {
	t.Helper()
	if got, err := call(shortCtx(t), p, text); got != want || err != nil {
		t.Errorf("call %.30q: answer %.30q, %v", text, got, err)
	}
}

// wantRemote fails the test unless err is the other end's, and says want.
func wantRemote(t testing.TB, what string, err error, want string) {
	t.Helper()
	remote, ok := errors.AsType[*peer.RemoteError](err)
	if !ok || !strings.Contains(remote.Text, want) {
		t.Errorf("%s: %v, want %q from the other end", what, err, want)
	}
}

// wantViolation fails the test unless err is a broken rule, and says want.
func wantViolation(t testing.TB, what string, err error, want string) {
	t.Helper()
	if !errors.Is(err, peer.ErrViolation) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want a violation: %q", what, err, want)
	}
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
