package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

// pairOf is imsgtest.Pair with file passing as cfg says.
func pairOf(t testing.TB, cfg *imsg.Config) (a, b *imsg.Conn) {
	t.Helper()
	a, b, err := imsg.Pair(cfg)
	testutil.Must(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestCloseWakesAll closes a Conn while many goroutines wait for it.
func TestCloseWakesAll(t *testing.T) {
	const n = 8
	testutil.NoLeak(t)
	for _, cancellable := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancellable %v", cancellable), func(t *testing.T) {
			a, b := imsgtest.Pair(t, nil)
			ctx := context.Background()
			if cancellable {
				ctx = testutil.DeadlineCtx(t)
			}
			p, q := testutil.NewProbe(t), testutil.NewProbe(t)
			testutil.FillConn(t, a)
			testutil.Must(t, a.Compose(imsg.Header{Type: 1}, q.W, []byte("queued")))
			errs := make(chan error, 3*n)
			for i := range n {
				go func() { _, err := a.Receive(ctx); errs <- err }()
				go func() {
					f := p.W
					if i%2 == 0 {
						f = nil
					}
					errs <- a.Send(ctx, imsg.Header{Type: 2}, f, make([]byte, 10_000*(i%2)))
				}()
				go func() { errs <- a.Flush(ctx) }()
			}
			testutil.WaitBlocked(t, n, "(*Conn).Receive")
			testutil.WaitBlocked(t, n, "(*Conn).Send")
			testutil.WaitBlocked(t, n, "(*Conn).Flush")
			testutil.Check(t, a.Close())
			testutil.Within(t, "waking all", func() {
				for range 3 * n {
					err := <-errs
					oe, ok := errors.AsType[*imsg.OpError](err)
					if !ok || oe.Timeout() || !errors.Is(err, net.ErrClosed) {
						t.Errorf("%v, want net.ErrClosed", err)
					}
				}
			})
			testutil.WantClosed(t, "the queued file", q)
			testutil.WantOpen(t, "the borrowed file", p.W)
			testutil.WantError(t, "second Close", a.Close(), net.ErrClosed)
			b.Close()
		})
	}
}

// TestAfterClose calls everything on a closed Conn.
func TestAfterClose(t *testing.T) {
	for _, queued := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d queued", queued), func(t *testing.T) {
			testutil.NoLeak(t)
			ctx := context.Background()
			a, b := imsgtest.Pair(t, nil)
			testutil.Must(t, b.Send(ctx, imsg.Header{Type: 1}, nil, []byte("received")))
			m := testutil.Receive(t, a)
			for range 2 {
				testutil.Must(t, b.Send(ctx, imsg.Header{Type: 2}, nil, []byte("too late")))
			}
			for range queued {
				testutil.Must(t, a.Compose(imsg.Header{Type: 1}, nil))
			}
			bd, err := a.Create(imsg.Header{Type: 5}, 10)
			testutil.Must(t, err)
			defer bd.Discard()
			testutil.Must(t, a.Close())
			f := testutil.OwnFile(t)
			for _, tt := range []struct {
				name string
				do   func() error
			}{
				{"Receive", func() error { _, err := a.Receive(ctx); return err }},
				{"Send", func() error { return a.Send(ctx, imsg.Header{Type: 1}, nil) }},
				{"Send a file", func() error { return a.Send(ctx, imsg.Header{Type: 1}, f) }},
				{"Queue", func() error { return a.Compose(imsg.Header{Type: 1}, f) }},
				{"Flush", func() error { return a.Flush(ctx) }},
				{"Commit", bd.Commit},
				{"SetDeadline", func() error { return a.SetDeadline(time.Now()) }},
				{"SetReadDeadline", func() error { return a.SetReadDeadline(time.Time{}) }},
				{"SetWriteDeadline", func() error { return a.SetWriteDeadline(time.Time{}) }},
				{"PeerCred", func() error { _, err := a.PeerCred(); return err }},
				{"File", func() error { _, err := a.File(); return err }},
				{"Close", a.Close},
				{"All", func() error {
					for _, err := range a.All(ctx) {
						return err
					}
					return nil
				}},
			} {
				for range 2 {
					err := tt.do()
					var oe *imsg.OpError
					if !errors.Is(err, net.ErrClosed) || !errors.As(err, &oe) {
						t.Errorf("%s: %#v, want net.ErrClosed in an OpError", tt.name, err)
					}
				}
			}
			testutil.Equal(t, "queue", a.QueueLen(), 0)
			testutil.Equal(t, "a message received before", string(m.Bytes()), "received")
			m.Close()
			testutil.WantOpen(t, "the refused file", f)
		})
	}
}

