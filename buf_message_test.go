package imsg_test

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// one delivers frames to a fresh Buf and returns it with what it has received.
func one(t *testing.T, p []byte, fds ...int) (*imsg.Buf, []imsg.Message) {
	t.Helper()
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, &imsg.Config{AllowFDPass: true})
	t.Cleanup(b.Clear)
	peer.Write(p, fds...)
	for b.Stats().Received.Bytes < uint64(len(p)) {
		if err := b.ReadSocket(); err != nil {
			t.Fatal(err)
		}
	}
	return b, slices.Collect(b.All())
}

func TestMessageAccessors(t *testing.T) {
	testutil.NoLeak(t)
	p := testutil.NewProbe(t)
	raw := append(testutil.RawHeader(imsg.Current, 7, 16+14, true), "abcdef\x00hij\x00xyz"...)
	_, ms := one(t, raw, p.Fd())
	p.W.Close()
	m, c := ms[0], ms[0] // a copy is a handle on the same message
	if m.Type() != 7 || m.ID() != 8 || m.PID() != 9 || m.Header() != (imsg.Header{Type: 7, ID: 8, PID: 9}) || m.Len() != 14 {
		t.Errorf("%+v, %d bytes", m.Header(), m.Len())
	}
	if !m.HasFile() || !c.HasFile() || m.FileErr() != nil {
		t.Errorf("file %v, %v", m.HasFile(), m.FileErr())
	}
	two := make([]byte, 2)
	if err := c.Get(two); err != nil || string(two) != "ab" || m.Len() != 12 {
		t.Errorf("Get: %q, %v, %d left", two, err, m.Len())
	}
	big := []byte("untouched byte")
	for what, err := range map[string]error{
		"Get too much":        m.Get(big),
		"GetExact too little": m.GetExact(two),
		"GetExact too much":   m.GetExact(big),
	} {
		if !errors.Is(err, ibuf.ErrShort) || !errors.Is(err, syscall.EBADMSG) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if string(big) != "untouched byte" || m.Len() != 12 {
		t.Errorf("a failed Get has read %q, %d left", big, m.Len())
	}
	if err := m.GetExact(nil); !errors.Is(err, ibuf.ErrInvalid) {
		t.Errorf("GetExact of nothing: %v", err)
	}
	if _, err := m.GetCString(4); !errors.Is(err, ibuf.ErrNoNUL) || m.Len() != 12 {
		t.Errorf("GetCString without a NUL: %v, %d left", err, m.Len())
	}
	if _, err := m.GetCString(13); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("GetCString behind the end: %v", err)
	}
	if _, err := m.GetCString(-1); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("GetCString of a negative length: %v", err)
	}
	if s, err := m.GetCString(5); err != nil || s != "cdef" || m.Len() != 7 {
		t.Errorf("GetCString: %q, %v, %d left", s, err, m.Len())
	}
	v, err := m.GetView()
	if err != nil || string(v.Bytes()) != "hij\x00xyz" || m.Len() != 0 {
		t.Errorf("GetView: %q, %v, %d left", v.Bytes(), err, m.Len())
	}
	if _, err := m.GetView(); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("GetView of nothing: %v", err)
	}
	if m.Header() != (imsg.Header{Type: 7, ID: 8, PID: 9}) {
		t.Errorf("header after reading: %+v", m.Header())
	}
	alias := v.Bytes()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if string(alias) != "\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("payload after Close: %q", alias)
	}
	if !p.Closed() {
		t.Error("the file is open after Close")
	}
	for range 2 {
		if m.Header() != (imsg.Header{}) || m.Type() != 0 || m.ID() != 0 || m.PID() != 0 || m.Len() != 0 || m.Bytes() != nil && len(m.Bytes()) > 0 {
			t.Errorf("closed: %+v, %d bytes", m.Header(), m.Len())
		}
		if m.HasFile() || m.FileErr() != nil || m.TakeFile() != nil || m.TakeFD() != -1 {
			t.Error("closed: a file")
		}
		if m.Get(two) == nil || m.GetExact(two) == nil {
			t.Error("closed: bytes")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	var zero imsg.Message
	if zero.Type() != 0 || zero.Len() != 0 || zero.HasFile() || zero.TakeFD() != -1 || zero.Close() != nil {
		t.Error("the zero Message is not a closed one")
	}
}

func TestGetExact(t *testing.T) {
	testutil.NoLeak(t)
	_, ms := one(t, slices.Concat(testutil.Frame(imsg.Current, 1, 4, false), testutil.Frame(imsg.Current, 2, 0, false)))
	p := make([]byte, 4)
	if err := ms[0].GetExact(p); err != nil || string(p) != string(testutil.Pattern(1, 4)) || ms[0].Len() != 0 {
		t.Errorf("%q, %v, %d left", p, err, ms[0].Len())
	}
	if err := ms[1].GetExact(p); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("of an empty payload: %v", err)
	}
	for _, m := range ms {
		m.Close()
	}
}

// TestTakeFile moves the file exactly once.
func TestTakeFile(t *testing.T) {
	for _, queued := range []bool{false, true} {
		for _, bare := range []bool{false, true} {
			testutil.NoLeak(t)
			p := testutil.NewProbe(t)
			_, ms := one(t, testutil.Frame(imsg.Current, 1, 4, true), p.Fd())
			m := ms[0]
			if queued { // it takes the way of a Queue before
				var q ibuf.Queue
				if err := imsg.Push(&q, m); err != nil {
					t.Fatal(err)
				}
				var err error
				if m, _, err = imsg.Pop(&q); err != nil {
					t.Fatal(err)
				}
			}
			copied := m
			f := (*os.File)(nil)
			if bare {
				fd := m.TakeFD()
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("queued %v: not close-on-exec: %v", queued, err)
				}
				f = os.NewFile(uintptr(fd), "taken")
			} else {
				f = m.TakeFile()
			}
			if copied.HasFile() || copied.TakeFile() != nil || copied.TakeFD() != -1 || m.FileErr() != nil {
				t.Errorf("queued %v: there is a second file, or %v", queued, m.FileErr())
			}
			m.Close()
			if err := p.Works(f); err != nil {
				t.Errorf("queued %v bare %v: after Close: %v", queued, bare, err)
			}
			f.Close()
			p.W.Close()
			if !p.Closed() {
				t.Errorf("queued %v bare %v: somebody else has the file", queued, bare)
			}
		}
	}
}

// TestCloseTwice closes handles again when their memory holds other messages.
func TestCloseTwice(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, &imsg.Config{AllowFDPass: true})
	var old []imsg.Message
	for round := range 200 {
		p := testutil.NewProbe(t)
		peer.Write(testutil.Frame(imsg.Current, uint32(round+1), 9, true), p.Fd())
		p.W.Close()
		if err := b.ReadSocket(); err != nil {
			t.Fatal(err)
		}
		m, ok := b.Get()
		if !ok {
			t.Fatal("no message")
		}
		for _, o := range old {
			o.Close()
			if f := o.TakeFile(); f != nil {
				t.Fatal("a closed message has its neighbour's file")
			}
			if o.Len() != 0 || o.Type() != 0 {
				t.Fatal("a closed message has its neighbour's payload")
			}
		}
		testutil.CheckFrame(t, m, uint32(round+1), 9)
		if p.Closed() || !m.HasFile() {
			t.Fatal("closing an old message has closed a file")
		}
		m.Close()
		if !p.Closed() {
			t.Fatal("the file is open")
		}
		p.R.Close()
		old = append(old, m)
	}
}
