package ibuf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"example.org/imsg/internal/stream/streamtest"
)

// pushBytes pushes one-byte buffers.
func pushBytes(q *Queue, s string) {
	for _, c := range []byte(s) {
		b := New(1)
		b.AddByte(byte(c))
		q.Push(b)
	}
}

// popAll pops everything and says what it was.
func popAll(t *testing.T, q *Queue) string {
	t.Helper()
	s := ""
	for n := q.Len(); n > 0; n-- {
		if q.Len() != n {
			t.Errorf("Len %d, want %d", q.Len(), n)
		}
		b := q.Pop()
		if b == nil {
			t.Fatalf("Pop returned nil with %d queued", n)
		}
		s += string(b.Bytes())
		b.Close()
	}
	if b := q.Pop(); b != nil || q.Len() != 0 {
		t.Errorf("an empty queue popped %v, Len %d", b, q.Len())
	}
	return s
}

func TestQueue(t *testing.T) {
	var q Queue
	for _, s := range []string{"", "a", "ab", "abcd"} {
		pushBytes(&q, s)
		if got := popAll(t, &q); got != s {
			t.Errorf("pushed %q, popped %q", s, got)
		}
	}
	pushBytes(&q, "ab")
	b := q.Pop()
	pushBytes(&q, "c")
	q.Push(b) // may be queued again once it is out
	if got := popAll(t, &q); got != "bca" {
		t.Errorf("popped %q, want bca", got)
	}
}

func TestQueueConcat(t *testing.T) {
	for _, tt := range []struct{ to, from string }{{"", ""}, {"a", ""}, {"", "a"}, {"ab", "cd"}} {
		t.Run(fmt.Sprintf("%q+%q", tt.to, tt.from), func(t *testing.T) {
			var q, from Queue
			pushBytes(&q, tt.to)
			pushBytes(&from, tt.from)
			q.Concat(&from)
			q.Concat(&q) // changes nothing
			pushBytes(&from, "X")
			pushBytes(&q, "Y")
			if got := popAll(t, &q); got != tt.to+tt.from+"Y" {
				t.Errorf("popped %q", got)
			}
			if got := popAll(t, &from); got != "X" {
				t.Errorf("the emptied queue popped %q, want X", got)
			}
		})
	}
}

func TestQueueClear(t *testing.T) {
	var q Queue
	pushBytes(&q, "ab")
	r, w, err := os.Pipe()
	streamtest.Must(t, err)
	defer r.Close()
	b := New(4)
	memory := b.buf[:4]
	b.Add([]byte("key!"))
	b.SetFile(w)
	q.Push(b)
	q.Clear()
	if q.Len() != 0 || q.Pop() != nil {
		t.Errorf("%d buffers are left", q.Len())
	}
	if string(memory) != "\x00\x00\x00\x00" {
		t.Errorf("the memory still holds %q", memory)
	}
	wantIs(t, w.Close(), os.ErrClosed)
	pushBytes(&q, "c")
	if got := popAll(t, &q); got != "c" {
		t.Errorf("popped %q after Clear, want c", got)
	}
}

// A buffer that was given away cannot be given away again, closed or moved.
func TestQueuePushTwice(t *testing.T) {
	var q, other Queue
	m := NewMsgBuf()
	b, closed := New(3), New(3)
	b.Add([]byte("abc"))
	closed.Close()
	grows, err := NewDynamic(1, 100)
	streamtest.Must(t, err)
	grows.Add([]byte("d"))
	streamtest.Must(t, errors.Join(q.Push(b), m.Push(grows)))
	for name, err := range map[string]error{
		"nil": q.Push(nil), "the same": q.Push(b), "another queue": other.Push(b), "a MsgBuf": m.Push(b),
		"from a MsgBuf": q.Push(grows), "a MsgBuf twice": m.Push(grows), "closed": q.Push(closed),
		"closed to a MsgBuf": m.Push(closed), "zero": q.Push(new(Buffer)), "nil to a MsgBuf": m.Push(nil),
		"close": b.Close(), "close a MsgBuf's": grows.Close(), "grow": grows.Add([]byte("e")),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	var w bytes.Buffer
	if err := m.WriteStream(&w); err != nil || w.String() != "d" {
		t.Errorf("wrote %q, %v", w.String(), err)
	}
	if err := m.Push(grows); !errors.Is(err, ErrInvalid) {
		t.Errorf("push of a buffer that was sent: %v", err)
	}
	if q.Len() != 1 || other.Len() != 0 || q.Pop() != b || string(b.Bytes()) != "abc" {
		t.Error("a refused call changed a queue")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestQueueAllocs(t *testing.T) {
	var q Queue
	b := New(0)
	if n := testing.AllocsPerRun(100, func() { q.Push(b); b = q.Pop() }); n != 0 {
		t.Errorf("%v allocations for a Push and a Pop", n)
	}
}
