package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// smallPair is a pair with socket buffers of 4 KiB and large messages.
func smallPair(t testing.TB) (a, b *imsg.Conn) { return smallPairOf(t, nil) }

func smallPairOf(t testing.TB, cfg *imsg.Config) (a, b *imsg.Conn) {
	t.Helper()
	a, b = imsgtest.Pair(t, cfg)
	shrink(t, a, b)
	testutil.Must(t, errors.Join(a.SetMaxSize(2<<20), b.SetMaxSize(2<<20)))
	return a, b
}

// shrink makes socket buffers as small as they get.
func shrink(t testing.TB, cs ...*imsg.Conn) {
	t.Helper()
	for _, c := range cs {
		f, err := c.File()
		testutil.Must(t, err)
		rc, err := f.SyscallConn()
		testutil.Must(t, err)
		rc.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
		})
		f.Close()
		testutil.Must(t, err)
	}
}

// TestCancelLargeSend gives up in the middle of a message: its rest goes out
// with whatever is sent next.
func TestCancelLargeSend(t *testing.T) {
	const size = 1 << 20
	for _, how := range []string{"cancel", "deadline"} {
		for _, next := range []string{"flush", "send", "queue and flush", "send of a file", "another cancelled send"} {
			for _, file := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s file %v", how, next, file), func(t *testing.T) {
					testutil.NoLeak(t)
					a, b := smallPair(t)
					var f *os.File
					p := testutil.NewProbe(t)
					if file {
						f = p.W
					}
					ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
					done := testutil.Go(func() error { return a.Send(ctx, imsg.Header{Type: 1}, f, testutil.Pattern(1, size)) })
					testutil.WaitBlocked(t, 1, "(*Conn).Send")
					want := context.Canceled
					if how == "cancel" {
						cancel()
					} else {
						want = os.ErrDeadlineExceeded
						a.SetWriteDeadline(time.Unix(1, 0))
					}
					defer cancel()
					if err := <-done; !errors.Is(err, want) {
						t.Fatalf("%v, want %v", err, want)
					}
					a.SetWriteDeadline(time.Time{})
					s := a.Stats().Sent
					if a.QueueLen() != 1 || s.Messages != 0 || s.Bytes == 0 || s.Bytes >= size || (s.Files == 1) != file {
						t.Fatalf("%d queued, %+v", a.QueueLen(), s)
					}
					p.W.Close() // it has gone with the first byte
					ctx = testutil.DeadlineCtx(t)
					second := testutil.NewProbe(t)
					if next == "another cancelled send" {
						short, cancel := context.WithTimeout(ctx, time.Millisecond)
						defer cancel()
						err := a.Send(short, imsg.Header{Type: 9}, second.W, testutil.Pattern(9, 10))
						if !errors.Is(err, context.DeadlineExceeded) || a.QueueLen() != 1 {
							t.Fatalf("another send: %v, %d queued", err, a.QueueLen())
						}
					}
					done = testutil.Go(func() error {
						switch next {
						case "flush":
							return a.Flush(ctx)
						case "send", "another cancelled send":
							return a.Send(ctx, imsg.Header{Type: 2}, nil, testutil.Pattern(2, 100))
						case "send of a file":
							return a.Send(ctx, imsg.Header{Type: 2}, second.W, testutil.Pattern(2, 100))
						}
						return errors.Join(a.Compose(imsg.Header{Type: 2}, nil, testutil.Pattern(2, 100)), a.Flush(ctx))
					})
					m := testutil.ReceiveFrame(t, b, 1, size)
					if file == p.Closed() || m.HasFile() != file {
						t.Errorf("file %v, closed %v", m.HasFile(), p.Closed())
					}
					m.Close()
					if next != "flush" {
						m := testutil.ReceiveFrame(t, b, 2, 100)
						testutil.Equal(t, "file", m.HasFile(), next == "send of a file")
						m.Close()
					}
					testutil.Check(t, <-done)
					testutil.Equal(t, "queue", a.QueueLen(), 0)
				})
			}
		}
	}
}

