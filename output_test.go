package imsg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// A queuer is the queueing half of a Buf or a Conn.
type queuer interface {
	Create(imsg.Header, int) (*imsg.Builder, error)
	QueueLen() int
	Stats() imsg.Stats
	SetMaxSize(int) error
}

// queueFunc queues a message one way or another; on an error everything given
// is still the caller's.
type queueFunc func(h imsg.Header, f *os.File, data []byte) error

// eachQueue runs fn for every way to queue a message. flush sends all.
func eachQueue(t *testing.T, cfg imsg.Config, fn func(t *testing.T, q queuer, queue queueFunc, flush func() error, peer *imsg.Conn)) {
	t.Helper()
	for _, kind := range []string{"compose", "compose batch", "compose buffer", "buf builder", "queue", "conn builder"} {
		t.Run(kind, func(t *testing.T) {
			testutil.NoLeak(t)
			sa, sb := imsgtest.Sockets(t)
			peer := testutil.NewConn(t, sb.Take(), &imsg.Config{AllowFDPass: true, Dialect: cfg.Dialect})
			var b *imsg.Buf
			var c *imsg.Conn
			var q queuer
			flush := func() error { return b.Flush() }
			if kind == "queue" || kind == "conn builder" {
				c = testutil.NewConn(t, sa.Take(), &cfg)
				q, flush = c, func() error { return c.Flush(testutil.DeadlineCtx(t)) }
			} else {
				b = testutil.NewBuf(t, sa.FD, &cfg)
				q = b
			}
			fn(t, q, func(h imsg.Header, f *os.File, data []byte) error {
				switch kind {
				case "compose":
					return b.Compose(h, f, data[:len(data)/2], nil, data[len(data)/2:])
				case "compose batch":
					n, err := b.ComposeBatch([]imsg.Outgoing{{Header: h, File: f, Data: data}})
					if n != 1 && err == nil || n != 0 && err != nil {
						t.Errorf("%d of one queued: %v", n, err)
					}
					return err
				case "queue":
					return c.Compose(h, f, data)
				case "compose buffer":
					buf := ibuf.New(len(data) + 5)
					buf.Add([]byte("read:"))
					buf.Add(data)
					buf.Skip(5)
					buf.SetFile(f)
					err := b.ComposeBuffer(h, buf)
					if err != nil && (buf.Len() != len(data) || buf.TakeFile() != f) {
						t.Errorf("a refused buffer has %d bytes", buf.Len())
					}
					return err
				}
				bd, err := q.Create(h, len(data))
				if err != nil {
					return err
				}
				defer bd.Discard()
				if err := bd.Add(data); err != nil {
					return err
				}
				bd.SetFile(f)
				err = bd.Commit()
				if err != nil && (bd.Len() != len(data) || bd.TakeFile() != f) {
					t.Errorf("a refused message has %d bytes", bd.Len())
				}
				return err
			}, flush, peer)
		})
	}
}