// TestCloseRaces closes a Conn at any moment of an exchange.
func TestCloseRaces(t *testing.T) {
	testutil.NoLeak(t)
	for round := range 200 {
		a, b := imsgtest.Pair(t, nil)
		f := testutil.DevNull(t)
		done := make(chan error, 4)
		start := make(chan bool)
		send := func(c *imsg.Conn) {
			<-start
			for {
				if err := c.Send(context.Background(), imsg.Header{Type: 1}, f, make([]byte, 3000)); err != nil {
					done <- nil // EPIPE or closed
					return
				}
			}
		}
		receive := func(c *imsg.Conn) {
			<-start
			for m, err := range c.All(context.Background()) {
				if err != nil {
					break
				}
				m.Close()
			}
			done <- nil
		}
		go send(a)
		go receive(b)
		go send(b)
		go receive(a)
		close(start)
		for a.Stats().Sent.Messages < uint64(round%20) {
			runtime.Gosched()
		}
		first, second := a, b
		if round%2 == 0 {
			first, second = b, a
		}
		testutil.Within(t, "Close", func() { first.Close() })
		testutil.Within(t, "waking all", func() {
			for range 4 {
				<-done
			}
		})
		second.Close()
		f.Close()
	}
}

// TestCloseBehindSend closes a Conn as soon as the peer has its last message:
// the Send or Flush of which may not have returned, but has done its work.
func TestCloseBehindSend(t *testing.T) {
	testutil.NoLeak(t)
	ctx := testutil.DeadlineCtx(t)
	n := 3000
	if testing.Short() { // an emulated processor needs more than the deadline
		n = 300
	}
	for i := range n {
		a, b, err := imsg.Pair(nil)
		testutil.Must(t, err)
		send := func() error { return a.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, i%2*8000)) }
		if i%4 > 1 {
			testutil.Must(t, a.Compose(imsg.Header{Type: 1}, nil, make([]byte, i%2*8000)))
			send = func() error { return a.Flush(ctx) }
		}
		done := testutil.Go(send)
		m := testutil.Receive(t, b)
		a.Close()
		testutil.WantError(t, fmt.Sprintf("message %d", i), <-done, nil)
		m.Close()
		b.Close()
	}
}

// TestStaleHandle closes messages twice, as a deferred Close does, while
// another goroutine uses what is in their memory now. Neither goroutine knows
// the other's messages. The race detector watches.
func TestStaleHandle(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := testutil.DeadlineCtx(t)
	receive := func() imsg.Message {
		testutil.Check(t, a.Send(ctx, imsg.Header{Type: 1}, nil, []byte("payload")))
		m, err := b.Receive(ctx)
		testutil.Check(t, err)
		return m
	}
	turn, done := make(chan bool), make(chan bool)
	go func() {
		for range turn {
			m := receive() // where the other goroutine's message was
			testutil.Equal(t, "bytes", m.Len(), 7)
			m.Close()
		}
		close(done)
	}()
	for range 100 {
		func() {
			m := receive()
			defer m.Close()
			m.Close()
			turn <- true
		}()
	}
	close(turn)
	<-done
}

