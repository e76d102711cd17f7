package imsg_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
)

func TestForwardTwice(t *testing.T) {
	testutil.NoLeak(t)
	p := testutil.NewProbe(t)
	raw := slices.Concat(testutil.RawHeader(imsg.Current, 7, 16+6, true), []byte("secret"))
	_, ms := one(t, raw, p.Fd())
	p.W.Close()
	m := ms[0]
	sa, sb := imsgtest.Sockets(t)
	out := imsg.NewBuf(sa.FD, nil) // no file passing: files are not forwarded
	t.Cleanup(out.Clear)
	if err := m.Get(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := out.Forward(m); err != nil {
			t.Fatal(err)
		}
	}
	if m.Len() != 3 || string(m.Bytes()) != "ret" || !m.HasFile() || p.Closed() {
		t.Errorf("the original: %d bytes, file %v", m.Len(), m.HasFile())
	}
	m.Close()
	if !p.Closed() {
		t.Error("the file is not closed with the original")
	}
	if err := out.Forward(m); !errors.Is(err, ibuf.ErrInvalid) || out.QueueLen() != 2 {
		t.Errorf("a closed message: %v, %d queued", err, out.QueueLen())
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	in := imsg.NewBuf(sb.FD, &imsg.Config{AllowFDPass: true})
	t.Cleanup(in.Clear)
	if err := in.ReadSocket(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for m := range in.All() {
		n++
		if m.Header() != (imsg.Header{Type: 7, ID: 8, PID: 9}) || string(m.Bytes()) != "secret" || m.HasFile() || m.FileErr() != nil {
			t.Errorf("forwarded: %+v %q, file %v, %v", m.Header(), m.Bytes(), m.HasFile(), m.FileErr())
		}
		m.Close()
	}
	if n != 2 {
		t.Errorf("%d messages forwarded, want 2", n)
	}
}

// TestForwardPID forwards messages whose pid a sender would never write.
func TestForwardPID(t *testing.T) {
	testutil.NoLeak(t)
	a, b := bufs(t, imsg.Config{})
	for _, pid := range []int32{0, -1} {
		raw := make([]byte, imsg.HeaderSize)
		imsg.Current.Encode(raw, binary.NativeEndian, imsg.Header{Type: 1, PID: pid}, len(raw), false)
		_, ms := one(t, raw)
		if err := a.Forward(ms[0]); err != nil {
			t.Fatal(err)
		}
		m := pass(t, a, b)
		if m.PID() != pid {
			t.Errorf("pid %d became %d", pid, m.PID())
		}
		m.Close()
		ms[0].Close()
	}
}

// TestForwardLimits forwards to a channel that must refuse.
func TestForwardLimits(t *testing.T) {
	testutil.NoLeak(t)
	_, ms := one(t, testutil.Frame(imsg.Current, 1, 100, false))
	sa, sb := imsgtest.Sockets(t)
	out := imsg.NewBuf(sa.FD, &imsg.Config{MaxQueueMessages: 1})
	if err := out.SetMaxSize(99); err != nil {
		t.Fatal(err)
	}
	if err := out.Forward(ms[0]); !errors.Is(err, imsg.ErrTooLarge) || out.QueueLen() != 0 {
		t.Errorf("%v, %d queued", err, out.QueueLen())
	}
	if err := out.SetMaxSize(100); err != nil {
		t.Fatal(err)
	}
	if err := out.Forward(ms[0]); err != nil {
		t.Error(err)
	}
	if err := out.Forward(ms[0]); !errors.Is(err, imsg.ErrQueueFull) || out.QueueLen() != 1 {
		t.Errorf("%v, %d queued", err, out.QueueLen())
	}
	testutil.CheckFrame(t, ms[0], 1, 100)
	sb.Close()
	werr := out.Flush()
	if werr == nil {
		t.Fatal("flush to nobody")
	}
	testutil.SameError(t, werr, 2, func() error { return out.Forward(ms[0]) })
	ms[0].Close()
}

func TestPushPopFiles(t *testing.T) {
	testutil.NoLeak(t)
	p := testutil.NewProbe(t)
	_, ms := one(t, slices.Concat(testutil.Frame(imsg.Current, 1, 5, false), testutil.Frame(imsg.Current, 2, 0, false), testutil.Frame(imsg.Current, 3, 9, true)), p.Fd())
	p.W.Close()
	var q ibuf.Queue
	if err := ms[0].Get(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if err := imsg.Push(&q, m); err != nil {
			t.Fatal(err)
		}
		if m.Len() != 0 || m.Type() != 0 || m.HasFile() {
			t.Errorf("pushed, but not closed: type %d, %d bytes", m.Type(), m.Len())
		}
		if err := imsg.Push(&q, m); !errors.Is(err, ibuf.ErrInvalid) {
			t.Errorf("push of a closed message: %v", err)
		}
	}
	if q.Len() != 3 || p.Closed() {
		t.Fatalf("%d in the queue, file closed %v", q.Len(), p.Closed())
	}
	for i, n := range []int{5, 0, 9} {
		m, ok, err := imsg.Pop(&q)
		if !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		typ := uint32(i + 1)
		testutil.CheckFrame(t, m, typ, n)
		if m.Header() != (imsg.Header{Type: typ, ID: typ + 1, PID: int32(typ) + 2}) || m.HasFile() != (i == 2) || m.FileErr() != nil {
			t.Errorf("%+v, file %v, %v", m.Header(), m.HasFile(), m.FileErr())
		}
		alias := m.Bytes()
		copied := m
		m.Close()
		if string(alias) != string(make([]byte, n)) || copied.Len() != 0 || copied.HasFile() {
			t.Errorf("closed, but there are %q", alias)
		}
		copied.Close()
	}
	if !p.Closed() {
		t.Error("the file is open")
	}
	if _, ok, err := imsg.Pop(&q); ok || err != nil {
		t.Errorf("an empty queue: %v, %v", ok, err)
	}
	for n := range imsg.HeaderSize {
		b := ibuf.New(n)
		b.AddZero(n)
		f := testutil.DevNull(t)
		b.SetFile(f)
		q.Push(b)
		if _, ok, err := imsg.Pop(&q); ok || !errors.Is(err, ibuf.ErrShort) {
			t.Errorf("a buffer of %d bytes: %v, %v", n, ok, err)
		}
		if f.Close() == nil {
			t.Errorf("a buffer of %d bytes: its file was not closed", n)
		}
	}
}

// TestPushLostFile keeps the news of a lost file over a queue.
func TestPushLostFile(t *testing.T) {
	testutil.NoLeak(t)
	_, ms := one(t, testutil.Frame(imsg.Current, 1, 5, true))
	if !errors.Is(ms[0].FileErr(), imsg.ErrFileLost) {
		t.Fatal(ms[0].FileErr())
	}
	var q ibuf.Queue
	if err := imsg.Push(&q, ms[0]); err != nil {
		t.Fatal(err)
	}
	m, _, err := imsg.Pop(&q)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !errors.Is(m.FileErr(), imsg.ErrFileLost) {
		t.Errorf("popped: %v, want ErrFileLost", m.FileErr())
	}
}

// TestKeptMessages keeps messages while their neighbours come and go.
func TestKeptMessages(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, nil)
	kept := map[uint32]imsg.Message{}
	typ := uint32(0)
	for round := range 300 {
		for range 1 + round%5 {
			typ++
			peer.Write(testutil.Frame(imsg.Current, typ, int(typ*37)%3000, false))
		}
		for b.Stats().Received.Messages < uint64(typ) {
			if err := b.ReadSocket(); err != nil {
				t.Fatal(err)
			}
			for m := range b.All() {
				testutil.CheckFrame(t, m, m.Type(), int(m.Type()*37)%3000)
				if m.Type()%7 == 0 {
					kept[m.Type()] = m
				} else {
					m.Close()
				}
			}
		}
		for k, m := range kept {
			testutil.CheckFrame(t, m, k, int(k*37)%3000)
			if (k+uint32(round))%11 == 0 {
				m.Close()
				delete(kept, k)
			}
		}
	}
	for k, m := range kept {
		if err := m.Close(); err != nil {
			t.Error(fmt.Errorf("message %d: %w", k, err))
		}
	}
}