// TestCancelSome cancels every subset of five waiting messages, two of them
// with a file, behind a full socket.
func TestCancelSome(t *testing.T) {
	sizes := []int{10, 0, 5000, 16000, 300}
	for subset := range 1 << len(sizes) {
		t.Run(fmt.Sprintf("%05b", subset), func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			n := testutil.FillConn(t, a)
			probes := map[int]*testutil.Probe{1: testutil.NewProbe(t), 3: testutil.NewProbe(t)}
			cancels := make([]func(), len(sizes))
			done := make([]<-chan error, len(sizes))
			for i, size := range sizes {
				ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
				defer cancel()
				cancels[i] = cancel
				var f *os.File
				if p := probes[i]; p != nil {
					f = p.W
				}
				done[i] = testutil.Go(func() error {
					return a.Send(ctx, imsg.Header{Type: uint32(i + 1)}, f, testutil.Pattern(uint32(i+1), size))
				})
				testutil.WaitQueue(t, a, i+1)
			}
			// The middle first, then the others, so that holes meet.
			for _, i := range []int{2, 1, 3, 0, 4} {
				if subset>>i&1 == 0 {
					continue
				}
				cancels[i]()
				testutil.WantError(t, fmt.Sprintf("message %d", i+1), <-done[i], context.Canceled)
				if p := probes[i]; p != nil {
					testutil.WantOpen(t, fmt.Sprintf("the file of message %d", i+1), p.W)
				}
			}
			testutil.DrainConn(t, b, n)
			for i, size := range sizes {
				if subset>>i&1 == 1 {
					continue
				}
				m := testutil.ReceiveFrame(t, b, uint32(i+1), size)
				if p := probes[i]; p != nil {
					f := m.TakeFile()
					testutil.WantError(t, fmt.Sprintf("message %d", i+1), p.Works(f), nil)
					f.Close()
				} else if m.HasFile() {
					t.Errorf("message %d has a file", i+1)
				}
				m.Close()
				testutil.WantError(t, fmt.Sprintf("message %d", i+1), <-done[i], nil)
			}
			testutil.Equal(t, "queue", a.QueueLen(), 0)
			testutil.Exchange(t, a, b, 6, 9)
		})
	}
}

// TestCancelAnyTime cancels sends at any moment. A send that returned nil
// delivered its message once; one that failed once or never; none is torn.
func TestCancelAnyTime(t *testing.T) {
	for _, limit := range []int{0, 2} {
		t.Run(fmt.Sprintf("MaxQueueMessages %d", limit), func(t *testing.T) {
			testCancelAnyTime(t, &imsg.Config{AllowFDPass: true, MaxQueueMessages: limit})
		})
	}
}

func testCancelAnyTime(t *testing.T, cfg *imsg.Config) {
	const senders, each = 4, 150
	testutil.NoLeak(t)
	a, b := smallPairOf(t, cfg)
	f := testutil.OwnFile(t)
	all := newPromises(senders, each)
	read := testutil.Go(func() error { return all.receive(b) })
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(s), 2))
			for i := range each {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(3000))*time.Microsecond)
				file := f
				if rnd.IntN(3) > 0 {
					file = nil
				}
				h := imsg.Header{Type: uint32(s + 1), ID: uint32(i)}
				err := a.Send(ctx, h, file, testutil.Pattern(h.Type+h.ID, rnd.IntN(20_000)))
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("sender %d message %d: %v", s, i, err)
					return
				}
				all.promised[all.index(h)] = err == nil
			}
		})
	}
	wg.Wait()
	testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 99}, nil))
	testutil.Must(t, <-read)
	whole := all.check(t)
	testutil.Equal(t, "queue", a.QueueLen(), 0)
	testutil.Equal(t, "messages sent", a.Stats().Sent.Messages, whole+1)
}

