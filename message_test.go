package imsg_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// one delivers frames to a fresh Buf and returns it with what it has received.
func one(t *testing.T, p []byte, fds ...int) (*imsg.Buf, []imsg.Message) {
	t.Helper()
	peer, b := peerOf(t, &imsg.Config{AllowFDPass: true})
	push(t, peer, b, p, fds...)
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
	testutil.WantError(t, "GetExact of nothing", m.GetExact(nil), ibuf.ErrInvalid)
	if _, err := m.GetCString(4); !errors.Is(err, ibuf.ErrNoNUL) || m.Len() != 12 {
		t.Errorf("GetCString without a NUL: %v, %d left", err, m.Len())
	}
	_, err := m.GetCString(13)
	testutil.WantError(t, "GetCString behind the end", err, ibuf.ErrShort)
	_, err = m.GetCString(-1)
	testutil.WantError(t, "GetCString of a negative length", err, ibuf.ErrShort)
	if s, err := m.GetCString(5); err != nil || s != "cdef" || m.Len() != 7 {
		t.Errorf("GetCString: %q, %v, %d left", s, err, m.Len())
	}
	v, err := m.GetView()
	if err != nil || string(v.Bytes()) != "hij\x00xyz" || m.Len() != 0 {
		t.Errorf("GetView: %q, %v, %d left", v.Bytes(), err, m.Len())
	}
	_, err = m.GetView()
	testutil.WantError(t, "GetView of nothing", err, ibuf.ErrShort)
	testutil.Equal(t, "header after reading", m.Header(), imsg.Header{Type: 7, ID: 8, PID: 9})
	alias := v.Bytes()
	testutil.Check(t, c.Close())
	testutil.Equal(t, "payload after Close", string(alias), "\x00\x00\x00\x00\x00\x00\x00")
	testutil.WantClosed(t, "the file", p)
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
		testutil.Check(t, m.Close())
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
	testutil.WantError(t, "of an empty payload", ms[1].GetExact(p), ibuf.ErrShort)
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
				testutil.Must(t, imsg.Push(&q, m))
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
			testutil.WantError(t, fmt.Sprintf("queued %v bare %v: after Close", queued, bare), p.Works(f), nil)
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
		push(t, peer, b, testutil.Frame(imsg.Current, uint32(round+1), 9, true), p.Fd())
		p.W.Close()
		m := getFrame(t, b, uint32(round+1), 9)
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
		old = append(old, m)
	}
}

// TestStrangeFiles gets files of kinds that nobody expects, the peer's end of
// the channel among them. They are delivered, and closed, like any other.
func TestStrangeFiles(t *testing.T) {
	path := socketPath(t)
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		folder, err := os.Open(filepath.Dir(path))
		testutil.Must(t, err)
		defer folder.Close()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		testutil.Must(t, err)
		defer l.Close()
		listener, err := l.File()
		testutil.Must(t, err)
		defer listener.Close()
		device := testutil.OwnFile(t)
		for typ, f := range []*os.File{folder, listener, device, nil} {
			fd := peer.FD
			if f != nil {
				fd = number(t, f)
			}
			for _, mark := range []bool{true, false} {
				peer.Write(testutil.Frame(imsg.Current, uint32(typ+1), 3, mark), fd)
				m := testutil.MustNext(t, s, uint32(typ+1), 3)
				if m.HasFile() != mark || m.FileErr() != nil {
					t.Fatalf("file %v, %v", m.HasFile(), m.FileErr())
				}
				got := m.TakeFile()
				m.Close()
				if got == nil {
					continue
				}
				is, err := got.Stat()
				testutil.Must(t, err)
				if f != nil {
					if was, err := f.Stat(); err != nil || !os.SameFile(was, is) {
						t.Errorf("%v, a %v, arrived as %v", err, was.Mode(), is.Mode())
					}
				} else if is.Mode()&os.ModeSocket == 0 {
					t.Errorf("the end of the channel arrived as %v", is.Mode())
				}
				got.Close()
			}
		}
		// Closing them was the end of every copy of the peer's end but its own.
		peer.Close()
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("%v, want io.EOF", err)
		}
	})
}

