package imsg_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// The promises of imsg_init(3), one by one, for Buf. doc/mapping.md tells
// which sentence each test holds to.

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
	_, w := pipe(t)
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
	r, w := pipe(t)
	p := ibuf.New(8)
	p.Add([]byte("skipdata"))
	p.Skip(4)
	p.SetFile(w)
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
	closedEverywhere(t, r)

	big := ibuf.New(16369)
	big.AddZero(16369)
	if err := a.ComposeBuffer(imsg.Header{}, big); !errors.Is(err, syscall.ERANGE) || big.Len() != 16369 {
		t.Errorf("too large: %v, %d bytes left", err, big.Len())
	}
}

func TestBuilder(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	if _, err := a.Create(imsg.Header{}, 16369); !errors.Is(err, imsg.ErrTooLarge) {
		t.Errorf("create: %v", err)
	}
	m, err := a.Create(imsg.Header{Type: 6, ID: 7}, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Discard()
	r, w := pipe(t)
	m.SetFile(w)
	m.AddNet32(0x01020304)
	if err := m.Add([]byte("more than was reserved")); err != nil {
		t.Errorf("add: %v", err)
	}
	if err := m.SetMaxSize(30); err != nil {
		t.Errorf("set max size: %v", err)
	}
	if err := m.Add(make([]byte, 5)); !errors.Is(err, imsg.ErrTooLarge) || m.Len() != 26 {
		t.Errorf("add above the maximum: %v, %d bytes", err, m.Len())
	}
	if a.QueueLen() != 0 {
		t.Error("queued before Commit")
	}
	if err := m.Commit(); err != nil || a.QueueLen() != 1 {
		t.Fatalf("%v, %d queued", err, a.QueueLen())
	}
	if err := m.Commit(); !errors.Is(err, ibuf.ErrInvalid) {
		t.Errorf("second commit: %v", err)
	}
	got := pass(t, a, b)
	want := imsg.Header{Type: 6, ID: 7, PID: int32(os.Getpid())}
	if got.Header() != want || string(got.Bytes()) != "\x01\x02\x03\x04more than was reserved" || !got.HasFile() {
		t.Errorf("%+v %q %v", got.Header(), got.Bytes(), got.HasFile())
	}
	got.Close()
	closedEverywhere(t, r)

	r, w = pipe(t)
	if m, err = a.Create(imsg.Header{}, 0); err != nil {
		t.Fatal(err)
	}
	m.SetFile(w)
	m.Discard()
	m.Discard()
	closedEverywhere(t, r)
	if a.QueueLen() != 0 {
		t.Error("a discarded message was queued")
	}
}

func TestForward(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	c, d := bufs(t, imsg.Config{})
	_, w := pipe(t)
	for _, pid := range []int32{4711, -1} {
		m := compose(t, a, b, imsg.Header{Type: 1, ID: 2, PID: pid}, w, []byte("whole"))
		w = nil
		had := m.HasFile()
		m.Get(make([]byte, 2))
		for range 2 {
			if err := c.Forward(m); err != nil {
				t.Fatal(err)
			}
			got := pass(t, c, d)
			if got.Header() != m.Header() || string(got.Bytes()) != "whole" || got.HasFile() || got.FileErr() != nil {
				t.Errorf("%+v %q, file %v", got.Header(), got.Bytes(), got.HasFile())
			}
			got.Close()
		}
		if m.Len() != 3 || m.HasFile() != had {
			t.Errorf("the message has changed: %d bytes left, file %v", m.Len(), m.HasFile())
		}
		m.Close()
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

// fill sends until the socket takes no more and returns how many messages the
// peer will get of it.
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
	r, w := pipe(t)
	c.Compose(imsg.Header{}, w, p)
	y.Close()
	err := c.WriteSocket()
	if !errors.Is(err, syscall.EPIPE) || c.WriteSocket() != err || c.Flush() != err || c.Compose(imsg.Header{}, nil) != err {
		t.Errorf("after the peer has gone: %v", err)
	}
	closedEverywhere(t, r)
}

// Flush waits while the socket takes nothing. The peer reads in this same
// thread's absence: a goroutine that drains it.
func TestFlush(t *testing.T) {
	for _, nonblock := range []bool{true, false} {
		fa, fb, err := unixmsg.Pair(nonblock)
		if err != nil {
			t.Fatal(err)
		}
		a := imsg.NewBuf(fa, nil)
		want := 0
		for range 100 {
			if err := a.Compose(imsg.Header{Type: 1}, nil, make([]byte, 16368)); err != nil {
				t.Fatal(err)
			}
			want += imsg.DefaultMaxSize
		}
		got := make(chan int)
		go func() {
			n, buf := 0, make([]byte, 1<<16)
			for n < want {
				if unixmsg.Poll(fb, false, 10_000) != nil {
					break
				}
				k, err := unixmsg.Read(fb, buf)
				if err != nil {
					break
				}
				n += k
			}
			got <- n
		}()
		if err := a.Flush(); err != nil || a.QueueLen() != 0 {
			t.Errorf("%v, %d left", err, a.QueueLen())
		}
		if n := <-got; n != want {
			t.Errorf("%d bytes arrived, want %d", n, want)
		}
		if calls := a.Stats().Sent.Calls; calls > 2000 {
			t.Errorf("%d system calls: it spins", calls)
		}
		unix.Close(fa)
		unix.Close(fb)
	}
}

func TestClear(t *testing.T) {
	x, y := imsgtest.Sockets(t)
	cfg := &imsg.Config{AllowFDPass: true}
	a, b := imsg.NewBuf(x.FD, cfg), imsg.NewBuf(y.FD, cfg)
	var rs []*os.File
	for range 3 {
		r, w := pipe(t)
		rs = append(rs, r)
		if err := a.Compose(imsg.Header{}, w); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // two arrive and are not taken, one is not sent
		if err := a.WriteSocket(); err != nil {
			t.Fatal(err)
		}
		if err := b.ReadSocket(); err != nil {
			t.Fatal(err)
		}
	}
	a.Clear()
	b.Clear()
	for _, r := range rs {
		closedEverywhere(t, r)
	}
	if _, ok := b.Get(); ok || a.QueueLen() != 0 {
		t.Error("something is left")
	}
	for _, fd := range []int{x.FD, y.FD} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			t.Errorf("the descriptor was closed: %v", err)
		}
	}
}