func TestQueueLimits(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  imsg.Config
		file bool
		size int
		fits int // messages that are accepted
		text string
	}{
		{"bytes", imsg.Config{MaxQueueBytes: 1000}, false, 184, 5, "200 bytes beside 1000 that wait to be sent, limit 1000 (MaxQueueBytes)"},
		{"bytes, one too many", imsg.Config{MaxQueueBytes: 999}, false, 184, 4, "200 bytes beside 800 that wait to be sent, limit 999 (MaxQueueBytes)"},
		{"one message always fits", imsg.Config{MaxQueueBytes: 10}, false, 5000, 1, "5016 bytes beside 5016 that wait to be sent, limit 10 (MaxQueueBytes)"},
		{"messages", imsg.Config{MaxQueueMessages: 7}, false, 3, 7, "7 messages wait to be sent, limit 7 (MaxQueueMessages)"},
		{"files", imsg.Config{AllowFDPass: true, MaxQueueFiles: 3}, true, 3, 3, "3 files wait to be sent, limit 3 (MaxQueueFiles)"},
		{"files by default", imsg.Config{AllowFDPass: true}, true, 3, 256, "256 files wait to be sent, limit 256 (MaxQueueFiles)"},
		{"bytes with files", imsg.Config{AllowFDPass: true, MaxQueueBytes: 100}, true, 4, 5, "20 bytes beside 100 that wait to be sent, limit 100 (MaxQueueBytes)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachQueue(t, tt.cfg, func(t *testing.T, q queuer, queue queueFunc, flush func() error, peer *imsg.Conn) {
				file := func() *os.File {
					if tt.file {
						return testutil.DevNull(t)
					}
					return nil
				}
				for i := range tt.fits {
					testutil.Must(t, queue(imsg.Header{Type: uint32(i + 1)}, file(), testutil.Pattern(uint32(i+1), tt.size)))
				}
				for range 3 {
					f := file()
					err := queue(imsg.Header{Type: 99}, f, testutil.Pattern(99, tt.size))
					var oe *imsg.OpError
					if !errors.Is(err, imsg.ErrQueueFull) || !errors.As(err, &oe) || oe.Type != 99 {
						t.Fatalf("message %d: %#v, want ErrQueueFull", tt.fits+1, err)
					}
					if want := "imsg: " + oe.Op + " type 99: " + tt.text + ": queue full"; err.Error() != want || oe.Op != "compose" && oe.Op != "commit" {
						t.Errorf("text %q, want %q", err, want)
					}
					if f != nil {
						testutil.WantError(t, "close of the refused file", f.Close(), nil)
					}
				}
				if q.QueueLen() != tt.fits || q.Stats() != (imsg.Stats{}) {
					t.Errorf("%d queued, %+v", q.QueueLen(), q.Stats())
				}
				// A message without a file is not stopped by the files.
				if tt.cfg.MaxQueueFiles > 0 {
					testutil.Check(t, queue(imsg.Header{Type: 50}, nil, testutil.Pattern(50, 1)))
				}
				flushed := testutil.Go(flush)
				for i := range tt.fits {
					testutil.ReceiveAll(t, peer, uint32(i+1))
				}
				testutil.Must(t, <-flushed)
				testutil.Equal(t, "queue", q.QueueLen(), 0)
				testutil.WantError(t, "after the flush", queue(imsg.Header{Type: 51}, file(), testutil.Pattern(51, tt.size)), nil)
			})
		})
	}
}

// TestRefused gives a channel what it must not take.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  imsg.Config
		max  int
		file bool
		size int
		want error
		text string
	}{
		{"one byte too many", imsg.Config{}, 16368, false, 16369, syscall.ERANGE, "payload of 16369 bytes, limit 16368 (see SetMaxSize, of both ends): too large"},
		{"one byte, none allowed", imsg.Config{}, 0, false, 1, imsg.ErrTooLarge, "payload of 1 bytes, limit 0 (see SetMaxSize, of both ends): too large"},
		{"own limit", imsg.Config{}, 100, false, 101, imsg.ErrTooLarge, "payload of 101 bytes, limit 100 (see SetMaxSize, of both ends): too large"},
		{"legacy", imsg.Config{Dialect: imsg.Legacy}, 65519, false, 65520, imsg.ErrTooLarge, "payload of 65520 bytes, limit 65519 (the legacy dialect has no more): too large"},
		{"too large with a file", imsg.Config{AllowFDPass: true}, 100, true, 101, imsg.ErrTooLarge, "payload of 101 bytes, limit 100 (see SetMaxSize, of both ends): too large"},
		{"no files", imsg.Config{}, 100, true, 3, imsg.ErrNoFDPass, "file passing is off (Config.AllowFDPass)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachQueue(t, tt.cfg, func(t *testing.T, q queuer, queue queueFunc, flush func() error, peer *imsg.Conn) {
				testutil.Must(t, q.SetMaxSize(tt.max))
				testutil.Must(t, peer.SetMaxSize(tt.max))
				var f *os.File
				if tt.file {
					f = testutil.DevNull(t)
				}
				err := queue(imsg.Header{Type: 9}, f, testutil.Pattern(9, tt.size))
				var oe *imsg.OpError
				if !errors.Is(err, tt.want) || !errors.As(err, &oe) || oe.Type != 9 || err.Error() != "imsg: "+oe.Op+" type 9: "+tt.text {
					t.Errorf("error %v", err)
				}
				if f != nil {
					testutil.WantError(t, "close of the refused file", f.Close(), nil)
				}
				if c, ok := q.(*imsg.Conn); ok {
					if tt.file {
						f = testutil.OwnFile(t)
					}
					e := c.Send(context.Background(), imsg.Header{Type: 9}, f, testutil.Pattern(9, tt.size))
					testutil.Equal(t, "Send", fmt.Sprint(e), "imsg: send type 9: "+tt.text)
				}
				testutil.Equal(t, "queue", q.QueueLen(), 0)
				n := min(tt.max, tt.size)
				testutil.Must(t, queue(imsg.Header{Type: 10}, nil, testutil.Pattern(10, n)))
				done := testutil.Go(flush)
				testutil.ReceiveFrame(t, peer, 10, n).Close()
				testutil.Check(t, <-done)
			})
		})
	}
}