// TestCloseElsewhere closes messages on another goroutine than the one that
// receives: a message that is being closed must not touch the next one in its
// memory, neither its bytes nor its file.
func TestCloseElsewhere(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := testutil.DeadlineCtx(t)
	f := testutil.OwnFile(t)
	const n, size = 4000, 16_000
	go func() {
		p := testutil.Pattern(1, size)
		for i := range n {
			file := f
			if i%4 > 0 {
				file = nil
			}
			if err := a.Send(ctx, imsg.Header{Type: 1}, file, p); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	closing := make(chan imsg.Message)
	done := make(chan struct{})
	go func() {
		for m := range closing {
			m.Close()
		}
		close(done)
	}()
	want := string(testutil.Pattern(1, size))
	for i := range n {
		m := testutil.Receive(t, b)
		if string(m.Bytes()) != want || m.HasFile() != (i%4 == 0) {
			t.Fatalf("message %d: %d bytes, or others than sent; file %v", i, m.Len(), m.HasFile())
		}
		if file := m.TakeFile(); file != nil {
			testutil.WantOpen(t, fmt.Sprintf("the file of message %d", i), file)
			file.Close()
		}
		closing <- m
	}
	close(closing)
	<-done
}

// TestNewConnDescriptor looks at what a Conn does to its descriptor.
func TestNewConnDescriptor(t *testing.T) {
	testutil.NoLeak(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	testutil.Must(t, err)
	a, err := imsg.NewConn(fds[0], nil)
	testutil.Must(t, err)
	f := os.NewFile(uintptr(fds[1]), "other")
	b, err := imsg.FileConn(f, nil)
	testutil.Must(t, err)
	for i, fd := range fds {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || i == 0 && flags&unix.FD_CLOEXEC == 0 || !nonblocking(t, fd) {
			t.Errorf("descriptor %d: flags %#x, non-blocking %v, %v", i, flags, nonblocking(t, fd), err)
		}
	}
	if err := f.Close(); err != nil { // it stayed ours
		t.Error(err)
	}
	testutil.Exchange(t, a, b, 1, 3)
	dup, err := b.File()
	testutil.Must(t, err)
	testutil.Check(t, b.Close())
	c, err := imsg.FileConn(dup, nil) // the duplicate outlives the Conn
	testutil.Must(t, err)
	dup.Close()
	testutil.Exchange(t, a, c, 2, 3)
	a.Close()
	c.Close()
}

// TestOwnEndPassed lets a peer pass its own end of the channel, in a way that
// the channel must hold it, and go: its end is open as long as the channel is,
// so there is no end of the stream to be seen, ever. A deadline ends the wait,
// and closing frees everything.
func TestOwnEndPassed(t *testing.T) {
	for _, tt := range []struct {
		name string
		d    imsg.Dialect
		send func(peer *imsgtest.Socket, fd int)
	}{
		{"claimed by half a message", imsg.Current, func(peer *imsgtest.Socket, fd int) {
			peer.Write(testutil.Frame(imsg.Current, 2, 100, true)[:50], fd)
		}},
		{"claimed by nobody", imsg.Legacy, func(peer *imsgtest.Socket, fd int) {
			peer.Write(testutil.Frame(imsg.Legacy, 2, 0, false), fd)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{Dialect: tt.d, AllowFDPass: true}
			t.Run("buf", func(t *testing.T) {
				peer, s := imsgtest.Sockets(t)
				b := imsg.NewBuf(s.FD, cfg)
				tt.send(peer, peer.FD)
				peer.Close()
				for range 5 {
					if err := b.ReadSocket(); err != nil {
						t.Fatalf("%v, but the peer's end is open here", err)
					}
				}
				b.Clear()
				if err := b.ReadSocket(); err == nil {
					t.Error("no end after Clear has closed the peer's end")
				}
			})
			t.Run("conn", func(t *testing.T) {
				peer, s := imsgtest.Sockets(t)
				c := testutil.NewConn(t, s.Take(), cfg)
				tt.send(peer, peer.FD)
				peer.Close()
				c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				for {
					m, err := c.Receive(testutil.DeadlineCtx(t))
					if m.Close(); err == nil {
						continue
					}
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%v, but the peer's end is open here", err)
					}
					break
				}
			})
		})
	}
}

// startChild runs the calling test in another process, with one side of a
// channel as descriptor fd. There inside is true.
func startChild(t *testing.T, fd int) (inside bool, c *imsg.Conn, cmd *exec.Cmd) {
	t.Helper()
	if os.Getenv(testutil.ChildEnv) == t.Name() {
		return true, nil, nil
	}
	c, cmd = testutil.StartSelf(t, t.Name(), t.Name(), fd, nil)
	return false, c, cmd
}

// TestProcessKilled kills the peer while it owes us half a message and we wait
// for it both ways.
func TestProcessKilled(t *testing.T) {
	inside, c, cmd := startChild(t, 3)
	if inside {
		p := append(testutil.Frame(imsg.Current, 1, 10, false), testutil.Frame(imsg.Current, 2, 10, false)[:20]...)
		if _, err := unix.Write(3, p); err != nil {
			t.Fatal(err)
		}
		unix.Poll(nil, 60_000) // until we are killed
		t.Fatal("not killed")
	}
	ctx := testutil.DeadlineCtx(t)
	testutil.ReceiveAll(t, c, 1)
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() {
		for {
			if err := c.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, 10_000)); err != nil {
				sent <- err
				return
			}
		}
	}()
	go func() { _, err := c.Receive(ctx); received <- err }()
	testutil.WaitBlocked(t, 1, "(*Conn).Send")
	testutil.WaitBlocked(t, 1, "(*Conn).Receive")
	testutil.Must(t, cmd.Process.Kill())
	if err := <-sent; !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("send: %v", err)
	}
	if err := <-received; !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("receive: %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
}

// TestProcessExits receives what a process sent, with a file, before it ended.
func TestProcessExits(t *testing.T) {
	inside, c, cmd := startChild(t, 3)
	if inside {
		b := imsg.NewBuf(3, &imsg.Config{AllowFDPass: true})
		r, w, err := os.Pipe()
		testutil.Must(t, err)
		w.Write([]byte("from the dead"))
		w.Close()
		if err := errors.Join(
			b.Compose(imsg.Header{Type: 1}, r, testutil.Pattern(1, 3)),
			b.Compose(imsg.Header{Type: 2}, nil, testutil.Pattern(2, 3)),
			b.Flush()); err != nil {
			t.Fatal(err)
		}
		return
	}
	testutil.Must(t, cmd.Wait())
	m := testutil.ReceiveFrame(t, c, 1, 3)
	testutil.Equal(t, "pid", m.PID(), cmd.Process.Pid)
	f := m.TakeFile()
	p, err := io.ReadAll(f)
	if err != nil || string(p) != "from the dead" {
		t.Errorf("the file: %q, %v", p, err)
	}
	f.Close()
	m.Close()
	testutil.ReceiveAll(t, c, 2)
	testutil.WantEOF(t, c)
}

