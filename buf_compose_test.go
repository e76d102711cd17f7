package imsg_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
)

// bufs returns two connected Bufs with file passing, cleared when the test ends.
func bufs(t *testing.T, cfg imsg.Config) (a, b *imsg.Buf) {
	t.Helper()
	cfg.AllowFDPass = true
	x, y := imsgtest.Sockets(t)
	a, b = imsg.NewBuf(x.FD, &cfg), imsg.NewBuf(y.FD, &cfg)
	t.Cleanup(a.Clear)
	t.Cleanup(b.Clear)
	return a, b
}

// pass flushes a and returns the next message at b.
func pass(t *testing.T, a, b *imsg.Buf) imsg.Message {
	t.Helper()
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if m, ok := b.Get(); ok {
			return m
		}
		if err := b.ReadSocket(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no message")
	return imsg.Message{}
}

// compose queues a message at a and returns it as it arrives at b.
func compose(t *testing.T, a, b *imsg.Buf, h imsg.Header, f *os.File, data ...[]byte) imsg.Message {
	t.Helper()
	if err := a.Compose(h, f, data...); err != nil {
		t.Fatal(err)
	}
	return pass(t, a, b)
}

func TestCompose(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	m := compose(t, a, b, imsg.Header{Type: 9, ID: 8}, nil, []byte("one "), nil, []byte("two"))
	if m.Header() != (imsg.Header{Type: 9, ID: 8, PID: int32(os.Getpid())}) || string(m.Bytes()) != "one two" {
		t.Errorf("%+v %q", m.Header(), m.Bytes())
	}
	m.Close()

	// Input is copied.
	p := []byte("before")
	if err := a.Compose(imsg.Header{PID: -1}, nil, p); err != nil {
		t.Fatal(err)
	}
	copy(p, "after!")
	m = pass(t, a, b)
	if string(m.Bytes()) != "before" || m.PID() != -1 {
		t.Errorf("%q from %d", m.Bytes(), m.PID())
	}
	m.Close()

	// A call that fails takes nothing.
	w := testutil.NewProbe(t).W
	if err := a.Compose(imsg.Header{Type: 4}, w, make([]byte, 16369)); !errors.Is(err, imsg.ErrTooLarge) || !strings.Contains(err.Error(), "type 4: payload of 16369 bytes, limit 16368") {
		t.Errorf("too large: %v", err)
	}
	x, _ := imsgtest.Sockets(t)
	off := imsg.NewBuf(x.FD, nil)
	if err := off.Compose(imsg.Header{Type: 4}, w); !errors.Is(err, imsg.ErrNoFDPass) {
		t.Errorf("a file without file passing: %v", err)
	}
	if _, err := w.Write(nil); err != nil || a.QueueLen() != 0 || off.QueueLen() != 0 {
		t.Errorf("something was taken: %v, %d and %d queued", err, a.QueueLen(), off.QueueLen())
	}
	off.AllowFDPass()
	if err := off.Compose(imsg.Header{}, w); err != nil {
		t.Error(err)
	}
	off.Clear()
}

func TestComposeBuffer(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	file := testutil.NewProbe(t)
	p := ibuf.New(8)
	p.Add([]byte("skipdata"))
	p.Skip(4)
	p.SetFile(file.W)
	if err := a.ComposeBuffer(imsg.Header{Type: 5}, p); err != nil {
		t.Fatal(err)
	}
	if a.QueueLen() != 1 {
		t.Errorf("%d queued", a.QueueLen())
	}
	m := pass(t, a, b)
	if m.Type() != 5 || string(m.Bytes()) != "data" || !m.HasFile() {
		t.Errorf("type %d, %q, file %v", m.Type(), m.Bytes(), m.HasFile())
	}
	if p.Len() != 0 {
		t.Error("the buffer was not closed after it was sent")
	}
	m.Close()
	if !file.Closed() {
		t.Error("somebody holds the file")
	}

	big := ibuf.New(16369)
	big.AddZero(16369)
	if err := a.ComposeBuffer(imsg.Header{}, big); !errors.Is(err, syscall.ERANGE) || big.Len() != 16369 {
		t.Errorf("too large: %v, %d bytes left", err, big.Len())
	}
}

func TestQueueLen(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	if a.QueueLen() != 0 {
		t.Errorf("%d in a new queue", a.QueueLen())
	}
	for i := range 5 {
		a.Compose(imsg.Header{}, nil, make([]byte, 100))
		if a.QueueLen() != i+1 {
			t.Errorf("%d after %d messages", a.QueueLen(), i+1)
		}
	}
	if err := a.WriteSocket(); err != nil || a.QueueLen() != 0 {
		t.Errorf("%v, %d left", err, a.QueueLen())
	}
	for range 5 {
		m := pass(t, a, b)
		m.Close()
	}
}

// fill queues p and writes until the socket takes no more.
func fill(t *testing.T, b *imsg.Buf, p []byte) {
	t.Helper()
	for b.QueueLen() == 0 {
		for range 8 {
			if err := b.Compose(imsg.Header{Type: 1}, nil, p); err != nil {
				t.Fatal(err)
			}
		}
		for last := -1; last != b.QueueLen(); {
			last = b.QueueLen()
			if err := b.WriteSocket(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestWriteSocket(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	if err := a.WriteSocket(); err != nil {
		t.Errorf("with an empty queue: %v", err)
	}
	if err := b.ReadSocket(); err != nil {
		t.Errorf("read of nothing: %v", err)
	}
	p := bytes.Repeat([]byte("x"), 10000)
	fill(t, a, p)
	if n := a.QueueLen(); a.WriteSocket() != nil || a.QueueLen() != n {
		t.Error("a full socket is an error, or took something")
	}
	sent := a.Stats().Sent.Messages + uint64(a.QueueLen())
	for got := uint64(0); got < sent; got++ {
		var m imsg.Message
		for ok := false; !ok; m, ok = b.Get() {
			if err := a.WriteSocket(); err != nil {
				t.Fatal(err)
			}
			if err := b.ReadSocket(); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(m.Bytes(), p) {
			t.Fatalf("message %d differs", got)
		}
		m.Close()
	}

	x, y := imsgtest.Sockets(t)
	c := imsg.NewBuf(x.FD, &imsg.Config{AllowFDPass: true})
	file := testutil.NewProbe(t)
	c.Compose(imsg.Header{}, file.W, p)
	y.Close()
	err := c.WriteSocket()
	if !errors.Is(err, syscall.EPIPE) || c.WriteSocket() != err || c.Flush() != err || c.Compose(imsg.Header{}, nil) != err {
		t.Errorf("after the peer has gone: %v", err)
	}
	if !file.Closed() {
		t.Error("somebody holds the file")
	}
}