// TestWaitForRoom sends to a full queue, which waits for room, and gives up.
func TestWaitForRoom(t *testing.T) {
	for _, tt := range []struct {
		name string
		want error
		end  func(c *imsg.Conn, cancel func())
	}{
		{"room", nil, nil},
		{"cancel", context.Canceled, func(_ *imsg.Conn, cancel func()) { cancel() }},
		{"deadline", os.ErrDeadlineExceeded, func(c *imsg.Conn, _ func()) { c.SetWriteDeadline(time.Unix(1, 0)) }},
		{"close", net.ErrClosed, func(c *imsg.Conn, _ func()) { c.Close() }},
	} {
		for _, cfg := range []imsg.Config{{MaxQueueMessages: 2}, {MaxQueueBytes: 100}, {MaxQueueFiles: 2}} {
			t.Run(fmt.Sprintf("%s %d %d %d", tt.name, cfg.MaxQueueMessages, cfg.MaxQueueBytes, cfg.MaxQueueFiles), func(t *testing.T) {
				testutil.NoLeak(t)
				a, b := imsgtest.Pair(t, &cfg)
				n := testutil.FillConn(t, a)
				for typ := range uint32(2) {
					testutil.Must(t, a.Compose(imsg.Header{Type: typ + 1}, testutil.DevNull(t), testutil.Pattern(typ+1, 30)))
				}
				f := testutil.OwnFile(t)
				const senders = 3
				errs := make(chan error, senders)
				ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
				defer cancel()
				for range senders {
					go func() { errs <- a.Send(ctx, imsg.Header{Type: 3}, f, testutil.Pattern(3, 30)) }()
				}
				testutil.WaitBlocked(t, senders, "(*Conn).Send")
				testutil.Equal(t, "queue", a.QueueLen(), 2)
				if tt.end != nil {
					tt.end(a, cancel)
					for range senders {
						testutil.WantError(t, "the error", <-errs, tt.want)
					}
					if tt.want == net.ErrClosed {
						return
					}
					testutil.Equal(t, "queue", a.QueueLen(), 2)
					a.SetWriteDeadline(time.Time{})
					go func() {
						testutil.Check(t, a.Flush(testutil.DeadlineCtx(t)))
					}()
				}
				testutil.DrainConn(t, b, n)
				testutil.ReceiveAll(t, b, 1, 2)
				if tt.end == nil {
					testutil.ReceiveAll(t, b, 3, 3, 3)
					for range senders {
						testutil.Check(t, <-errs)
					}
				}
			})
		}
	}
}

// TestRefusedWhileItWaits has messages that wait for room and cannot be queued
// any more when there is some, whoever would do it: only their senders are told.
func TestRefusedWhileItWaits(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, &imsg.Config{AllowFDPass: true, MaxQueueMessages: 1})
	filler := testutil.FillConn(t, a)
	testutil.Must(t, a.Compose(imsg.Header{Type: 100}, nil, testutil.Pattern(100, 3)))
	open, closed := testutil.DevNull(t), testutil.DevNull(t)
	defer open.Close()
	sends := []struct {
		f    *os.File
		size int
		want error
	}{
		{open, 50, nil},
		{closed, 10, os.ErrClosed},
		{nil, 100, imsg.ErrTooLarge},
		{nil, 8000, imsg.ErrTooLarge},
		{nil, 20, nil},
		{closed, 8000, imsg.ErrTooLarge},
		{open, 0, nil},
	}
	errs := make([]chan error, len(sends))
	for i, s := range sends {
		errs[i] = make(chan error, 1)
		go func() {
			typ := uint32(i + 1)
			errs[i] <- a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: typ}, s.f, testutil.Pattern(typ, s.size))
		}()
		testutil.WaitBlocked(t, i+1, "(*Conn).Send")
	}
	closed.Close()
	testutil.Must(t, a.SetMaxSize(50))
	testutil.DrainConn(t, b, filler)
	testutil.ReceiveAll(t, b, 100)
	for i, s := range sends {
		var oe *imsg.OpError
		switch err := <-errs[i]; {
		case !errors.Is(err, s.want):
			t.Errorf("message %d: %v, want %v", i+1, err, s.want)
		case err != nil && (!errors.As(err, &oe) || oe.Type != uint32(i+1)):
			t.Errorf("message %d: %#v", i+1, err)
		case err == nil:
			m := testutil.ReceiveFrame(t, b, uint32(i+1), s.size)
			if m.HasFile() != (s.f != nil) {
				t.Errorf("message %d: file %v", i+1, m.HasFile())
			}
			m.Close()
		}
	}
	testutil.Equal(t, "queue", a.QueueLen(), 0)
}