// TestNoSIGPIPE writes to a channel on standard output whose peer is gone: an
// error, and not the signal that ends other programs.
func TestNoSIGPIPE(t *testing.T) {
	inside, c, cmd := startChild(t, 1)
	if inside {
		for _, files := range []bool{false, true} {
			b := imsg.NewBuf(1, &imsg.Config{AllowFDPass: files})
			for { // the parent is gone when the first write fails
				if err := b.Compose(imsg.Header{Type: 1}, nil, []byte("x")); err != nil {
					if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
						t.Fatal(err)
					}
					break
				}
				b.Flush()
			}
		}
		conn, err := imsg.NewConn(1, nil)
		testutil.Must(t, err)
		if err := conn.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("Conn: %v, want EPIPE", err)
		}
		os.Exit(0) // the test's own report would go to the channel
	}
	m := testutil.Receive(t, c)
	m.Close()
	c.Close()
	testutil.WantError(t, "child", cmd.Wait(), nil)
}

// TestNoDescriptorLeft makes channels when no descriptor is free.
func TestNoDescriptorLeft(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t, 64)
	c, _ := imsgtest.Pair(t, nil)
	f := testutil.OwnFile(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	testutil.Must(t, err)
	defer l.Close()
	free := testutil.FillTable(t)
	defer free()
	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"Pair", func() error { _, _, err := imsg.Pair(nil); return err }},
		{"FileConn", func() error { _, err := imsg.FileConn(f, nil); return err }},
		{"File", func() error { _, err := c.File(); return err }},
		{"NewListener", func() error { _, err := imsg.NewListener(l, nil); return err }},
		{"Dial", func() error { _, err := imsg.Dial(context.Background(), "/nowhere", nil); return err }},
		{"Listen", func() error { _, err := imsg.Listen("/nowhere", nil); return err }},
	} {
		testutil.WantError(t, tt.name, tt.do(), syscall.EMFILE)
	}
}

// TestCloseWrite ends one direction: Sends end, what was sent arrives, and the
// other direction goes on.
func TestCloseWrite(t *testing.T) {
	testutil.NoLeak(t)
	ctx := testutil.DeadlineCtx(t)
	a, b := imsgtest.Pair(t, nil)
	n := testutil.FillConn(t, a)
	testutil.Must(t, a.Compose(imsg.Header{Type: 1}, testutil.DevNull(t)))
	done := make(chan error, 3)
	for range cap(done) {
		go func() { done <- a.Send(ctx, imsg.Header{Type: 2}, nil) }()
	}
	testutil.WaitBlocked(t, cap(done), "(*Conn).Send")
	testutil.Must(t, a.CloseWrite())
	for range cap(done) {
		testutil.WantError(t, "a Send that waited", <-done, net.ErrClosed)
	}
	testutil.WantError(t, "a later Send", a.Send(ctx, imsg.Header{Type: 2}, nil), net.ErrClosed)
	testutil.WantError(t, "the second CloseWrite", a.CloseWrite(), net.ErrClosed)
	testutil.DrainConn(t, b, n)
	testutil.WantEOF(t, b)
	testutil.Exchange(t, b, a, 3, 0)
	b.Close()
	testutil.WantEOF(t, a)
	testutil.Check(t, a.Close())
	testutil.WantError(t, "CloseWrite after Close", a.CloseWrite(), net.ErrClosed)
}

// TestAddresses asks both ends for their names.
func TestAddresses(t *testing.T) {
	testutil.NoLeak(t)
	l, path := listen(t, nil)
	client, server := connect(t, l, path, nil)
	for what, name := range map[string]string{
		"client remote": client.RemoteAddr().String(), "server local": server.LocalAddr().String(),
	} {
		testutil.Equal(t, what, name, path)
	}
	raw, err := server.SyscallConn()
	testutil.Must(t, err)
	raw.Control(func(fd uintptr) {
		if size, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || size == 0 {
			t.Errorf("option: %d, %v", size, err)
		}
	})
	server.Close()
	if server.LocalAddr() == nil || server.LocalAddr().Network() != "unix" {
		t.Errorf("after Close: %v", server.LocalAddr())
	}
	_, err = server.SyscallConn()
	testutil.WantError(t, "after Close", err, net.ErrClosed)
}