// TestClearClosesFiles closes what is queued, both ways, and leaves the descriptor open.
func TestClearClosesFiles(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, &imsg.Config{AllowFDPass: true})
	out := testutil.NewProbe(t)
	in := testutil.Pass(t, peer, testutil.Frame(imsg.Current, 1, 5, true))
	half := testutil.Pass(t, peer, testutil.Frame(imsg.Current, 2, 5, true)[:18])
	testutil.Must(t, b.Compose(imsg.Header{Type: 1}, out.W, []byte("x")))
	testutil.Must(t, b.Compose(imsg.Header{Type: 2}, nil, []byte("y")))
	for range 2 {
		testutil.Must(t, b.ReadSocket())
	}
	if out.Closed() || in.Closed() || half.Closed() || b.QueueLen() != 2 {
		t.Fatal("closed too early")
	}
	b.Clear()
	testutil.WantClosed(t, "queued, received, arriving", out, in, half)
	testutil.Equal(t, "queue", b.QueueLen(), 0)
	if m, ok := b.Get(); ok {
		t.Errorf("message %d after Clear", m.Type())
	}
	if _, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0); err != nil {
		t.Errorf("the descriptor: %v", err)
	}
	if n := b.Stats(); n.Sent != (imsg.Counters{}) || n.Received.Messages != 0 || n.Received.Bytes != 21+18 {
		t.Errorf("counters %+v", n)
	}
	b.Clear()
}

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
			b := testutil.NewBuf(t, s.FD, cfg)
			testutil.Must(t, do(t, b))
		}
	}
	onConn := func(do func(t *testing.T, c, peer *imsg.Conn) error) func(*testing.T, *imsg.Config) {
		return func(t *testing.T, cfg *imsg.Config) {
			a, b := imsgtest.Pair(t, cfg)
			testutil.Must(t, do(t, a, b))
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

// What waits in a queue costs at most half as much again as its limit.
func TestQueueMemory(t *testing.T) {
	const limit = 4 << 20
	for _, tt := range []struct{ room, n int }{
		{0, 0}, {1, 1}, {1000, 1}, {5000, 5000}, {1 << 20, 5000}, {20000, 16000}, {70000, 70000}, {200000, 140000}, {1 << 20, 1 << 19},
	} {
		for _, built := range []bool{true, false} {
			b, _ := bufs(t, imsg.Config{MaxQueueBytes: limit})
			testutil.Must(t, b.SetMaxSize(1<<20))
			p := make([]byte, tt.n)
			add := func() (err error) {
				if !built {
					return b.Compose(imsg.Header{Type: 1}, nil, p)
				}
				m, err := b.Create(imsg.Header{Type: 1}, tt.room)
				if err == nil {
					defer m.Discard()
					m.Add(p)
					err = m.Commit()
				}
				return err
			}
			before := testutil.Heap()
			for add() == nil {
			}
			if used := testutil.Heap() - before; used > limit*3/2 || used < limit/2 {
				t.Errorf("%d of %d bytes, built %v: %d KiB for a queue of %d", tt.n, tt.room, built, used>>10, limit>>10)
			}
			b.Clear()
			if used := testutil.Heap() - before; used > 64<<10 {
				t.Errorf("%d of %d bytes, built %v: %d KiB are left of a queue that was cleared", tt.n, tt.room, built, used>>10)
			}
			runtime.KeepAlive(b)
		}
	}
}

// What one large message or a burst of small ones needed goes, though the
// channel stays busy.
func TestBurstMemory(t *testing.T) {
	ctx := context.Background()
	a, b := pairOf(t, &imsg.Config{MaxQueueBytes: 64 << 20})
	testutil.Must(t, errors.Join(a.SetMaxSize(32<<20), b.SetMaxSize(32<<20)))
	move := func(n, size int) {
		t.Helper()
		p := make([]byte, size)
		for range n {
			m, err := a.Create(imsg.Header{Type: 1}, size)
			if err == nil {
				m.Add(p)
				err = m.Commit()
			}
			testutil.Must(t, err)
		}
		sent := testutil.Go(func() error { return a.Flush(ctx) })
		testutil.Must(t, take(b, n))
		testutil.Must(t, <-sent)
	}
	move(1, 10)
	before := testutil.Heap()
	for _, tt := range []struct{ n, size int }{{1, 32 << 20}, {100000, 8}} {
		move(tt.n, tt.size)
		for range 5 {
			move(10, 10)
		}
		runtime.GC()
		move(10, 10)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if used := int(m.HeapAlloc) - before; used > 100<<10 {
			t.Errorf("%d KiB are left of %d messages of %d bytes", used>>10, tt.n, tt.size)
		}
	}
}

// A Buffer can be queued once.
func TestComposeBufferTwice(t *testing.T) {
	for _, n := range []int{3, 6000} {
		a, b := bufs(t, imsg.Config{})
		buf := ibuf.New(n)
		buf.Add(bytes.Repeat([]byte("x"), n))
		testutil.Must(t, a.ComposeBuffer(imsg.Header{Type: 1}, buf))
		var q ibuf.Queue
		again := func(when string) {
			t.Helper()
			for _, err := range []error{a.ComposeBuffer(imsg.Header{Type: 2}, buf), q.Push(buf), b.ComposeBuffer(imsg.Header{}, nil)} {
				testutil.WantError(t, fmt.Sprintf("%d bytes, %s", n, when), err, ibuf.ErrInvalid)
			}
		}
		again("queued")
		buf.Close() // is nobody's business
		m := pass(t, a, b)
		if m.Type() != 1 || !bytes.Equal(m.Bytes(), bytes.Repeat([]byte("x"), n)) {
			t.Errorf("%d bytes: type %d, %d bytes arrived", n, m.Type(), m.Len())
		}
		m.Close()
		again("sent")
		if a.QueueLen() != 0 || q.Len() != 0 {
			t.Errorf("%d bytes: a refused call has queued something", n)
		}

		buf = ibuf.New(1)
		buf.Add([]byte("y"))
		testutil.Must(t, q.Push(buf))
		if err := a.ComposeBuffer(imsg.Header{}, buf); !errors.Is(err, ibuf.ErrInvalid) || q.Pop() != buf || buf.Len() != 1 {
			t.Errorf("%d bytes, in another queue: %v", n, err)
		}
		buf.Close()
	}
}

// Payload parts whose sum does not fit an int of 32 bits are too large.
func TestComposeOverflow(t *testing.T) {
	a, _ := bufs(t, imsg.Config{})
	testutil.Must(t, a.SetMaxSize(1<<31-1-imsg.HeaderSize))
	p := make([]byte, 1<<20)
	for _, n := range []int{2048, 4096} { // 2 and 4 GiB
		testutil.WantError(t, fmt.Sprintf("%d MiB", n), a.Compose(imsg.Header{}, nil, slices.Repeat([][]byte{p}, n)...), imsg.ErrTooLarge)
	}
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
	testutil.SetMaxFiles(t, 64)
	a, b := imsgtest.Pair(t, nil)
	f := testutil.OwnFile(t)
	ctx := testutil.DeadlineCtx(t)
	// sendFiles sends so many files, or until one cannot be sent.
	sendFiles := func(ctx context.Context, most int) (i int, err error) {
		for err == nil && i < most {
			i++
			err = a.Send(ctx, imsg.Header{Type: uint32(i)}, f, testutil.Pattern(uint32(i), 3))
		}
		return i, err
	}
	done := testutil.Go(func() error { _, err := sendFiles(ctx, manyFiles); return err })
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
		errs := testutil.Go(func() error { return a.Send(short, imsg.Header{Type: 999}, file, []byte("x")) })
		testutil.WaitBlocked(t, 1, "(*waiter).sleep")
		cancel()
		testutil.WantError(t, "cancelled while the system has too many files", <-errs, context.Canceled)
	}
	takeFiles(t, b, 1, manyFiles)
	testutil.Check(t, <-done)
	// The one who waits for the system can give up, too.

	short, cancel := context.WithCancel(ctx)
	go func() {
		testutil.WaitBlocked(t, 1, "(*sender).pause")
		cancel()
	}()
	n, err := sendFiles(short, 1<<20)
	if !errors.Is(err, context.Canceled) || a.QueueLen() != 0 {
		t.Errorf("%v after %d files, %d queued", err, n, a.QueueLen())
	}
	takeFiles(t, b, 1, n-1)
	testutil.WantOpen(t, "the file", f)
	testutil.Check(t, a.Send(ctx, imsg.Header{Type: 1}, f, testutil.Pattern(1, 3)))
	takeFiles(t, b, 1, 1)
}

// TestTooManyRefsWriteSocket is the same for an event loop.
func TestTooManyRefsWriteSocket(t *testing.T) {
	if !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	testutil.NoLeak(t)
	testutil.SetMaxFiles(t, 64)
	sa, sb := imsgtest.Sockets(t)
	b := testutil.NewBuf(t, sa.FD, &imsg.Config{AllowFDPass: true})
	peer := testutil.NewConn(t, sb.Take(), &imsg.Config{AllowFDPass: true})
	sent := 0
	for ; sent < manyFiles && b.QueueLen() == 0; sent++ {
		testutil.Must(t, b.Compose(imsg.Header{Type: uint32(sent + 1)}, testutil.DevNull(t), testutil.Pattern(uint32(sent+1), 3)))
		testutil.Must(t, b.WriteSocket())
	}
	if b.QueueLen() == 0 {
		t.Skipf("no limit on files in flight here: %d sent", sent)
	}
	for range 3 {
		testutil.Must(t, b.WriteSocket())
		testutil.Equal(t, "queue", b.QueueLen(), 1)
	}
	if n := b.Stats().Sent; n.Messages != uint64(sent-1) || n.Files != uint64(sent-1) || n.Calls != uint64(sent-1) {
		t.Errorf("counters %+v after %d messages", n, sent-1)
	}
	takeFiles(t, peer, 1, sent-1)
	testutil.Must(t, b.Flush())
	testutil.Equal(t, "queue", b.QueueLen(), 0)
	takeFiles(t, peer, sent, 1)
}

// TestTooManyRefsEnds ends the wait for the system, which no event of the
// socket ends, for the one who waits and for one behind it.
func TestTooManyRefsEnds(t *testing.T) {
	if !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	testutil.SetMaxFiles(t, 64)
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
			f := testutil.OwnFile(t)
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
				testutil.Within(t, "the end of the wait", func() { testutil.WantError(t, "Send", <-errs, tt.want) })
			}
			if tt.want == net.ErrClosed {
				return
			}
			testutil.Equal(t, "queue", a.QueueLen(), 0)
			for range a.Stats().Sent.Messages {
				testutil.ReceiveAll(t, b, 1)
			}
			a.SetWriteDeadline(time.Time{})
			testutil.Must(t, a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 3}, f, testutil.Pattern(3, 3)))
			testutil.ReceiveAll(t, b, 3)
		})
	}
}

