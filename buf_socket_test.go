package imsg_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// nonblocking reports the mode of fd.
func nonblocking(t testing.TB, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// TestBufOnAnyDescriptor uses a Buf on a blocking and on a non-blocking descriptor.
func TestBufOnAnyDescriptor(t *testing.T) {
	for _, nonblock := range []bool{true, false} {
		for _, files := range []bool{true, false} {
			t.Run(fmt.Sprintf("nonblock %v files %v", nonblock, files), func(t *testing.T) {
				testutil.NoLeak(t)
				peer, s := imsgtest.Sockets(t)
				if err := unix.SetNonblock(s.FD, nonblock); err != nil {
					t.Fatal(err)
				}
				b := imsg.NewBuf(s.FD, &imsg.Config{AllowFDPass: files})
				if nonblock {
					for range 3 { // nothing has arrived
						if err := b.ReadSocket(); err != nil {
							t.Fatal(err)
						}
						if _, ok := b.Get(); ok {
							t.Fatal("a message out of nothing")
						}
					}
				}
				peer.Write(append(testutil.Frame(imsg.Current, 1, 4, false), testutil.Frame(imsg.Current, 2, 4, false)...))
				if err := b.ReadSocket(); err != nil {
					t.Fatal(err)
				}
				types := ""
				for m := range b.All() {
					types += fmt.Sprint(m.Type())
					m.Close()
					break
				}
				for m := range b.All() {
					types += fmt.Sprint(m.Type())
					m.Close()
				}
				if types != "12" {
					t.Errorf("messages %s", types)
				}
				if err := b.WriteSocket(); err != nil { // nothing to write
					t.Error(err)
				}
				if err := b.Flush(); err != nil {
					t.Error(err)
				}
				if err := b.Compose(imsg.Header{Type: 3}, nil, []byte("z")); err != nil {
					t.Fatal(err)
				}
				if err := b.WriteSocket(); err != nil || b.QueueLen() != 0 {
					t.Errorf("%v, %d queued", err, b.QueueLen())
				}
				p := make([]byte, 32)
				if n, err := unix.Read(peer.FD, p); err != nil || n != 17 || p[16] != 'z' {
					t.Errorf("%d bytes, %v", n, err)
				}
				peer.Close()
				if err := b.ReadSocket(); err != io.EOF {
					t.Errorf("%v, want io.EOF", err)
				}
				b.Clear()
				if nonblocking(t, s.FD) != nonblock {
					t.Error("the mode has changed")
				}
			})
		}
	}
}

// TestBufWaits lets two Bufs with blocking descriptors answer each other,
// however long they try before they sleep. One whose descriptor does not block
// never tries.
func TestBufWaits(t *testing.T) {
	for _, busy := range []time.Duration{0, 1, time.Hour} {
		t.Run(busy.String(), func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{BusyPoll: busy}
			sa, sb := imsgtest.Sockets(t)
			if err := imsg.NewBuf(sa.FD, cfg).ReadSocket(); err != nil {
				t.Fatal(err)
			}
			for _, s := range []*imsgtest.Socket{sa, sb} {
				if err := unix.SetNonblock(s.FD, false); err != nil {
					t.Fatal(err)
				}
			}
			echo := imsg.NewBuf(sb.FD, cfg)
			done := make(chan error)
			go func() {
				for {
					if err := echo.ReadSocket(); err != nil {
						done <- err
						return
					}
					for m := range echo.All() {
						echo.Forward(m)
						m.Close()
					}
					echo.Flush()
				}
			}()
			b := imsg.NewBuf(sa.FD, cfg)
			for i := range uint32(500) {
				if err := errors.Join(b.Compose(imsg.Header{Type: i + 1}, nil), b.Flush(), b.ReadSocket()); err != nil {
					t.Fatal(err)
				}
				m, ok := b.Get()
				if !ok || m.Type() != i+1 {
					t.Fatalf("type %d, %v", m.Type(), ok)
				}
				m.Close()
			}
			sa.Close()
			if err := <-done; err != io.EOF {
				t.Errorf("%v, want io.EOF", err)
			}
		})
	}
}

