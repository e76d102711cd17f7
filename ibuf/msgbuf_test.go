package ibuf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/iotest"

	"example.org/imsg/internal/check"
	"example.org/imsg/internal/stream/streamtest"
)

func newTestReader(t *testing.T) *MsgBuf {
	t.Helper()
	m, err := NewMsgBufReader(streamtest.HeaderSize, streamtest.Parse)
	check.Must(t, err)
	return m
}

// checkMsg takes the next message, which must be want.
func checkMsg(t *testing.T, m *MsgBuf, want []byte) {
	t.Helper()
	got := m.Get()
	if got == nil || !bytes.Equal(got.Bytes(), want) || got.Available() != 0 {
		t.Fatal("no message, or another one")
	}
	got.Close()
}

func TestMsgBufRead(t *testing.T) {
	for _, n := range []int{0, -1, maxHeader + 1} {
		_, err := NewMsgBufReader(n, streamtest.Parse)
		check.Is(t, fmt.Sprintf("header of %d bytes", n), err, ErrInvalid)
	}
	check.Is(t, "read without a header function", NewMsgBuf().ReadStream(new(bytes.Buffer)), syscall.EINVAL)
	if err := NewMsgBuf().Fill(nil); !errors.Is(err, syscall.EINVAL) || NewMsgBuf().Get() != nil {
		t.Errorf("read without a header function: %v", err)
	}

	a, b := streamtest.Msg(300, false, 'a'), streamtest.Msg(5000, false, 'b')
	m := newTestReader(t)
	r := iotest.OneByteReader(bytes.NewReader(append(append([]byte(nil), a...), b...)))
	for range len(a) + len(b) {
		check.Must(t, m.ReadStream(r))
	}
	check.Equal(t, "at the end", m.ReadStream(r), io.EOF)
	checkMsg(t, m, a)
	checkMsg(t, m, b)
	if m.Get() != nil {
		t.Error("a message too many")
	}

	m = newTestReader(t)
	r = iotest.DataErrReader(bytes.NewReader(a)) // the end comes with the last bytes
	check.Must(t, m.ReadStream(r))
	check.Equal(t, "at the end that came with a message", m.ReadStream(r), io.EOF)
	checkMsg(t, m, a)

	m = newTestReader(t)
	check.Must(t, m.ReadStream(bytes.NewReader(a[:299])))
	check.Equal(t, "the end inside a message", m.ReadStream(new(bytes.Buffer)), io.ErrUnexpectedEOF)
	m.Clear()

	m = newTestReader(t)
	if err := m.ReadStream(bytes.NewReader(append(bytes.Clone(a), make([]byte, streamtest.HeaderSize)...))); err == nil {
		t.Error("a bad header was accepted")
	}
	checkMsg(t, m, a)
}

// script is a MsgReader that returns what it was told to.
type scripted struct {
	p   []byte
	fd  int
	err error
}

func (s *scripted) ReadMsg(p []byte) (n, fd int, lost bool, err error) {
	return copy(p, s.p), s.fd, false, s.err
}

func TestMsgBufReadMsg(t *testing.T) {
	r, w := streamtest.Pipe(t)
	fd, err := syscall.Dup(int(w.Fd()))
	check.Must(t, err)
	w.Close()
	m := newTestReader(t)
	check.Is(t, "EAGAIN", m.Fill(&scripted{err: syscall.EAGAIN, fd: -1}), nil)
	check.Must(t, m.Fill(&scripted{p: streamtest.Msg(10, true, 'x'), fd: fd}))
	b := m.Get()
	if b == nil || !b.HasFile() {
		t.Fatal("no message with a file")
	}
	check.Equal(t, "at the end", m.Fill(&scripted{fd: -1}), io.EOF)
	check.Equal(t, "EIO", m.Fill(&scripted{err: syscall.EIO, fd: -1}), syscall.EIO)
	b.Close()
	check.EOF(t, "the file", r)
	if err := m.Fill(&scripted{p: make([]byte, streamtest.HeaderSize), fd: -1}); err == nil || m.Get() != nil {
		t.Errorf("a bad header was accepted: %v", err)
	}
}

