package ibuf

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/iotest"
)

func newTestReader(t *testing.T) *MsgBuf {
	t.Helper()
	m, err := NewMsgBufReader(testHeader, parseTest)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMsgBufRead(t *testing.T) {
	for _, n := range []int{0, -1, maxHeader + 1} {
		if _, err := NewMsgBufReader(n, parseTest); !errors.Is(err, ErrInvalid) {
			t.Errorf("header of %d bytes: %v", n, err)
		}
	}
	if err := NewMsgBuf().ReadStream(new(bytes.Buffer)); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("read without a header function: %v", err)
	}
	if err := NewMsgBuf().Fill(nil); !errors.Is(err, syscall.EINVAL) || NewMsgBuf().Get() != nil {
		t.Errorf("read without a header function: %v", err)
	}

	a, b := testMsg(300, false, 'a'), testMsg(5000, false, 'b')
	m := newTestReader(t)
	r := iotest.OneByteReader(bytes.NewReader(append(append([]byte(nil), a...), b...)))
	for range len(a) + len(b) {
		if err := m.ReadStream(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.ReadStream(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, want := range [][]byte{a, b} {
		got := m.Get()
		if got == nil || !bytes.Equal(got.Bytes(), want) || got.Available() != 0 {
			t.Fatal("message differs")
		}
		got.Close()
	}
	if m.Get() != nil {
		t.Error("a message too many")
	}

	m = newTestReader(t)
	if err := m.ReadStream(bytes.NewReader(a[:299])); err != nil {
		t.Fatal(err)
	}
	if err := m.ReadStream(new(bytes.Buffer)); err != io.ErrUnexpectedEOF {
		t.Errorf("the end inside a message: %v", err)
	}
	m.Clear()

	m = newTestReader(t)
	if err := m.ReadStream(bytes.NewReader(append(bytes.Clone(a), make([]byte, testHeader)...))); err == nil {
		t.Error("a bad header was accepted")
	}
	if got := m.Get(); got == nil || !bytes.Equal(got.Bytes(), a) {
		t.Error("the message before a bad header is lost")
	}
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
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	m := newTestReader(t)
	if err := m.Fill(&scripted{err: syscall.EAGAIN, fd: -1}); err != nil {
		t.Errorf("EAGAIN: %v", err)
	}
	if err := m.Fill(&scripted{p: testMsg(10, true, 'x'), fd: fd}); err != nil {
		t.Fatal(err)
	}
	b := m.Get()
	if b == nil || !b.HasFile() {
		t.Fatal("no message with a file")
	}
	if err := m.Fill(&scripted{fd: -1}); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := m.Fill(&scripted{err: syscall.EIO, fd: -1}); err != syscall.EIO {
		t.Errorf("EIO: %v", err)
	}
	b.Close()
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the file is not closed with its buffer: %v", err)
	}
}

func TestMsgBufClear(t *testing.T) {
	m := newTestReader(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := New(4)
	b.Add([]byte("data"))
	b.SetFile(w)
	m.Push(b)
	if err := m.ReadStream(bytes.NewReader(testMsg(10, false, 'x'))); err != nil {
		t.Fatal(err)
	}
	m.Clear()
	if m.QueueLen() != 0 || m.Get() != nil {
		t.Error("something is left")
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the file is not closed: %v", err)
	}
}

func TestMsgBufConcat(t *testing.T) {
	m := NewMsgBuf()
	var q Queue
	for _, s := range []string{"one", "two", "three"} {
		b := New(len(s))
		b.Add([]byte(s))
		q.Push(b)
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
