package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// TestFullTable receives files when no descriptor is free.
func TestFullTable(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t)
	testutil.EachDialect(t, testutil.Dialects, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
		p, q := testutil.NewProbe(t), testutil.NewProbe(t)
		peer.Write(testutil.Frame(d, 1, 10, false))
		peer.Write(testutil.Frame(d, 2, 20, true), p.Fd())
		peer.Write(testutil.Frame(d, 3, 30, true), p.Fd())
		peer.Write(testutil.Frame(d, 4, 40, true), q.Fd())
		peer.Write(testutil.Frame(d, 5, 50, false))
		p.W.Close()
		free := testutil.FillTable(t)
		m := testutil.MustNext(t, s, 1, 10)
		if m.FileErr() != nil {
			t.Error(m.FileErr())
		}
		m.Close()
		for typ := range uint32(2) {
			m = testutil.MustNext(t, s, typ+2, int(typ+2)*10)
			if !errors.Is(m.FileErr(), imsg.ErrFileLost) || m.HasFile() {
				t.Errorf("message %d with a full table: %v, file %v", typ+2, m.FileErr(), m.HasFile())
			}
			m.Close()
		}
		free()
		if !p.Closed() {
			t.Error("a lost file is open")
		}
		m = testutil.MustNext(t, s, 4, 40)
		f := m.TakeFile()
		testutil.Check(t, q.Works(f))
		f.Close()
		m.Close()
		testutil.MustNext(t, s, 5, 50).Close()
		testutil.Check(t, s.Send(imsg.Header{Type: 6}, nil))
	})
}

// files in flight that the tests below send: more than the limit of 64.
const manyFiles = 150

// takeFiles receives n messages of types from 1, each with a file.
func takeFiles(t *testing.T, c *imsg.Conn, from, n int) {
	t.Helper()
	for i := range n {
		m := testutil.ReceiveFrame(t, c, uint32(from+i), 3)
		if !m.HasFile() {
			t.Fatalf("message %d has no file: %v", from+i, m.FileErr())
		}
		m.Close()
	}
}