func TestMsgBufClear(t *testing.T) {
	m := newTestReader(t)
	r, w := streamtest.Pipe(t)
	b := newFilled(4, "data")
	b.SetFile(w)
	m.Push(b)
	check.Must(t, m.ReadStream(bytes.NewReader(streamtest.Msg(10, false, 'x'))))
	m.Clear()
	if m.QueueLen() != 0 || m.Get() != nil {
		t.Error("something is left")
	}
	check.EOF(t, "the file", r)
}

func TestMsgBufConcat(t *testing.T) {
	m := NewMsgBuf()
	var q Queue
	for _, s := range []string{"one", "two", "three"} {
		q.Push(newFilled(len(s), s))
	}
	m.Concat(&q)
	if q.Len() != 0 || m.QueueLen() != 3 {
		t.Errorf("%d in the queue, %d to be written", q.Len(), m.QueueLen())
	}
	var w bytes.Buffer
	if err := m.WriteStream(&w); err != nil || w.String() != "onetwothree" || m.QueueLen() != 0 {
		t.Errorf("%v: %q, %d left", err, w.String(), m.QueueLen())
	}
}

// limited is a socket that takes n bytes and then would block.
type limited struct {
	got []byte
	n   int
}

func (w *limited) Write(p []byte) (int, error) {
	if w.n == 0 {
		return 0, syscall.EAGAIN
	}
	k := min(w.n, len(p))
	w.got = append(w.got, p[:k]...)
	w.n -= k
	if k < len(p) {
		return k, io.ErrShortWrite
	}
	return k, nil
}

func TestMsgBufWriteStream(t *testing.T) {
	m := NewMsgBuf()
	for i := range 5 {
		b := New(10)
		b.Add(bytes.Repeat([]byte{byte('a' + i)}, 10*min(i, 1)))
		m.Push(b)
	}
	w := &limited{n: 20}
	check.Must(t, m.WriteStream(w))
	if m.QueueLen() != 2 || string(w.got) != "bbbbbbbbbbcccccccccc" {
		t.Errorf("%d left after %q", m.QueueLen(), w.got)
	}
	w.n = 100
	if err := m.WriteStream(w); err != nil || m.QueueLen() != 0 || len(w.got) != 40 {
		t.Errorf("%v, %d left, %d bytes", err, m.QueueLen(), len(w.got))
	}
	m.Push(New(0))
	if err := m.WriteStream(&limited{}); err != nil || m.QueueLen() != 0 {
		t.Errorf("an empty Buffer: %v, %d left", err, m.QueueLen())
	}
}

// TestMsgBufDrain writes files, and waits when no more can be taken.
func TestMsgBufDrain(t *testing.T) {
	m, w := NewMsgBuf(), &taker{}
	check.Must(t, m.Drain(w)) // nothing to write
	for i := range 3 {
		b := New(1)
		b.Add([]byte{byte('a' + i)})
		if i == 1 {
			f, err := os.Open(os.DevNull)
			check.Must(t, err)
			b.SetFile(f)
		}
		m.Push(b)
	}
	for i, err := range []error{syscall.ENOBUFS, syscall.EAGAIN, nil, nil} {
		w.err = err
		check.Must(t, m.Drain(w))
		if want := []int{3, 3, 2, 0}[i]; m.QueueLen() != want {
			t.Errorf("%d left behind write %d, want %d", m.QueueLen(), i, want)
		}
	}
	check.Must(t, m.Drain(w))
	check.Equal(t, "wrote", fmt.Sprint(w.got), "[a +bc]")
}

// taker is a MsgWriter that takes all, or fails.
type taker struct {
	got []string // a "+": with a file
	err error
}

func (w *taker) WriteMsg(bufs [][]byte, file *os.File) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	p := bytes.Join(bufs, nil)
	s := string(p)
	if file != nil {
		s = "+" + s
	}
	w.got = append(w.got, s)
	return len(p), nil
}