// TestClosedFiles gives files that are closed to everything that takes one: the
// caller's mistake must not cost the others their channel.
func TestClosedFiles(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	sa, _ := imsgtest.Sockets(t)
	buf := testutil.NewBuf(t, sa.FD, &imsg.Config{AllowFDPass: true})
	f := testutil.DevNull(t)
	f.Close()
	_, err := imsg.FileConn(f, nil)
	testutil.WantError(t, "FileConn", err, os.ErrClosed)
	_, err = imsg.NewConn(1<<20, nil)
	testutil.WantError(t, "NewConn", err, syscall.EBADF)
	testutil.Must(t, a.Compose(imsg.Header{Type: 1}, nil, testutil.Pattern(1, 3)))
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	testutil.WantError(t, "Flush", a.Flush(cancelled), context.Canceled)
	whole := ibuf.New(3)
	whole.SetFile(f)
	bd, err := a.Create(imsg.Header{Type: 2}, 0)
	testutil.Must(t, err)
	bd.SetFile(f)
	for what, err := range map[string]error{
		"Send":          a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 2}, f, []byte("x")),
		"Queue":         a.Compose(imsg.Header{Type: 2}, f, []byte("x")),
		"Commit":        bd.Commit(),
		"Compose":       buf.Compose(imsg.Header{Type: 2}, f, []byte("x")),
		"ComposeBuffer": buf.ComposeBuffer(imsg.Header{Type: 2}, whole),
	} {
		var oe *imsg.OpError
		if !errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) || !errors.As(err, &oe) || oe.Type != 2 {
			t.Errorf("%s: %v, want os.ErrClosed", what, err)
		}
	}
	testutil.Equal(t, "queue", buf.QueueLen(), 0)
	testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 3}, nil, testutil.Pattern(3, 3)))
	testutil.ReceiveAll(t, b, 1, 3)
}

// A badFile makes a file that the kernel will not send.
type badFile struct {
	name  string
	make  func(t testing.TB) *os.File
	spoil func(f *os.File) // after it was queued
	want  error
}

// badFiles are the ways in which a file cannot be sent; refused has a peer of
// its own.
var badFiles = []badFile{
	{"closed", testutil.DevNull, func(f *os.File) { f.Close() }, os.ErrClosed},
	{"closed behind its back", fdOfNobody, func(*os.File) {}, syscall.EBADF},
	{"refused", testutil.DevNull, func(*os.File) {}, syscall.EPERM},
}

// fdOfNobody is a file whose descriptor is not open.
func fdOfNobody(testing.TB) *os.File {
	return os.NewFile(1<<20-1, "nobody's")
}

// badPair is a pair whose second socket refuses files if b wants that.
func badPair(t *testing.T, b badFile) (x, y *imsgtest.Socket) {
	x, y = imsgtest.Sockets(t)
	if b.want == syscall.EPERM && unixmsg.SetPassRights(y.FD, false) != nil {
		t.Skip("the system cannot refuse files")
	}
	return x, y
}
func checkBad(t *testing.T, err error, typ uint32, want error) {
	t.Helper()
	var oe *imsg.OpError
	if !errors.Is(err, imsg.ErrFileNotSent) || !errors.Is(err, want) || !errors.As(err, &oe) || oe.Type != typ {
		t.Errorf("message %d: %v, want %v", typ, err, want)
	}
}

// wantBad takes apart what a Flush of the queue of bad files returned.
func wantBad(t *testing.T, err, want error) {
	t.Helper()
	all, ok := err.(interface{ Unwrap() []error }) // of errors.Join
	if !ok || len(all.Unwrap()) != len(badTypes) {
		t.Fatalf("%v, want %d errors", err, len(badTypes))
	}
	for i, typ := range badTypes {
		checkBad(t, all.Unwrap()[i], typ, want)
	}
}

// badTypes are the messages with a bad file in a queue of seven, goodTypes the
// others.
var badTypes, goodTypes = []uint32{1, 3, 4, 7}, []uint32{2, 5, 6}

