package fake

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"example.org/imsg"
)

// CutEverywhere cuts what a daemon answers to ask behind every byte: once it then
// hangs up, and once it falls silent and ask's context is cancelled. The error
// must tell which, and the daemon must answer the next time. ask gets the path of
// a socket; it may leave the last message, if that is only a header.
func CutEverywhere(t *testing.T, daemon string, ask func(ctx context.Context, path string) error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cut")
	behind := func(bytes int, want error) (passed int, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		c := &cut{daemon: daemon, left: bytes}
		if want == context.Canceled {
			c.silent = cancel
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.work.Go(func() { c.serve(l) })
		err = ask(ctx, path)
		l.Close()
		c.work.Wait()
		if err != nil && !errors.Is(err, want) {
			t.Fatalf("cut behind %d bytes: %v, want %v", bytes, err, want)
		}
		return bytes - c.left, err
	}
	whole, _ := behind(math.MaxInt, nil)
	for n := range whole {
		_, err1 := behind(n, io.ErrUnexpectedEOF)
		_, err2 := behind(n, context.Canceled)
		if err1 == nil || err2 == nil {
			if n < whole-imsg.HeaderSize {
				t.Errorf("cut behind %d of %d bytes: %v, %v", n, whole, err1, err2)
			}
			break
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		if err := ask(ctx, daemon); err != nil {
			t.Fatalf("after cuts behind %d bytes: %v", n, err)
		}
		cancel()
	}
}

// A cut stands between a client and a daemon.
type cut struct {
	daemon string
	silent func() // called in the end instead of hanging up; or nil
	work   sync.WaitGroup

	mu   sync.Mutex
	left int // bytes of answers
}

func (c *cut) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		c.work.Go(func() { c.join(client) })
	}
}

// join passes on what client and daemon say, until one of them hangs up.
func (c *cut) join(client net.Conn) {
	defer client.Close()
	daemon, err := net.Dial("unix", c.daemon)
	if err != nil {
		return // the client will notice
	}
	c.work.Go(func() {
		defer daemon.Close()
		io.Copy(daemon, client)
	})
	p := make([]byte, 4096)
	for {
		n, err := daemon.Read(p)
		if err != nil {
			return
		}
		c.mu.Lock()
		n = min(n, c.left)
		c.left -= n
		client.Write(p[:n])
		over := c.left == 0
		c.mu.Unlock()
		if over && c.silent == nil {
			return
		}
		if over {
			c.silent()
		}
	}
}