// TestSharedFile takes files whose blocking mode the peer still sees: using them
// here must not change it there.
func TestSharedFile(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		for _, nonblock := range []bool{false, true} {
			var p [2]int
			testutil.Must(t, unix.Pipe(p[:]))
			defer unix.Close(p[0])
			defer unix.Close(p[1])
			testutil.Must(t, unix.SetNonblock(p[1], nonblock))
			peer.Write(testutil.Frame(imsg.Current, 1, 0, true), p[1])
			m := testutil.MustNext(t, s, 1, 0)
			f := m.TakeFile()
			m.Close()
			_, werr := f.Write([]byte("x"))
			_, serr := f.Stat()
			if err := errors.Join(werr, serr, s.Send(imsg.Header{Type: 2}, f), f.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err) // a Buf has closed what it sent
			}
			testutil.Equal(t, "non-blocking", nonblocking(t, p[1]), nonblock)
		}
	})
}

// TestSlowClose passes a file whose close(2) waits. Whoever receives has to
// wait for it, and the other direction does not.
func TestSlowClose(t *testing.T) {
	for _, allow := range []bool{true, false} {
		t.Run(fmt.Sprintf("passing %v", allow), func(t *testing.T) {
			t.Parallel()
			peer, b := imsgtest.Sockets(t)
			c := testutil.NewConn(t, b.Take(), &imsg.Config{AllowFDPass: allow})
			slow := lingering(t)
			peer.Write(testutil.Frame(imsg.Current, 1, 3, false), number(t, slow))
			slow.Close()
			received := make(chan error)
			ctx := testutil.DeadlineCtx(t)
			go func() {
				m, err := c.Receive(ctx)
				m.Close()
				received <- err
			}()
			// It is unknown whether it waits yet: the sends must end anyhow.
			for range 100 {
				testutil.Check(t, c.Send(ctx, imsg.Header{Type: 2}, nil))
			}
			select {
			case err := <-received:
				t.Skipf("close does not wait here: %v", err)
			default:
			}
			testutil.Check(t, <-received)
		})
	}
}