// TestQueuedDialect changes the dialect while messages wait: all of them go out
// in the one that is in force when they are written.
func TestQueuedDialect(t *testing.T) {
	const current, legacy, auto = imsg.Current, imsg.Legacy, imsg.Auto
	for _, ds := range [][]imsg.Dialect{ // one message of each kind is queued in all but the last
		{legacy, current}, {current, legacy}, {auto, legacy}, {auto, current}, {legacy, auto},
		{current, legacy, current}, {legacy, current, legacy}, {auto, legacy, current}, {current, current, legacy, auto},
	} {
		t.Run(fmt.Sprintf("%v to %v in %d", ds[0], ds[len(ds)-1], len(ds)), func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{Dialect: ds[0], AllowFDPass: true}
			peer, b := peerOf(t, cfg)
			peer2, sc := imsgtest.Sockets(t)
			c := testutil.NewConn(t, sc.Take(), cfg)
			_, lost := one(t, testutil.Frame(imsg.Current, 3, 6, true))
			var want, want2 []byte
			last := ds[len(ds)-1]
			for _, d := range ds[:len(ds)-1] {
				b.SetDialect(d)
				c.SetDialect(d)
				for _, compose := range []func(imsg.Header, *os.File, ...[]byte) error{b.Compose, c.Compose} {
					testutil.Must(t, compose(imsg.Header{Type: 1, ID: 2, PID: 3}, nil, testutil.Pattern(1, 5)))
					testutil.Must(t, compose(imsg.Header{Type: 2, ID: 3, PID: 4}, testutil.DevNull(t)))
				}
				p := append(testutil.Frame(last, 1, 5, false), testutil.Frame(last, 2, 0, true)...)
				want, want2 = append(want, p...), append(want2, p...)
			}
			if runtime.GOOS == "linux" { // elsewhere nobody tells what the peer has read
				testutil.Must(t, b.Forward(lost[0]))
				want = append(want, testutil.Frame(last, 3, 6, true)...)
			}
			b.SetDialect(last)
			c.SetDialect(last)
			testutil.Must(t, b.Flush())
			testutil.Must(t, c.Flush(testutil.DeadlineCtx(t)))
			wantWritten(t, peer, want)
			wantWritten(t, peer2, want2)
		})
	}
}

