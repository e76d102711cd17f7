package imsg_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
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

func TestMessageGet(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	m := compose(t, a, b, imsg.Header{Type: 1, ID: 2, PID: 3}, nil, []byte("name\x00\x00xy123"))
	defer m.Close()
	if m.Header() != (imsg.Header{Type: 1, ID: 2, PID: 3}) || m.Len() != 11 {
		t.Errorf("%+v, %d bytes", m.Header(), m.Len())
	}
	if err := m.GetExact(make([]byte, 10)); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("GetExact of 10: %v", err)
	}
	if err := m.GetExact(nil); !errors.Is(err, ibuf.ErrInvalid) {
		t.Errorf("GetExact of 0: %v", err)
	}
	if s, err := m.GetCString(6); s != "name" || err != nil {
		t.Errorf("GetCString: %q, %v", s, err)
	}
	if _, err := m.GetCString(2); !errors.Is(err, ibuf.ErrNoNUL) {
		t.Errorf("GetCString without NUL: %v", err)
	}
	var p [2]byte
	if err := m.Get(p[:]); string(p[:]) != "xy" || err != nil {
		t.Errorf("Get: %q, %v", p, err)
	}
	if err := m.Get(make([]byte, 4)); !errors.Is(err, ibuf.ErrShort) || m.Len() != 3 {
		t.Errorf("Get of 4 of 3: %v, %d left", err, m.Len())
	}
	copied := m
	v, err := copied.GetView()
	if string(v.Bytes()) != "123" || err != nil {
		t.Errorf("GetView: %q, %v", v.Bytes(), err)
	}
	if m.Len() != 0 || len(m.Bytes()) != 0 {
		t.Errorf("%d bytes left after a copy read them", m.Len())
	}
	if _, err := m.GetView(); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("GetView of nothing: %v", err)
	}

	empty := compose(t, a, b, imsg.Header{Type: 1}, nil)
	defer empty.Close()
	if empty.Len() != 0 {
		t.Errorf("%d bytes in an empty message", empty.Len())
	}

	exact := compose(t, a, b, imsg.Header{Type: 1}, nil, []byte("12"))
	defer exact.Close()
	if err := exact.GetExact(p[:]); string(p[:]) != "12" || err != nil {
		t.Errorf("GetExact: %q, %v", p, err)
	}
}

func TestMessageClose(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	old := compose(t, a, b, imsg.Header{Type: 1}, nil, []byte("secret"))
	alias, view := old.Bytes(), old
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(alias, make([]byte, 6)) {
		t.Errorf("not cleared: %q", alias)
	}
	next := compose(t, a, b, imsg.Header{Type: 2}, nil, []byte("public"))
	if &next.Bytes()[0] != &alias[0] {
		t.Fatal("the memory is not used again: the test proves nothing")
	}
	if view.Close(); view.Type() != 0 || view.Len() != 0 || view.Bytes() != nil || view.HasFile() || view.TakeFD() != -1 || view.FileErr() != nil {
		t.Error("a closed message still has something")
	}
	if err := imsg.Push(new(ibuf.Queue), view); !errors.Is(err, ibuf.ErrInvalid) {
		t.Errorf("push of a closed message: %v", err)
	}
	if err := a.Forward(view); !errors.Is(err, ibuf.ErrInvalid) {
		t.Errorf("forward of a closed message: %v", err)
	}
	if string(next.Bytes()) != "public" {
		t.Errorf("closing a closed message changed its successor: %q", next.Bytes())
	}
	next.Close()
	var zero imsg.Message
	if zero.Close() != nil || zero.Type() != 0 {
		t.Error("the zero message is something")
	}
}

// pipe returns the two ends of a pipe; both are closed when the test ends.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// closedEverywhere reports whether nobody holds the pipe's writing end: the
// reading end is then at EOF.
func closedEverywhere(t *testing.T, r *os.File) {
	t.Helper()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("somebody holds the file: %d, %v", n, err)
	}
}

func TestMessageFile(t *testing.T) {
	a, b := bufs(t, imsg.Config{})

	r, w := pipe(t)
	m := compose(t, a, b, imsg.Header{Type: 1}, w)
	if !m.HasFile() || m.FileErr() != nil {
		t.Fatal("no file")
	}
	if _, err := w.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the sender's file is not closed: %v", err)
	}
	f := m.TakeFile()
	if m.HasFile() || m.TakeFile() != nil || m.TakeFD() != -1 {
		t.Error("a taken file is still there")
	}
	m.Close()
	f.WriteString("x")
	if n, err := r.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("the taken file was closed: %v", err)
	}
	f.Close()
	closedEverywhere(t, r)

	r, w = pipe(t)
	m = compose(t, a, b, imsg.Header{Type: 1}, w)
	fd := m.TakeFD()
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %v", err)
	}
	m.Close()
	unix.Close(fd)
	closedEverywhere(t, r)

	r, w = pipe(t)
	m = compose(t, a, b, imsg.Header{Type: 1}, w)
	m.Close() // nobody took it
	closedEverywhere(t, r)
}

func TestPushPop(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	var q ibuf.Queue
	defer q.Clear()
	if _, ok, err := imsg.Pop(&q); ok || err != nil {
		t.Errorf("pop of an empty queue: %v, %v", ok, err)
	}
	r, w := pipe(t)
	m := compose(t, a, b, imsg.Header{Type: 1, ID: 2, PID: 3}, w, []byte("payload"))
	m.Get(make([]byte, 3))
	if err := imsg.Push(&q, m); err != nil {
		t.Fatal(err)
	}
	if m.Type() != 0 || q.Len() != 1 {
		t.Errorf("type %d, %d queued", m.Type(), q.Len())
	}
	m, ok, err := imsg.Pop(&q)
	if !ok || err != nil || m.Header() != (imsg.Header{Type: 1, ID: 2, PID: 3}) || string(m.Bytes()) != "payload" {
		t.Fatalf("%v, %v: %+v %q", ok, err, m.Header(), m.Bytes())
	}
	fd := m.TakeFD()
	if fd < 0 || m.HasFile() {
		t.Fatal("the file did not come along")
	}
	unix.Close(fd)
	closedEverywhere(t, r)
	m.Close()

	r, w = pipe(t)
	if err := imsg.Push(&q, compose(t, a, b, imsg.Header{}, w)); err != nil {
		t.Fatal(err)
	}
	m, _, _ = imsg.Pop(&q)
	m.Close()
	closedEverywhere(t, r)

	short := ibuf.New(3)
	short.Add([]byte("abc"))
	q.Push(short)
	if _, ok, err := imsg.Pop(&q); ok || !errors.Is(err, ibuf.ErrShort) || q.Len() != 0 {
		t.Errorf("pop of 3 bytes: %v, %v", ok, err)
	}
}