// lingering returns a connection that close(2) waits a second for: it has data
// that its peer does not read.
func lingering(t *testing.T) *os.File {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no TCP: %v", err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	testutil.Must(t, err)
	defer conn.Close()
	reader, err := l.Accept()
	testutil.Must(t, err)
	t.Cleanup(func() { reader.Close() })
	f, err := conn.(*net.TCPConn).File()
	testutil.Must(t, err)
	fd := number(t, f)
	testutil.Must(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1}))
	for p := make([]byte, 1<<16); ; { // until it is full
		if _, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			return f
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// number is f's descriptor; f must stay open while it is used.
func number(t *testing.T, f *os.File) (n int) {
	t.Helper()
	rc, err := f.SyscallConn()
	if err == nil {
		err = rc.Control(func(fd uintptr) { n = int(fd) })
	}
	testutil.Must(t, err)
	return n
}

// TestGetFamily reads every kind of field, and none that is not there.
func TestGetFamily(t *testing.T) {
	testutil.NoLeak(t)
	w := ibuf.New(100)
	defer w.Close()
	for _, err := range []error{
		w.AddByte(1), w.AddNet16(2), w.AddNet32(3), w.AddNet64(4), w.AddHost16(5), w.AddHost32(6), w.AddHost64(7),
		w.AddCString("name", 8), w.Add([]byte("ab\x00")), w.Add([]byte("any length\x00")), w.AddCString("", 1),
	} {
		testutil.Must(t, err)
	}
	_, ms := one(t, append(testutil.RawHeader(imsg.Current, 7, imsg.HeaderSize+w.Len(), false), w.Bytes()...))
	m := ms[0]
	defer m.Close()
	read := func(m imsg.Message) (got []any, err error) {
		add := func(x any, e error) {
			got, err = append(got, x), errors.Join(err, e)
		}
		add(m.GetByte())
		add(m.GetNet16())
		add(m.GetNet32())
		add(m.GetNet64())
		add(m.GetHost16())
		add(m.GetHost32())
		add(m.GetHost64())
		add(m.GetCString(8))
		add(m.GetString(3))
		add(m.GetTerminated())
		add(m.GetTerminated())
		return got, err
	}
	for range 2 {
		v := m.View()
		for pos, at := range map[int]func(int) (uint64, error){
			0:  func(p int) (uint64, error) { x, err := v.ByteAt(p); return uint64(x), err },
			1:  func(p int) (uint64, error) { x, err := v.Net16At(p); return uint64(x), err },
			3:  func(p int) (uint64, error) { x, err := v.Net32At(p); return uint64(x), err },
			7:  v.Net64At,
			15: func(p int) (uint64, error) { x, err := v.Host16At(p); return uint64(x), err },
			17: func(p int) (uint64, error) { x, err := v.Host32At(p); return uint64(x), err },
			21: v.Host64At,
		} {
			if x, err := at(pos); err != nil || x != map[int]uint64{0: 1, 1: 2, 3: 3, 7: 4, 15: 5, 17: 6, 21: 7}[pos] {
				t.Errorf("at %d: %d, %v", pos, x, err)
			}
			for _, bad := range []int{-1, v.Len(), v.Len() + 1, 1<<31 - 1, -1 << 31} {
				_, err := at(bad)
				testutil.WantError(t, fmt.Sprintf("at %d of %d", bad, v.Len()), err, ibuf.ErrTooLarge)
			}
		}
		got, err := read(m)
		if want := []any{byte(1), uint16(2), uint32(3), uint64(4), uint16(5), uint32(6), uint64(7), "name", "ab", "any length", ""}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
		testutil.Equal(t, "bytes left", m.Len(), 0)
		if _, err := read(m); !errors.Is(err, ibuf.ErrShort) || !errors.Is(err, ibuf.ErrNoNUL) {
			t.Errorf("nothing is left: %v", err)
		}
		m.Rewind()
	}
	testutil.Must(t, m.Get(make([]byte, w.Len()-8)))
	testutil.Equal(t, "bytes left", m.Len(), 8)
	_, err := m.GetHost64()
	testutil.Check(t, err)
	m.Rewind()
	testutil.Must(t, m.Get(make([]byte, w.Len()-7)))
	if _, err := m.GetNet64(); !errors.Is(err, ibuf.ErrShort) || m.Len() != 7 {
		t.Errorf("8 bytes of 7: %v, %d left", err, m.Len())
	}
	m.Close()
	_, err = m.GetHost32()
	testutil.WantError(t, "closed", err, ibuf.ErrShort)
	m.Rewind()
}

// forwarders run f with what forwards to a Buf or a Conn, whose other end is a Conn.
func forwarders(t *testing.T, cfg imsg.Config, f func(t *testing.T, forward func(imsg.Message) error, far *imsg.Conn)) {
	t.Run("buf", func(t *testing.T) {
		testutil.NoLeak(t)
		sa, sb := imsgtest.Sockets(t)
		out, far := testutil.NewBuf(t, sa.FD, &cfg), testutil.NewConn(t, sb.Take(), &cfg)
		f(t, func(m imsg.Message) error {
			return errors.Join(out.Forward(m), out.Flush())
		}, far)
	})
	t.Run("conn", func(t *testing.T) {
		testutil.NoLeak(t)
		sa, sb := imsgtest.Sockets(t)
		a, far := testutil.NewConn(t, sa.Take(), &cfg), testutil.NewConn(t, sb.Take(), &cfg)
		f(t, func(m imsg.Message) error { return a.Forward(testutil.DeadlineCtx(t), m) }, far)
	})
}

// TestForward forwards messages with a file, each twice, also with a pid that a
// sender would never write.
func TestForward(t *testing.T) {
	forwarders(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, forward func(imsg.Message) error, far *imsg.Conn) {
		for _, pid := range []int32{0, -1, 9} {
			p := testutil.NewProbe(t)
			h := imsg.Header{Type: 1, ID: 2, PID: pid}
			raw := make([]byte, imsg.HeaderSize)
			imsg.Current.Encode(raw, binary.NativeEndian, h, len(raw)+6, true)
			_, ms := one(t, append(raw, "secret"...), p.Fd())
			m := ms[0]
			p.W.Close()
			testutil.Must(t, m.Skip(1))
			for range 2 {
				testutil.Must(t, forward(m))
				got := testutil.Receive(t, far)
				if got.Header() != h || string(got.Bytes()) != "secret" {
					t.Errorf("%+v %q, want %+v", got.Header(), got.Bytes(), h)
				}
				file := got.TakeFile()
				testutil.Check(t, p.Works(file))
				file.Close()
				got.Close()
			}
			if m.Len() != 6 || !m.HasFile() {
				t.Errorf("the original: %d bytes, file %v", m.Len(), m.HasFile())
			}
			m.Close()
			testutil.WantClosed(t, "the file", p)
			testutil.WantError(t, "a closed message", forward(m), ibuf.ErrInvalid)
		}
	})
}

