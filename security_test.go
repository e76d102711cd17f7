package imsg_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

var secret = bytes.Repeat([]byte("secret! "), 16)

func checkZero(t *testing.T, what string, p []byte) {
	t.Helper()
	if i := bytes.IndexFunc(p, func(r rune) bool { return r != 0 }); i >= 0 {
		t.Errorf("%s: still %q at byte %d", what, p[i:], i)
	}
}

// TestSentPayloadsAreCleared looks at the memory of a queue, which the trace
// callback sees, after the message has left it.
func TestSentPayloadsAreCleared(t *testing.T) {
	h := imsg.Header{Type: 1}
	onBuf := func(do func(t *testing.T, b *imsg.Buf) error) func(*testing.T, *imsg.Config) {
		return func(t *testing.T, cfg *imsg.Config) {
			s, _ := imsgtest.Sockets(t)
			b := imsg.NewBuf(s.FD, cfg)
			t.Cleanup(b.Clear)
			if err := do(t, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	onConn := func(do func(t *testing.T, c, peer *imsg.Conn) error) func(*testing.T, *imsg.Config) {
		return func(t *testing.T, cfg *imsg.Config) {
			a, b := imsgtest.Pair(t, cfg)
			if err := do(t, a, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantError := func(err error) error {
		if err == nil {
			return errors.New("no error")
		}
		return nil
	}
	for name, run := range map[string]func(*testing.T, *imsg.Config){
		"Buf, written": onBuf(func(t *testing.T, b *imsg.Buf) error {
			return errors.Join(b.Compose(h, nil, secret), b.Flush())
		}),
		"Buf, a buffer, written": onBuf(func(t *testing.T, b *imsg.Buf) error {
			buf := ibuf.New(len(secret))
			return errors.Join(buf.Add(secret), b.ComposeBuffer(h, buf), b.Flush())
		}),
		"Buf, given up": onBuf(func(t *testing.T, b *imsg.Buf) error {
			defer b.Clear()
			return b.Compose(h, nil, secret)
		}),
		"Conn, sent": onConn(func(t *testing.T, c, _ *imsg.Conn) error {
			return c.Send(testutil.DeadlineCtx(t), h, nil, secret)
		}),
		"Conn, flushed": onConn(func(t *testing.T, c, _ *imsg.Conn) error {
			return errors.Join(c.Compose(h, nil, secret), c.Compose(h, nil, secret), c.Flush(testutil.DeadlineCtx(t)))
		}),
		"Conn, cancelled": onConn(func(t *testing.T, c, _ *imsg.Conn) error {
			testutil.FillConn(t, c)
			ctx, cancel := context.WithCancel(context.Background())
			go func() { testutil.WaitBlocked(t, 1, "(*Conn).Send"); cancel() }()
			return wantError(c.Send(ctx, h, nil, secret))
		}),
		"Conn, peer gone": onConn(func(t *testing.T, c, peer *imsg.Conn) error {
			return errors.Join(c.Compose(h, nil, secret), peer.Close(), wantError(c.Flush(testutil.DeadlineCtx(t))))
		}),
		"Conn, closed": onConn(func(t *testing.T, c, _ *imsg.Conn) error {
			return errors.Join(c.Compose(h, nil, secret), c.Close())
		}),
	} {
		t.Run(name, func(t *testing.T) {
			testutil.NoLeak(t)
			var queued [][]byte
			run(t, &imsg.Config{Trace: func(e imsg.Event) {
				p := e.Payload.Bytes()
				if string(p) != string(secret) || &p[0] == &secret[0] {
					t.Errorf("trace of %q", p)
				}
				queued = append(queued, p)
			}})
			if len(queued) == 0 {
				t.Fatal("nothing was queued")
			}
			for _, p := range queued {
				checkZero(t, "queue", p)
			}
		})
	}
}

// TestReceivedPayloadsAreCleared looks at the memory of messages that were
// closed, kept in a queue, or never taken before the channel ended.
func TestReceivedPayloadsAreCleared(t *testing.T) {
	testutil.BothSides(t, imsg.Config{}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		whole := testutil.RawHeader(imsg.Current, 1, imsg.HeaderSize+len(secret), false)
		whole = append(whole, secret...)
		half := whole[:len(whole)/2]
		peer.Write(slices.Concat(whole, whole, half))
		m, err := s.Next()
		if err != nil || string(m.Bytes()) != string(secret) {
			t.Fatalf("%q, %v", m.Bytes(), err)
		}
		taken := m.Bytes()
		behind := unsafe.Slice(&taken[0], len(secret)+len(whole)+len(half))[len(secret):]
		if !bytes.HasPrefix(behind, whole) || !bytes.HasSuffix(behind, half) {
			t.Fatal("what comes next is not behind the message: the test proves nothing")
		}
		s.Clear()
		checkZero(t, "never taken", behind)
		if string(taken) != string(secret) {
			t.Error("the end of the channel has changed a message that is open")
		}
		var q ibuf.Queue
		if err := imsg.Push(&q, m); err != nil {
			t.Fatal(err)
		}
		checkZero(t, "moved to a queue", taken)
		kept, ok, err := imsg.Pop(&q)
		if !ok || err != nil || string(kept.Bytes()) != string(secret) {
			t.Fatalf("%v, %v", ok, err)
		}
		taken = kept.Bytes()
		kept.Close()
		checkZero(t, "closed", taken)
	})
}

// TestStrangeFiles gets files of kinds that nobody expects, the peer's end of
// the channel among them. They are delivered, and closed, like any other.
func TestStrangeFiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "im") // t.TempDir may be too long for an address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		folder, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer folder.Close()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		listener, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		device := testutil.DevNull(t)
		defer device.Close()
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
				if err != nil {
					t.Fatal(err)
				}
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
			if err := unix.Pipe(p[:]); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(p[0])
			defer unix.Close(p[1])
			if err := unix.SetNonblock(p[1], nonblock); err != nil {
				t.Fatal(err)
			}
			peer.Write(testutil.Frame(imsg.Current, 1, 0, true), p[1])
			m := testutil.MustNext(t, s, 1, 0)
			f := m.TakeFile()
			m.Close()
			_, werr := f.Write([]byte("x"))
			_, serr := f.Stat()
			if err := errors.Join(werr, serr, s.Send(imsg.Header{Type: 2}, f), f.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err) // a Buf has closed what it sent
			}
			if got := nonblocking(t, p[1]); got != nonblock {
				t.Errorf("non-blocking %v, was %v", got, nonblock)
			}
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
			c, err := imsg.NewConn(b.Take(), &imsg.Config{AllowFDPass: allow})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
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
				if err := c.Send(ctx, imsg.Header{Type: 2}, nil); err != nil {
					t.Error(err)
				}
			}
			select {
			case err := <-received:
				t.Skipf("close does not wait here: %v", err)
			default:
			}
			if err := <-received; err != nil {
				t.Error(err)
			}
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
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	fd := number(t, f)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1}); err != nil {
		t.Fatal(err)
	}
	for p := make([]byte, 1<<16); ; { // until it is full
		if _, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			return f
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFalsePID receives a message with another process's id in it.
func TestFalsePID(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := imsgtest.Sockets(t)
	c, err := imsg.NewConn(b.Take(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, pid := range []int32{1, 0, -1, math.MinInt32} {
		p := make([]byte, imsg.HeaderSize)
		imsg.Current.Encode(p, binary.NativeEndian, imsg.Header{Type: 1, PID: pid}, len(p), false)
		peer.Write(p)
		m, err := c.Receive(testutil.DeadlineCtx(t))
		if err != nil || m.PID() != pid {
			t.Errorf("pid %d, %v; want %d", m.PID(), err, pid)
		}
		m.Close()
		cred, err := c.PeerCred()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil || cred.UID != uint32(os.Geteuid()) || cred.PID != os.Getpid() && cred.PID != 0 {
			t.Errorf("the kernel says %+v, %v", cred, err)
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
	if err != nil {
		t.Fatal(err)
	}
	return n
}