// TestFileNotSent has files that the kernel will not send among messages that
// are in order: only the messages with these files fail, and somebody is told.
func TestFileNotSent(t *testing.T) {
	cfg := &imsg.Config{AllowFDPass: true}
	for _, bad := range badFiles {
		// Both queue seven messages, four of them with a bad file.
		compose := func(t *testing.T, compose func(imsg.Header, *os.File, ...[]byte) error) {
			for typ := uint32(1); typ <= 7; typ++ {
				var f *os.File
				if slices.Contains(badTypes, typ) {
					f = bad.make(t)
				}
				testutil.Must(t, compose(imsg.Header{Type: typ}, f, testutil.Pattern(typ, 10*int(typ-1))))
				if f != nil {
					bad.spoil(f)
				}
			}
		}
		conns := func(t *testing.T) (a, b *imsg.Conn) {
			testutil.NoLeak(t)
			x, y := badPair(t, bad)
			return testutil.NewConn(t, x.Take(), cfg), testutil.NewConn(t, y.Take(), cfg)
		}
		bufs := func(t *testing.T) (a *imsg.Buf, receive func()) {
			testutil.NoLeak(t)
			x, y := badPair(t, bad)
			a = testutil.NewBuf(t, x.FD, cfg)
			s := testutil.BufSide(t, testutil.NewBuf(t, y.FD, cfg), y.FD)
			compose(t, a.Compose)
			return a, func() {
				for _, typ := range goodTypes {
					testutil.MustNext(t, s, typ, 10*int(typ-1)).Close()
				}
			}
		}
		t.Run(bad.name+", Conn, Flush", func(t *testing.T) {
			a, b := conns(t)
			compose(t, a.Compose)
			wantBad(t, a.Flush(testutil.DeadlineCtx(t)), bad.want)
			testutil.ReceiveAll(t, b, goodTypes...)
			testutil.Check(t, a.Flush(testutil.DeadlineCtx(t)))
			testutil.Equal(t, "queue", a.QueueLen(), 0)
			testutil.Exchange(t, a, b, 9, 0)
			if n := a.Stats().Sent; n.Messages != 4 || n.Files != 0 {
				t.Errorf("%+v", n)
			}
		})
		t.Run(bad.name+", Conn, Send behind it", func(t *testing.T) {
			a, b := conns(t)
			compose(t, a.Compose)
			testutil.Check(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 9}, nil))
			testutil.ReceiveAll(t, b, append(goodTypes, 9)...)
			checkBad(t, a.Flush(testutil.DeadlineCtx(t)), 1, bad.want)
		})
		t.Run(bad.name+", Send", func(t *testing.T) {
			a, b := conns(t)
			f := bad.make(t)
			defer f.Close()
			if bad.want != os.ErrClosed { // Send says that at once
				checkBad(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, f, []byte("x")), 1, bad.want)
			}
			if n := a.Stats().Sent; n != (imsg.Counters{}) || a.QueueLen() != 0 {
				t.Errorf("%+v, %d queued", n, a.QueueLen())
			}
			if bad.want == syscall.EBADF {
				return // the kernel says that before it looks for room
			}
			n := testutil.FillConn(t, a)
			var done [3]<-chan error
			for i, file := range []*os.File{f, nil, f} {
				typ := uint32(i + 1)
				done[i] = testutil.Go(func() error {
					return a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: typ}, file, testutil.Pattern(typ, 20))
				})
				testutil.WaitQueue(t, a, i+1)
			}
			testutil.WaitBlocked(t, 3, "(*Conn).Send") // or the file is still in a system call's hands
			bad.spoil(f)
			testutil.DrainConn(t, b, n)
			checkBad(t, <-done[0], 1, bad.want)
			testutil.Check(t, <-done[1])
			checkBad(t, <-done[2], 3, bad.want)
			testutil.ReceiveAll(t, b, 2)
			testutil.Check(t, a.Flush(testutil.DeadlineCtx(t)))
			testutil.Equal(t, "queue", a.QueueLen(), 0)
			if bad.want != os.ErrClosed {
				testutil.WantOpen(t, "the borrowed file", f)
			}
		})
		t.Run(bad.name+", Buf, Flush", func(t *testing.T) {
			a, receive := bufs(t)
			wantBad(t, a.Flush(), bad.want)
			receive()
			testutil.Check(t, a.Flush())
			testutil.Equal(t, "queue", a.QueueLen(), 0)
		})
		t.Run(bad.name+", Buf, WriteSocket", func(t *testing.T) {
			a, receive := bufs(t)
			var errs []error
			for a.QueueLen() > 0 {
				if err := a.WriteSocket(); err != nil {
					errs = append(errs, err)
				}
			}
			wantBad(t, errors.Join(errs...), bad.want)
			receive()
		})
	}
}

