package ibuf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"example.org/imsg/internal/check"
	"example.org/imsg/internal/stream/streamtest"
)

// pushBytes pushes one-byte buffers.
func pushBytes(q *Queue, s string) {
	for _, c := range s {
		q.Push(newFilled(1, string(c)))
	}
}

// popAll pops everything and says what it was.
func popAll(t *testing.T, q *Queue) string {
	t.Helper()
	s := ""
	for n := q.Len(); n > 0; n-- {
		check.Equal(t, "Len", q.Len(), n)
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
		check.Equal(t, "popped", popAll(t, &q), s)
	}
	pushBytes(&q, "ab")
	b := q.Pop()
	pushBytes(&q, "c")
	q.Push(b) // may be queued again once it is out
	check.Equal(t, "popped", popAll(t, &q), "bca")
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
			check.Equal(t, "popped", popAll(t, &q), tt.to+tt.from+"Y")
			check.Equal(t, "the emptied queue popped", popAll(t, &from), "X")
		})
	}
}

func TestQueueClear(t *testing.T) {
	var q Queue
	pushBytes(&q, "ab")
	_, w := streamtest.Pipe(t)
	b := New(4)
	memory := b.buf[:4]
	b.Add([]byte("key!"))
	b.SetFile(w)
	q.Push(b)
	q.Clear()
	if q.Len() != 0 || q.Pop() != nil {
		t.Errorf("%d buffers are left", q.Len())
	}
	check.Equal(t, "memory", string(memory), "\x00\x00\x00\x00")
	wantIs(t, w.Close(), os.ErrClosed)
	pushBytes(&q, "c")
	check.Equal(t, "popped", popAll(t, &q), "c")
}

// A buffer that was given away cannot be given away again, closed or moved.
func TestQueuePushTwice(t *testing.T) {
	var q, other Queue
	m := NewMsgBuf()
	b, closed := New(3), New(3)
	b.Add([]byte("abc"))
	closed.Close()
	grows, err := NewDynamic(1, 100)
	check.Must(t, err)
	grows.Add([]byte("d"))
	check.Must(t, errors.Join(q.Push(b), m.Push(grows)))
	for name, err := range map[string]error{
		"nil": q.Push(nil), "the same": q.Push(b), "another queue": other.Push(b), "a MsgBuf": m.Push(b),
		"from a MsgBuf": q.Push(grows), "a MsgBuf twice": m.Push(grows), "closed": q.Push(closed),
		"closed to a MsgBuf": m.Push(closed), "zero": q.Push(new(Buffer)), "nil to a MsgBuf": m.Push(nil),
		"close": b.Close(), "close a MsgBuf's": grows.Close(), "grow": grows.Add([]byte("e")),
	} {
		check.Is(t, name, err, ErrInvalid)
	}
	var w bytes.Buffer
	if err := m.WriteStream(&w); err != nil || w.String() != "d" {
		t.Errorf("wrote %q, %v", w.String(), err)
	}
	check.Is(t, "push of a buffer that was sent", m.Push(grows), ErrInvalid)
	if q.Len() != 1 || other.Len() != 0 || q.Pop() != b || string(b.Bytes()) != "abc" {
		t.Error("a refused call changed a queue")
	}
	check.NoError(t, b.Close())
}

func TestQueueAllocs(t *testing.T) {
	var q Queue
	b := New(0)
	check.Equal(t, "allocations for a Push and a Pop", testing.AllocsPerRun(100, func() { q.Push(b); b = q.Pop() }), 0)
}