// TestFlushWaits blocks a Flush on a full socket: it must sleep in poll(2).
func TestFlushWaits(t *testing.T) {
	testutil.NoLeak(t)
	sa, sb := imsgtest.Sockets(t)
	b := imsg.NewBuf(sa.FD, nil)
	peer, err := imsg.NewConn(sb.Take(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	const n = 500
	for i := range n {
		if err := b.Compose(imsg.Header{Type: uint32(i + 1)}, nil, testutil.Pattern(uint32(i+1), 5000)); err != nil {
			t.Fatal(err)
		}
	}
	for before := -1; before != b.QueueLen(); { // an event loop does not block
		before = b.QueueLen()
		if err := b.WriteSocket(); err != nil {
			t.Fatal(err)
		}
	}
	if b.QueueLen() == 0 {
		t.Fatal("the socket is not full")
	}
	done := make(chan error, 1)
	go func() { done <- b.Flush() }()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(testutil.Bound); ; runtime.Gosched() {
		asleep := false
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			asleep = asleep || strings.Contains(g, "[syscall") && strings.Contains(g, "unixmsg.Poll(") && strings.Contains(g, "(*Buf).Flush(")
		}
		if asleep {
			break
		}
		if time.Now().After(end) {
			t.Fatal("Flush is not in poll")
		}
	}
	for i := range n {
		testutil.ReceiveAll(t, peer, uint32(i+1))
	}
	if err := <-done; err != nil || b.QueueLen() != 0 {
		t.Errorf("%v, %d queued", err, b.QueueLen())
	}
	if s := b.Stats().Sent; s.Messages != n || s.Bytes != n*5016 {
		t.Errorf("counters %+v", s)
	}
}

// TestMaxPendingBytes reads until so many bytes wait to be taken.
func TestMaxPendingBytes(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, &imsg.Config{MaxPendingBytes: 3000})
	t.Cleanup(b.Clear)
	const n = 60
	for i := range n {
		peer.Write(testutil.Frame(imsg.Current, uint32(i+1), 984, false))
	}
	full := false
	for i := range n {
		for range 10 {
			before := b.Stats().Received.Bytes
			err := b.ReadSocket()
			if errors.Is(err, imsg.ErrQueueFull) {
				full = true
				var oe *imsg.OpError
				if !errors.As(err, &oe) || oe.Op != "receive" || !strings.HasSuffix(err.Error(), "bytes of messages wait to be taken, limit 3000: queue full") {
					t.Errorf("error %v", err)
				}
				if b.Stats().Received.Bytes != before {
					t.Error("read in spite of ErrQueueFull")
				}
			} else if err != nil {
				t.Fatal(err)
			}
		}
		m, ok := b.Get()
		if !ok {
			t.Fatalf("no message %d", i+1)
		}
		testutil.CheckFrame(t, m, uint32(i+1), 984)
		m.Close()
	}
	if !full {
		t.Error("never full")
	}
	peer.Close()
	if err := b.ReadSocket(); err != io.EOF {
		t.Errorf("%v, want io.EOF", err)
	}
}

// TestBufAllowFDPass switches file passing on later.
func TestBufAllowFDPass(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, nil)
	t.Cleanup(b.Clear)
	f := testutil.DevNull(t)
	if err := b.Compose(imsg.Header{Type: 1}, f); !errors.Is(err, imsg.ErrNoFDPass) {
		t.Errorf("%v, want ErrNoFDPass", err)
	}
	for i, allowed := range []bool{false, true} {
		p := testutil.NewProbe(t)
		peer.Write(testutil.Frame(imsg.Current, uint32(i+1), 3, true), p.Fd())
		p.W.Close()
		if allowed {
			b.AllowFDPass()
		}
		if err := b.ReadSocket(); err != nil {
			t.Fatal(err)
		}
		m, ok := b.Get()
		if !ok || m.HasFile() != allowed || p.Closed() == allowed || (m.FileErr() == nil) != allowed {
			t.Errorf("allowed %v: message %v, file %v, closed %v, %v", allowed, ok, m.HasFile(), p.Closed(), m.FileErr())
		}
		m.Close()
	}
	if err := b.Compose(imsg.Header{Type: 1}, f); err != nil {
		t.Error(err)
	}
}