// TestFileNotSentSocketClosed has a Buf whose descriptor is closed: that is
// not the file's fault.
func TestFileNotSentSocketClosed(t *testing.T) {
	testutil.NoLeak(t)
	b := imsg.NewBuf(1<<20-2, &imsg.Config{AllowFDPass: true})
	for typ := range uint32(2) {
		testutil.Must(t, b.Compose(imsg.Header{Type: typ + 1}, testutil.DevNull(t)))
	}
	err := b.Flush()
	if !errors.Is(err, syscall.EBADF) || errors.Is(err, imsg.ErrFileNotSent) {
		t.Errorf("%v, want EBADF and not ErrFileNotSent", err)
	}
	testutil.SameError(t, err, 2, b.WriteSocket)
}

// TestPeerNeverReads gives up in every way there is; nothing of the message
// stays, and the channel still works when the peer reads at last.
func TestPeerNeverReads(t *testing.T) {
	for _, file := range []bool{false, true} {
		for _, tt := range givingUp {
			t.Run(fmt.Sprintf("%s, file %v", tt.name, file), func(t *testing.T) {
				testutil.NoLeak(t)
				a, b := imsgtest.Pair(t, nil)
				n := testutil.FillConn(t, a)
				var f *os.File
				if file {
					f = testutil.NewProbe(t).W
				}
				err := tt.do(half{t, "(*Conn).Send", func(ctx context.Context) error {
					return a.Send(ctx, imsg.Header{Type: 7}, f, testutil.Pattern(7, 100))
				}, a.SetWriteDeadline, a.SetReadDeadline, a.SetDeadline})
				oe := testutil.WantOp(t, "Send", err, "send", tt.want)
				testutil.Equal(t, "the error's type", oe.Type, 7)
				testutil.Equal(t, "timeout", oe.Timeout(), tt.timeout)
				testutil.Equal(t, "queue", a.QueueLen(), 0)
				testutil.Equal(t, "counters", a.Stats().Sent, imsg.Counters{})
				if file {
					testutil.WantOpen(t, "the file", f)
				}
				a.SetDeadline(time.Time{})
				testutil.DrainConn(t, b, n)
				testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 8}, f, testutil.Pattern(8, 5)))
				testutil.ReceiveAll(t, b, 8)
			})
		}
	}
}

// TestPeerDies closes the peer's socket under a channel.
func TestPeerDies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  bool
		unread bool // the peer has not read what we sent
	}{
		{"plain", false, false},
		{"files", true, false},
		{"unread", false, true},
		{"files, unread", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{AllowFDPass: tt.files}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				peer.Write(slices.Concat(testutil.Frame(imsg.Current, 1, 3, false), testutil.Frame(imsg.Current, 2, 4, false)))
				if tt.unread {
					testutil.Must(t, s.Send(imsg.Header{Type: 5}, nil, []byte("x")))
				}
				peer.Close()
				testutil.MustNext(t, s, 1, 3).Close()
				testutil.MustNext(t, s, 2, 4).Close()
				var f *os.File
				var p *testutil.Probe
				if tt.files {
					p = testutil.NewProbe(t)
					f = p.W
				}
				err := s.Send(imsg.Header{Type: 6}, f, []byte("y"))
				var oe *imsg.OpError
				if !errors.Is(err, syscall.EPIPE) || !errors.As(err, &oe) || oe.Op != "send" {
					t.Errorf("send to nobody: %v, want EPIPE", err)
				}
				if _, ok := errors.AsType[*os.SyscallError](err); !ok {
					t.Errorf("send to nobody: %#v, want a SyscallError in it", err)
				}
				testutil.SameError(t, err, 3, func() error { return s.Send(imsg.Header{Type: 6}, nil, []byte("y")) })
				err = testutil.ReceiveError(t, s)
				if err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("receive from nobody: %v", err)
				}
				if !tt.unread && err != io.EOF {
					t.Errorf("receive after an orderly end: %v, want io.EOF", err)
				}
			})
		})
	}
}