// TestForwardRefused forwards a file where none may pass.
func TestForwardRefused(t *testing.T) {
	forwarders(t, imsg.Config{}, func(t *testing.T, forward func(imsg.Message) error, far *imsg.Conn) {
		_, ms := one(t, testutil.Frame(imsg.Current, 1, 6, true), 0)
		m := ms[0]
		defer m.Close()
		if err := forward(m); !errors.Is(err, imsg.ErrNoFDPass) || !m.HasFile() {
			t.Errorf("%v, file %v", err, m.HasFile())
		}
		m.TakeFile().Close()
		testutil.Check(t, forward(m))
		testutil.ReceiveAll(t, far, 1)
	})
}

// TestForwardLost passes on that a file was lost, and no other message's file
// takes its place, however fast they follow each other.
func TestForwardLost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nobody tells what the peer has read")
	}
	forwarders(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, forward func(imsg.Message) error, far *imsg.Conn) {
		const rounds = 20
		_, ms := one(t, testutil.Frame(imsg.Current, 1, 6, true)) // no file
		lost := ms[0]
		_, ms = one(t, testutil.Frame(imsg.Current, 2, 6, true), 0)
		file := ms[0]
		testutil.WantError(t, "the first message", lost.FileErr(), imsg.ErrFileLost)
		testutil.WantFile(t, file, true)
		done := testutil.Go(func() (err error) {
			for range rounds / 2 {
				err = errors.Join(err, forward(lost), forward(file))
			}
			return errors.Join(err, lost.Close(), file.Close())
		})
		for i := range rounds {
			m, err := far.Receive(testutil.DeadlineCtx(t))
			testutil.Must(t, err)
			if i%2 == 0 && (m.Type() != 1 || m.HasFile() || !errors.Is(m.FileErr(), imsg.ErrFileLost)) ||
				i%2 == 1 && (m.Type() != 2 || !m.HasFile() || m.FileErr() != nil) {
				t.Errorf("message %d: type %d, file %v, %v", i, m.Type(), m.HasFile(), m.FileErr())
			}
			m.Close()
		}
		testutil.Check(t, <-done)
	})
}

// TestForwardLostBehindBad forwards behind a message that cannot be sent, which
// is Flush's to report, with room for both and without.
func TestForwardLostBehindBad(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nobody tells what the peer has read")
	}
	for _, most := range []int{0, 1} {
		testutil.NoLeak(t)
		_, ms := one(t, testutil.Frame(imsg.Current, 7, 6, true))
		a, b, err := imsg.Pair(&imsg.Config{AllowFDPass: true, MaxQueueMessages: most})
		testutil.Must(t, err)
		f := testutil.DevNull(t)
		testutil.Must(t, a.Compose(imsg.Header{Type: 9}, f))
		f.Close() // a mistake: it is the queue's
		testutil.WantError(t, fmt.Sprintf("limit %d", most), a.Forward(testutil.DeadlineCtx(t), ms[0]), nil)
		testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 11}, nil))
		if m := testutil.Receive(t, b); m.Type() != 7 || m.FileErr() == nil {
			t.Errorf("limit %d: received type %d, %v", most, m.Type(), m.FileErr())
		}
		testutil.WantError(t, "flush", a.Flush(testutil.DeadlineCtx(t)), imsg.ErrFileNotSent)
		a.Close()
		b.Close()
	}
}

// TestSkip reads a payload in parts, and messages many at a time.
func TestSkip(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := peerOf(t, nil)
	for typ := range uint32(3) {
		peer.Write(testutil.Frame(imsg.Current, typ, 9, false))
	}
	testutil.Must(t, b.ReadSocket())
	ms := make([]imsg.Message, 5)
	testutil.Equal(t, "messages", b.GetBatch(ms), 3)
	for typ, m := range ms[:3] {
		testutil.Must(t, m.Skip(typ))
		testutil.WantError(t, "skip behind the end", m.Skip(10), ibuf.ErrShort)
		if want := testutil.Pattern(uint32(typ), 9)[typ:]; string(m.Bytes()) != string(want) {
			t.Errorf("message %d: %x, want %x", typ, m.Bytes(), want)
		}
		testutil.Must(t, m.Close())
	}
	testutil.Equal(t, "messages", b.GetBatch(ms), 0)
}