func TestSetMaxSize(t *testing.T) {
	for _, tt := range []struct {
		d    imsg.Dialect
		n    int
		want bool
	}{
		{imsg.Current, 0, true}, {imsg.Current, 1<<31 - 1 - 16, true}, {imsg.Current, 1<<31 - 16, false}, {imsg.Current, -1, false},
		{imsg.Legacy, 65519, true}, {imsg.Legacy, 65520, false},
		{imsg.Auto, 65519, true}, {imsg.Auto, 65520, false},
	} {
		a, _ := bufs(t, imsg.Config{Dialect: tt.d})
		if err := a.SetMaxSize(tt.n); (err == nil) != tt.want || err != nil && !errors.Is(err, syscall.ERANGE) {
			t.Errorf("%v, %d: %v", tt.d, tt.n, err)
		}
	}
	a, b := bufs(t, imsg.Config{})
	for _, n := range []int{0, 100, 200_000} {
		for _, c := range []*imsg.Buf{a, b} {
			if err := c.SetMaxSize(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Compose(imsg.Header{}, nil, make([]byte, n+1)); !errors.Is(err, imsg.ErrTooLarge) {
			t.Errorf("%d bytes with a maximum of %d: %v", n+1, n, err)
		}
		if err := a.Compose(imsg.Header{}, nil, make([]byte, n)); err != nil {
			t.Errorf("%d bytes with a maximum of %d: %v", n, n, err)
		}
		for got := false; !got; {
			if err := a.WriteSocket(); err != nil {
				t.Fatal(err)
			}
			if err := b.ReadSocket(); err != nil {
				t.Fatal(err)
			}
			for m := range b.All() {
				got = m.Len() == n
				m.Close()
			}
		}
	}
}