// TestTooManyRefsSend sends more files than an ordinary user may have under way.
func TestTooManyRefsSend(t *testing.T) {
	if !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	testutil.NoLeak(t)
	testutil.SetMaxFiles(t)
	a, b := imsgtest.Pair(t, nil)
	f := testutil.DevNull(t)
	defer f.Close()
	ctx := testutil.DeadlineCtx(t)
	done := make(chan error, 1)
	go func() {
		for i := range manyFiles {
			if err := a.Send(ctx, imsg.Header{Type: uint32(i + 1)}, f, testutil.Pattern(uint32(i+1), 3)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	blocked := make(chan struct{})
	go func() {
		testutil.WaitBlocked(t, 1, "(*sender).pause")
		close(blocked)
	}()
	select {
	case err := <-done:
		t.Skipf("no limit on files in flight here: %d sent, %v", manyFiles, err)
	case <-blocked:
	}
	// Others wait behind it and can still give up, whatever they send.
	for _, file := range []*os.File{nil, f} {
		short, cancel := context.WithCancel(ctx)
		errs := make(chan error, 1)
		go func() { errs <- a.Send(short, imsg.Header{Type: 999}, file, []byte("x")) }()
		testutil.WaitBlocked(t, 1, "(*halfConn).sleep")
		cancel()
		testutil.WantError(t, "cancelled while the system has too many files", <-errs, context.Canceled)
	}
	takeFiles(t, b, 1, manyFiles)
	testutil.Check(t, <-done)
	// The one who waits for the system can give up, too.
	fillFlight := func(ctx context.Context) (i int, err error) {
		for err == nil {
			i++
			err = a.Send(ctx, imsg.Header{Type: uint32(i)}, f, testutil.Pattern(uint32(i), 3))
		}
		return i, err
	}
	short, cancel := context.WithCancel(ctx)
	go func() {
		testutil.WaitBlocked(t, 1, "(*sender).pause")
		cancel()
	}()
	n, err := fillFlight(short)
	if !errors.Is(err, context.Canceled) || a.QueueLen() != 0 {
		t.Errorf("%v after %d files, %d queued", err, n, a.QueueLen())
	}
	takeFiles(t, b, 1, n-1)
	if _, err := f.Stat(); err != nil {
		t.Errorf("the file is not ours any more: %v", err)
	}
	testutil.Check(t, a.Send(ctx, imsg.Header{Type: 1}, f, testutil.Pattern(1, 3)))
	takeFiles(t, b, 1, 1)
}

// TestTooManyRefsWriteSocket is the same for an event loop.
func TestTooManyRefsWriteSocket(t *testing.T) {
	if !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	testutil.NoLeak(t)
	testutil.SetMaxFiles(t)
	sa, sb := imsgtest.Sockets(t)
	b := imsg.NewBuf(sa.FD, &imsg.Config{AllowFDPass: true})
	t.Cleanup(b.Clear)
	peer := testutil.NewConn(t, sb.Take(), &imsg.Config{AllowFDPass: true})
	sent := 0
	for ; sent < manyFiles && b.QueueLen() == 0; sent++ {
		testutil.Must(t, b.Compose(imsg.Header{Type: uint32(sent + 1)}, testutil.DevNull(t), testutil.Pattern(uint32(sent+1), 3)))
		if err := b.WriteSocket(); err != nil {
			t.Fatalf("file %d: %v", sent+1, err)
		}
	}
	if b.QueueLen() == 0 {
		t.Skipf("no limit on files in flight here: %d sent", sent)
	}
	for range 3 {
		if err := b.WriteSocket(); err != nil || b.QueueLen() != 1 {
			t.Fatalf("%v with %d queued", err, b.QueueLen())
		}
	}
	if n := b.Stats().Sent; n.Messages != uint64(sent-1) || n.Files != uint64(sent-1) || n.Calls != uint64(sent-1) {
		t.Errorf("counters %+v after %d messages", n, sent-1)
	}
	takeFiles(t, peer, 1, sent-1)
	if err := b.Flush(); err != nil || b.QueueLen() != 0 {
		t.Fatalf("%v with %d queued", err, b.QueueLen())
	}
	takeFiles(t, peer, sent, 1)
}

// TestTooManyRefsEnds ends the wait for the system, which no event of the
// socket ends, for the one who waits and for one behind it.
func TestTooManyRefsEnds(t *testing.T) {
	if !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	testutil.SetMaxFiles(t)
	for _, tt := range []struct {
		name string
		want error
		end  func(c *imsg.Conn)
	}{
		{"close", net.ErrClosed, func(c *imsg.Conn) { c.Close() }},
		{"deadline in the past", os.ErrDeadlineExceeded, func(c *imsg.Conn) { c.SetWriteDeadline(time.Unix(1, 0)) }},
		{"deadline", os.ErrDeadlineExceeded, func(c *imsg.Conn) { c.SetWriteDeadline(time.Now().Add(time.Millisecond)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			f := testutil.DevNull(t)
			defer f.Close()
			errs := make(chan error, 2)
			go func() {
				for {
					if err := a.Send(context.Background(), imsg.Header{Type: 1}, f, testutil.Pattern(1, 3)); err != nil {
						errs <- err
						return
					}
				}
			}()
			testutil.WaitBlocked(t, 1, "(*Conn).Send")
			if a.Stats().Sent.Messages > manyFiles {
				a.Close()
				t.Skipf("no limit on files in flight here: %d sent", a.Stats().Sent.Messages)
			}
			testutil.WaitBlocked(t, 1, "(*sender).pause")
			go func() { errs <- a.Send(context.Background(), imsg.Header{Type: 2}, f, testutil.Pattern(2, 3)) }()
			testutil.WaitBlocked(t, 2, "(*Conn).Send")
			tt.end(a)
			for range 2 {
				select {
				case err := <-errs:
					if !errors.Is(err, tt.want) {
						t.Errorf("%v, want %v", err, tt.want)
					}
				case <-time.After(testutil.Bound):
					t.Fatal("somebody still waits")
				}
			}
			if tt.want == net.ErrClosed {
				return
			}
			expect(t, "queue", a.QueueLen(), 0)
			for range a.Stats().Sent.Messages {
				testutil.ReceiveAll(t, b, 1)
			}
			a.SetWriteDeadline(time.Time{})
			testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 3}, f, testutil.Pattern(3, 3)))
			testutil.ReceiveAll(t, b, 3)
		})
	}
}

// TestAcceptFullTable accepts with no, one and two descriptors free. A client
// that could not be accepted yet must not be turned away.
func TestAcceptFullTable(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t)
	for free := range 3 {
		t.Run(fmt.Sprintf("%d free", free), func(t *testing.T) {
			testutil.NoLeak(t)
			l, path := listen(t, nil)
			client, err := imsg.Dial(testutil.DeadlineCtx(t), path, nil)
			testutil.Must(t, err)
			t.Cleanup(func() { client.Close() })
			testutil.Must(t, client.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil, testutil.Pattern(1, 3)))
			var reserve []int
			for range free {
				fd, err := unix.Dup(0)
				testutil.Must(t, err)
				reserve = append(reserve, fd)
			}
			release := testutil.FillTable(t)
			for _, fd := range reserve {
				unix.Close(fd)
			}
			server, err := l.Accept(testutil.DeadlineCtx(t))
			release()
			var oe *imsg.OpError
			if err != nil && (!errors.Is(err, syscall.EMFILE) || !errors.As(err, &oe)) {
				t.Errorf("Accept: %v, want EMFILE", err)
			}
			if err != nil {
				if server, err = l.Accept(testutil.DeadlineCtx(t)); err != nil {
					t.Fatalf("the client was turned away: %v", err)
				}
			}
			testutil.ReceiveAll(t, server, 1)
			server.Close()
		})
	}
}