// TestPeerDiesWithFilesQueued lets the queue's files go with the channel.
func TestPeerDiesWithFilesQueued(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	testutil.FillConn(t, a)
	var probes []*testutil.Probe
	for i := range 5 {
		p := testutil.NewProbe(t)
		probes = append(probes, p)
		testutil.Must(t, a.Compose(imsg.Header{Type: uint32(i + 1)}, p.W, []byte("with a file")))
	}
	borrowed := testutil.NewProbe(t)
	done := testutil.Go(func() error { return a.Send(context.Background(), imsg.Header{Type: 6}, borrowed.W, []byte("too")) })
	testutil.WaitBlocked(t, 1, "(*Conn).Send")
	b.Close()
	err := <-done
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("send: %v", err)
	}
	testutil.WantClosed(t, "the queued files", probes...)
	testutil.WantOpen(t, "the file of Send", borrowed.W)
	testutil.SameError(t, err, 1, func() error { return a.Send(context.Background(), imsg.Header{Type: 1}, nil) })
	testutil.SameError(t, err, 1, func() error { return a.Compose(imsg.Header{Type: 1}, nil) })
	testutil.SameError(t, err, 1, func() error { return a.Flush(context.Background()) })
	testutil.Equal(t, "queue", a.QueueLen(), 0)
}

// TestManyFilesACall queues messages with files, among others without: on Linux
// few system calls take them all, and each message gets its own file.
func TestManyFilesACall(t *testing.T) {
	const n = 100
	cfg := &imsg.Config{AllowFDPass: true}
	run := func(t *testing.T, compose func(imsg.Header, *os.File, ...[]byte) error, flush func() error, stats func() imsg.Stats, next func(uint32) imsg.Message) {
		probes := map[uint32]*testutil.Probe{}
		for typ := uint32(1); typ <= n; typ++ {
			var f *os.File
			if typ%5 != 0 {
				probes[typ] = testutil.NewProbe(t)
				f = probes[typ].W
			}
			testutil.Must(t, compose(imsg.Header{Type: typ}, f, testutil.Pattern(typ, int(typ))))
		}
		testutil.Must(t, flush())
		if got := stats().Sent; got.Messages != n || got.Files != n*4/5 || runtime.GOOS == "linux" && got.Calls > 4 {
			t.Errorf("%+v", got)
		}
		for typ := uint32(1); typ <= n; typ++ {
			m := next(typ)
			testutil.CheckFrame(t, m, typ, int(typ))
			f, p := m.TakeFile(), probes[typ]
			if p != nil {
				testutil.WantError(t, fmt.Sprintf("message %d", typ), p.Works(f), nil)
				f.Close()
				if !p.Closed() {
					t.Errorf("the file of message %d is still open", typ)
				}
			} else if f != nil {
				t.Errorf("message %d has a file", typ)
			}
			m.Close()
		}
	}
	t.Run("Conn", func(t *testing.T) {
		testutil.NoLeak(t)
		a, b := imsgtest.Pair(t, cfg)
		ctx := testutil.DeadlineCtx(t)
		run(t, a.Compose, func() error { return a.Flush(ctx) }, a.Stats, func(uint32) imsg.Message {
			m, err := b.Receive(ctx)
			testutil.Must(t, err)
			return m
		})
	})
	t.Run("Buf", func(t *testing.T) {
		testutil.NoLeak(t)
		x, y := imsgtest.Sockets(t)
		a, b := testutil.NewBuf(t, x.FD, cfg), imsg.NewBuf(y.FD, cfg)
		s := testutil.BufSide(t, b, y.FD)
		run(t, a.Compose, a.Flush, a.Stats, func(typ uint32) imsg.Message { return testutil.MustNext(t, s, typ, int(typ)) })
	})
}

// TestWithdrawnMemory cancels many Sends behind a message that is stuck: what
// was withdrawn needs no memory.
func TestWithdrawnMemory(t *testing.T) {
	testutil.NoLeak(t)
	a, _ := imsgtest.Pair(t, &imsg.Config{MaxQueueBytes: 1 << 20})
	testutil.FillConn(t, a)
	testutil.Must(t, a.Compose(imsg.Header{Type: 1}, nil, []byte("stuck")))
	before := testutil.Heap()
	p := testutil.Pattern(2, 16000)
	cancelled := func(n int) {
		ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				testutil.WantError(t, "a Send that is cancelled", a.Send(ctx, imsg.Header{Type: 2}, nil, p), context.Canceled)
			})
		}
		testutil.WaitBlocked(t, n, "(*Conn).Send")
		cancel()
		wg.Wait()
	}
	for range 40 {
		cancelled(20)
	}
	for range 10 {
		cancelled(200) // most of them wait for room
	}
	if n := testutil.Heap() - before; n > 2<<20 || a.QueueLen() != 1 {
		t.Errorf("%d bytes more than before, %d messages queued", n, a.QueueLen())
	}
}