// wantWritten fails the test unless the peer of s has written p.
func wantWritten(t *testing.T, s *imsgtest.Socket, p []byte) {
	t.Helper()
	var got []byte
	for len(got) < len(p) {
		got = append(got, testutil.ReadAvailable(t, s.FD)...)
	}
	if !bytes.Equal(got, p) {
		t.Errorf("wrote\n% x, want\n% x", got, p)
	}
}

// TestTornDialect changes the dialect while the rest of a message waits that
// Send wrote a part of: the rest is payload, and left alone.
func TestTornDialect(t *testing.T) {
	testutil.NoLeak(t)
	a, b := pairOf(t, nil)
	testutil.Must(t, errors.Join(a.SetMaxSize(1<<20), b.SetMaxSize(1<<20)))
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	sent := testutil.Go(func() error { return a.Send(ctx, imsg.Header{Type: 1}, nil, testutil.Pattern(1, 1<<20)) })
	for a.Stats().Sent.Bytes == 0 && ctx.Err() == nil {
		runtime.Gosched()
	}
	cancel()
	testutil.WantError(t, "a message that does not fit the socket", <-sent, context.Canceled)
	a.SetDialect(imsg.Legacy)
	testutil.Must(t, a.Compose(imsg.Header{Type: 2}, nil, testutil.Pattern(2, 4)))
	a.SetDialect(imsg.Current)
	done := testutil.Go(func() error { return a.Flush(testutil.DeadlineCtx(t)) })
	testutil.ReceiveFrame(t, b, 1, 1<<20).Close()
	testutil.ReceiveFrame(t, b, 2, 4).Close()
	testutil.Check(t, <-done)
}
