//go:build imsgfault && linux

package fault_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// setupCases make channels. Each step is done again after an error, which
// must be possible, and nothing may be left open.
func setupCases(t *testing.T) []testCase {
	path := filepath.Join(t.TempDir(), "socket")
	return []testCase{
		{"pair", counted(newPair)},
		{"listen", counted(func(w *world) tally { return listen(w, path, nil) })},
		{"listen for files", counted(func(w *world) tally {
			return listen(w, path, &imsg.Config{AllowFDPass: true})
		})},
	}
}

// counted makes a case of a function that leaves nothing open.
func counted(run func(w *world) tally) func(w *world) tally {
	return func(w *world) tally {
		before := openFiles(w)
		n := run(w)
		if after := openFiles(w); after > before {
			w.fatalf("%d descriptors before, %d after", before, after)
		}
		n.runs, n.calls, n.hit = 1, w.calls, w.hit
		return n
	}
}

// again does a step until it works; it may fail only because a call did.
func again(w *world, step func() error) (failures int) {
	w.t.Helper()
	for {
		first := len(w.events)
		err := step()
		if err == nil {
			return failures
		}
		failures++
		checkError(w, err, w.failed(first))
	}
}

func newPair(w *world) (n tally) {
	var a, b, c *imsg.Conn
	var f *os.File
	again(w, func() (err error) { a, b, err = imsg.Pair(nil); return err })
	again(w, func() error { _, err := a.PeerCred(); return err })
	again(w, func() (err error) { f, err = a.File(); return err })
	again(w, func() (err error) { c, err = imsg.FileConn(f, nil); return err })
	a.Close()
	f.Close()
	n = hello(w, c, b)
	c.Close()
	b.Close()
	return n
}

// hello sends a message in each direction, until a fault ends one.
func hello(w *world, a, b *imsg.Conn) (n tally) {
	ctx, stop := context.WithTimeout(context.Background(), testutil.Bound)
	defer stop()
	for _, d := range [][2]*imsg.Conn{{a, b}, {b, a}} {
		n.sent++
		err := d[0].Send(ctx, imsg.Header{Type: 5}, nil, []byte("hello"))
		if err == nil {
			var m imsg.Message
			if m, err = d[1].Receive(ctx); err == nil && string(m.Bytes()) != "hello" {
				w.fatalf("received %q", m.Bytes())
			}
			m.Close()
		}
		if err != nil {
			checkError(w, err, w.failed(0))
			return n
		}
		n.got++
	}
	return n
}

// listen makes a connection. A Dial that fails has connected, so somebody
// is to be accepted who is gone.
func listen(w *world, path string, cfg *imsg.Config) (n tally) {
	var more []int
	w.nudge = func(c unixmsg.Call) {
		if c.Name == "accept" {
			more = append(more, connect(w, path)) // what a listening socket waits for
			return
		}
		nudgeSocket(c)
	}
	ctx, stop := context.WithTimeout(context.Background(), testutil.Bound)
	defer stop()
	var l *imsg.Listener
	var a, b *imsg.Conn
	again(w, func() (err error) { l, err = imsg.Listen(path, cfg); return err })
	gone := again(w, func() (err error) { a, err = imsg.Dial(ctx, path, cfg); return err })
	for range gone + 1 {
		if b != nil {
			b.Close()
		}
		again(w, func() (err error) { b, err = l.Accept(ctx); return err })
	}
	again(w, func() error { _, err := b.PeerCred(); return err })
	n = hello(w, a, b)
	a.Close()
	b.Close()
	l.Close()
	for _, fd := range more {
		unix.Close(fd)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		w.fatalf("the socket is left: %v", err)
	}
	return n
}

func connect(w *world, path string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		w.fatalf("%v", err)
	}
	return fd
}
