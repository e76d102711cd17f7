// Package fake plays daemons, for the tests of their clients.
package fake

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"example.org/imsg"
)

// limit is for one test, which takes a small part of it unless it fails.
const limit = 2 * time.Minute

// Context returns a context for one test.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// A Request is what a client asks on one connection.
type Request struct {
	Header imsg.Header
	Data   []byte
	Conn   *imsg.Conn

	ctx context.Context
}

// Answer sends a message; false if the client has gone.
func (r *Request) Answer(typ uint32, data []byte) bool {
	return r.Conn.Send(r.ctx, imsg.Header{Type: typ, PID: r.Header.PID}, nil, data) == nil
}

// Wait waits until the client hangs up.
func (r *Request) Wait() {
	for {
		m, err := r.Conn.Receive(r.ctx)
		if err != nil {
			return
		}
		m.Close()
	}
}

// Daemon starts a daemon that calls serve for the first request of each
// connection, which it then closes, and returns the path of its socket. It ends
// with the test.
func Daemon(t testing.TB, cfg *imsg.Config, maxSize int, serve func(r *Request)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := imsg.Listen(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(Context(t))
	over := make(chan struct{})
	go func() {
		defer close(over)
		l.Serve(ctx, func(ctx context.Context, c *imsg.Conn) {
			if maxSize != 0 {
				c.SetMaxSize(maxSize)
			}
			m, err := c.Receive(ctx)
			if err != nil {
				return
			}
			r := &Request{m.Header(), bytes.Clone(m.Bytes()), c, ctx}
			m.Close()
			serve(r)
		})
	}()
	t.Cleanup(func() {
		cancel()
		l.Close()
		<-over
	})
	return path
}
