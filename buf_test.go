package imsg_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// bufs returns two connected Bufs with file passing, cleared when the test ends.
func bufs(t *testing.T, cfg imsg.Config) (a, b *imsg.Buf) {
	t.Helper()
	cfg.AllowFDPass = true
	x, y := imsgtest.Sockets(t)
	a, b = imsg.NewBuf(x.FD, &cfg), imsg.NewBuf(y.FD, &cfg)
	t.Cleanup(a.Clear)
	t.Cleanup(b.Clear)
	return a, b
}

// peerOf returns a Buf whose peer is a bare socket.
func peerOf(t *testing.T, cfg *imsg.Config) (peer *imsgtest.Socket, b *imsg.Buf) {
	t.Helper()
	peer, s := imsgtest.Sockets(t)
	return peer, testutil.NewBuf(t, s.FD, cfg)
}

// pass flushes a and returns the next message at b.
func pass(t *testing.T, a, b *imsg.Buf) imsg.Message {
	t.Helper()
	testutil.Must(t, a.Flush())
	for range 100 {
		if m, ok := b.Get(); ok {
			return m
		}
		testutil.Must(t, b.ReadSocket())
	}
	t.Fatal("no message")
	return imsg.Message{}
}

// push writes p and lets b read all of it.
func push(t *testing.T, peer *imsgtest.Socket, b *imsg.Buf, p []byte, fds ...int) {
	t.Helper()
	all := b.Stats().Received.Bytes + uint64(len(p))
	for peer.Write(p, fds...); b.Stats().Received.Bytes < all; {
		testutil.Must(t, b.ReadSocket())
	}
}

// getFrame takes a message that Frame made, and b has read.
func getFrame(t *testing.T, b *imsg.Buf, typ uint32, payload int) imsg.Message {
	t.Helper()
	m, ok := b.Get()
	if !ok {
		t.Fatalf("no message %d", typ)
	}
	testutil.CheckFrame(t, m, typ, payload)
	return m
}

// compose queues a message at a and returns it as it arrives at b.
func compose(t *testing.T, a, b *imsg.Buf, h imsg.Header, f *os.File, data ...[]byte) imsg.Message {
	t.Helper()
	testutil.Must(t, a.Compose(h, f, data...))
	return pass(t, a, b)
}

func TestCompose(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	m := compose(t, a, b, imsg.Header{Type: 9, ID: 8}, nil, []byte("one "), nil, []byte("two"))
	if m.Header() != (imsg.Header{Type: 9, ID: 8, PID: int32(os.Getpid())}) || string(m.Bytes()) != "one two" {
		t.Errorf("%+v %q", m.Header(), m.Bytes())
	}
	m.Close()

	// Input is copied.
	p := []byte("before")
	testutil.Must(t, a.Compose(imsg.Header{PID: -1}, nil, p))
	copy(p, "after!")
	m = pass(t, a, b)
	if string(m.Bytes()) != "before" || m.PID() != -1 {
		t.Errorf("%q from %d", m.Bytes(), m.PID())
	}
	m.Close()

	// A call that fails takes nothing.
	w := testutil.NewProbe(t).W
	if err := a.Compose(imsg.Header{Type: 4}, w, make([]byte, 16369)); !errors.Is(err, imsg.ErrTooLarge) || !strings.Contains(err.Error(), "type 4: payload of 16369 bytes, limit 16368") {
		t.Errorf("too large: %v", err)
	}
	x, _ := imsgtest.Sockets(t)
	off := imsg.NewBuf(x.FD, nil)
	testutil.WantError(t, "a file without file passing", off.Compose(imsg.Header{Type: 4}, w), imsg.ErrNoFDPass)
	if _, err := w.Write(nil); err != nil || a.QueueLen() != 0 || off.QueueLen() != 0 {
		t.Errorf("something was taken: %v, %d and %d queued", err, a.QueueLen(), off.QueueLen())
	}
	off.AllowFDPass()
	testutil.Check(t, off.Compose(imsg.Header{}, w))
	off.Clear()
}

func TestComposeBuffer(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	file := testutil.NewProbe(t)
	p := ibuf.New(8)
	p.Add([]byte("skipdata"))
	p.Skip(4)
	p.SetFile(file.W)
	testutil.Must(t, a.ComposeBuffer(imsg.Header{Type: 5}, p))
	testutil.Equal(t, "queue", a.QueueLen(), 1)
	m := pass(t, a, b)
	if m.Type() != 5 || string(m.Bytes()) != "data" || !m.HasFile() {
		t.Errorf("type %d, %q, file %v", m.Type(), m.Bytes(), m.HasFile())
	}
	testutil.Equal(t, "bytes of the buffer that was sent", p.Len(), 0)
	m.Close()
	testutil.WantClosed(t, "the file", file)

	big := ibuf.New(16369)
	big.AddZero(16369)
	if err := a.ComposeBuffer(imsg.Header{}, big); !errors.Is(err, syscall.ERANGE) || big.Len() != 16369 {
		t.Errorf("too large: %v, %d bytes left", err, big.Len())
	}
}

func TestQueueLen(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	testutil.Equal(t, "queue", a.QueueLen(), 0)
	for i := range 5 {
		a.Compose(imsg.Header{}, nil, make([]byte, 100))
		testutil.Equal(t, "queue", a.QueueLen(), i+1)
	}
	testutil.Check(t, a.WriteSocket())
	testutil.Equal(t, "queue", a.QueueLen(), 0)
	for range 5 {
		pass(t, a, b).Close()
	}
}

// fill queues p and writes until the socket takes no more.
func fill(t *testing.T, b *imsg.Buf, p []byte) {
	t.Helper()
	for b.QueueLen() == 0 {
		for range 8 {
			testutil.Must(t, b.Compose(imsg.Header{Type: 1}, nil, p))
		}
		for last := -1; last != b.QueueLen(); {
			last = b.QueueLen()
			testutil.Must(t, b.WriteSocket())
		}
	}
}

func TestWriteSocket(t *testing.T) {
	a, b := bufs(t, imsg.Config{})
	testutil.WantError(t, "with an empty queue", a.WriteSocket(), nil)
	testutil.WantError(t, "read of nothing", b.ReadSocket(), nil)
	p := bytes.Repeat([]byte("x"), 10000)
	fill(t, a, p)
	if n := a.QueueLen(); a.WriteSocket() != nil || a.QueueLen() != n {
		t.Error("a full socket is an error, or took something")
	}
	sent := a.Stats().Sent.Messages + uint64(a.QueueLen())
	for got := range sent {
		var m imsg.Message
		for ok := false; !ok; m, ok = b.Get() {
			testutil.Must(t, a.WriteSocket())
			testutil.Must(t, b.ReadSocket())
		}
		if !bytes.Equal(m.Bytes(), p) {
			t.Fatalf("message %d differs", got)
		}
		m.Close()
	}

	x, y := imsgtest.Sockets(t)
	c := imsg.NewBuf(x.FD, &imsg.Config{AllowFDPass: true})
	file := testutil.NewProbe(t)
	c.Compose(imsg.Header{}, file.W, p)
	y.Close()
	err := c.WriteSocket()
	if !errors.Is(err, syscall.EPIPE) || c.WriteSocket() != err || c.Flush() != err || c.Compose(imsg.Header{}, nil) != err {
		t.Errorf("after the peer has gone: %v", err)
	}
	testutil.WantClosed(t, "the file", file)
}

// nonblocking reports the mode of fd.
func nonblocking(t testing.TB, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	testutil.Must(t, err)
	return flags&unix.O_NONBLOCK != 0
}

// TestBufOnAnyDescriptor uses a Buf on a blocking and on a non-blocking descriptor.
func TestBufOnAnyDescriptor(t *testing.T) {
	for _, nonblock := range []bool{true, false} {
		for _, files := range []bool{true, false} {
			t.Run(fmt.Sprintf("nonblock %v files %v", nonblock, files), func(t *testing.T) {
				testutil.NoLeak(t)
				peer, s := imsgtest.Sockets(t)
				testutil.Must(t, unix.SetNonblock(s.FD, nonblock))
				b := imsg.NewBuf(s.FD, &imsg.Config{AllowFDPass: files})
				if nonblock {
					for range 3 { // nothing has arrived
						testutil.Must(t, b.ReadSocket())
						if _, ok := b.Get(); ok {
							t.Fatal("a message out of nothing")
						}
					}
				}
				peer.Write(append(testutil.Frame(imsg.Current, 1, 4, false), testutil.Frame(imsg.Current, 2, 4, false)...))
				testutil.Must(t, b.ReadSocket())
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
				testutil.Equal(t, "messages", types, "12")
				if err := b.WriteSocket(); err != nil { // nothing to write
					t.Error(err)
				}
				testutil.Check(t, b.Flush())
				testutil.Must(t, b.Compose(imsg.Header{Type: 3}, nil, []byte("z")))
				testutil.Check(t, b.WriteSocket())
				testutil.Equal(t, "queue", b.QueueLen(), 0)
				p := make([]byte, 32)
				if n, err := unix.Read(peer.FD, p); err != nil || n != 17 || p[16] != 'z' {
					t.Errorf("%d bytes, %v", n, err)
				}
				peer.Close()
				testutil.Equal(t, "at the end", b.ReadSocket(), io.EOF)
				b.Clear()
				testutil.Equal(t, "non-blocking", nonblocking(t, s.FD), nonblock)
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
			testutil.Must(t, imsg.NewBuf(sa.FD, cfg).ReadSocket())
			for _, s := range []*imsgtest.Socket{sa, sb} {
				testutil.Must(t, unix.SetNonblock(s.FD, false))
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
				testutil.Must(t, errors.Join(b.Compose(imsg.Header{Type: i + 1}, nil), b.Flush(), b.ReadSocket()))
				m, ok := b.Get()
				if !ok || m.Type() != i+1 {
					t.Fatalf("type %d, %v", m.Type(), ok)
				}
				m.Close()
			}
			sa.Close()
			testutil.Equal(t, "at the end", <-done, io.EOF)
		})
	}
}

// TestFlushWaits blocks a Flush on a full socket: it must sleep in poll(2).
func TestFlushWaits(t *testing.T) {
	testutil.NoLeak(t)
	sa, sb := imsgtest.Sockets(t)
	b := imsg.NewBuf(sa.FD, nil)
	peer := testutil.NewConn(t, sb.Take(), nil)
	const n = 500
	for i := range n {
		testutil.Must(t, b.Compose(imsg.Header{Type: uint32(i + 1)}, nil, testutil.Pattern(uint32(i+1), 5000)))
	}
	for before := -1; before != b.QueueLen(); { // an event loop does not block
		before = b.QueueLen()
		testutil.Must(t, b.WriteSocket())
	}
	if b.QueueLen() == 0 {
		t.Fatal("the socket is not full")
	}
	done := testutil.Go(b.Flush)
	testutil.WaitSystemCall(t, 1, "unixmsg.Poll")
	for i := range n {
		testutil.ReceiveAll(t, peer, uint32(i+1))
	}
	testutil.Check(t, <-done)
	testutil.Equal(t, "queue", b.QueueLen(), 0)
	if s := b.Stats().Sent; s.Messages != n || s.Bytes != n*5016 {
		t.Errorf("counters %+v", s)
	}
}

// TestMaxPendingBytes reads until so many bytes wait to be taken.
func TestMaxPendingBytes(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := peerOf(t, &imsg.Config{MaxPendingBytes: 3000})
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
				testutil.WantOp(t, "full", err, "receive", imsg.ErrQueueFull)
				if !strings.HasSuffix(err.Error(), "bytes of messages wait to be taken, limit 3000 (MaxPendingBytes): queue full") {
					t.Errorf("error %v", err)
				}
				testutil.Equal(t, "bytes read in spite of ErrQueueFull", b.Stats().Received.Bytes, before)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		getFrame(t, b, uint32(i+1), 984).Close()
	}
	if !full {
		t.Error("never full")
	}
	peer.Close()
	testutil.Equal(t, "at the end", b.ReadSocket(), io.EOF)
}

// TestBufAllowFDPass switches file passing on later.
func TestBufAllowFDPass(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := peerOf(t, nil)
	f := testutil.DevNull(t)
	testutil.WantError(t, "the error", b.Compose(imsg.Header{Type: 1}, f), imsg.ErrNoFDPass)
	for i, allowed := range []bool{false, true} {
		p := testutil.Pass(t, peer, testutil.Frame(imsg.Current, uint32(i+1), 3, true))
		if allowed {
			b.AllowFDPass()
		}
		testutil.Must(t, b.ReadSocket())
		m, ok := b.Get()
		if !ok || m.HasFile() != allowed || p.Closed() == allowed || (m.FileErr() == nil) != allowed {
			t.Errorf("allowed %v: message %v, file %v, closed %v, %v", allowed, ok, m.HasFile(), p.Closed(), m.FileErr())
		}
		m.Close()
	}
	testutil.Check(t, b.Compose(imsg.Header{Type: 1}, f))
}

func TestForwardTwice(t *testing.T) {
	testutil.NoLeak(t)
	p := testutil.NewProbe(t)
	raw := slices.Concat(testutil.RawHeader(imsg.Current, 7, 16+6, true), []byte("secret"))
	_, ms := one(t, raw, p.Fd())
	p.W.Close()
	m := ms[0]
	out, in := bufs(t, imsg.Config{})
	testutil.Must(t, m.Get(make([]byte, 3)))
	for range 2 {
		testutil.Must(t, out.Forward(m))
	}
	if m.Len() != 6 || string(m.Bytes()) != "secret" || !m.HasFile() || p.Closed() { // rewound, as in C
		t.Errorf("the original: %d bytes, file %v", m.Len(), m.HasFile())
	}
	m.Close()
	if err := out.Forward(m); !errors.Is(err, ibuf.ErrInvalid) || out.QueueLen() != 2 {
		t.Errorf("a closed message: %v, %d queued", err, out.QueueLen())
	}
	for range 2 {
		m := pass(t, out, in)
		if m.Header() != (imsg.Header{Type: 7, ID: 8, PID: 9}) || string(m.Bytes()) != "secret" || !m.HasFile() || m.FileErr() != nil {
			t.Errorf("forwarded: %+v %q, file %v, %v", m.Header(), m.Bytes(), m.HasFile(), m.FileErr())
		}
		m.Close()
	}
	testutil.WantClosed(t, "a duplicate of the file", p)
}

// TestForwardLimits forwards to a channel that must refuse.
func TestForwardLimits(t *testing.T) {
	testutil.NoLeak(t)
	_, ms := one(t, testutil.Frame(imsg.Current, 1, 100, false))
	sa, sb := imsgtest.Sockets(t)
	out := imsg.NewBuf(sa.FD, &imsg.Config{MaxQueueMessages: 1})
	testutil.Must(t, out.SetMaxSize(99))
	if err := out.Forward(ms[0]); !errors.Is(err, imsg.ErrTooLarge) || out.QueueLen() != 0 {
		t.Errorf("%v, %d queued", err, out.QueueLen())
	}
	testutil.Must(t, out.SetMaxSize(100))
	testutil.Check(t, out.Forward(ms[0]))
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
	testutil.Must(t, ms[0].Get(make([]byte, 2)))
	for _, m := range ms {
		testutil.Must(t, imsg.Push(&q, m))
		if m.Len() != 0 || m.Type() != 0 || m.HasFile() {
			t.Errorf("pushed, but not closed: type %d, %d bytes", m.Type(), m.Len())
		}
		testutil.WantError(t, "push of a closed message", imsg.Push(&q, m), ibuf.ErrInvalid)
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
	testutil.WantClosed(t, "the file", p)
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
	testutil.WantError(t, "received", ms[0].FileErr(), imsg.ErrFileLost)
	var q ibuf.Queue
	testutil.Must(t, imsg.Push(&q, ms[0]))
	m, _, err := imsg.Pop(&q)
	testutil.Must(t, err)
	defer m.Close()
	testutil.WantError(t, "popped", m.FileErr(), imsg.ErrFileLost)
}

// TestKeptMessages keeps messages while their neighbours come and go.
func TestKeptMessages(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := peerOf(t, nil)
	kept := map[uint32]imsg.Message{}
	typ := uint32(0)
	for round := range 300 {
		for range 1 + round%5 {
			typ++
			peer.Write(testutil.Frame(imsg.Current, typ, int(typ*37)%3000, false))
		}
		for b.Stats().Received.Messages < uint64(typ) {
			testutil.Must(t, b.ReadSocket())
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
		testutil.WantError(t, fmt.Sprint("message ", k), m.Close(), nil)
	}
}

// TestBufErrorsStick breaks the sending direction and then asks everything
// that would send: the same error each time, and nothing is taken.
func TestBufErrorsStick(t *testing.T) {
	testutil.NoLeak(t)
	a, peer := imsgtest.Sockets(t)
	peer.Close()
	b := imsg.NewBuf(a.FD, &imsg.Config{AllowFDPass: true})
	h := imsg.Header{Type: 1}
	_, ms := one(t, testutil.Frame(imsg.Current, 1, 1, false))
	defer ms[0].Close()
	built, err := b.Create(h, 10)
	testutil.Must(t, err)
	defer built.Discard()
	f := testutil.OwnFile(t)
	testutil.Must(t, b.Compose(h, nil))
	want := b.WriteSocket()
	testutil.WantError(t, "WriteSocket", want, syscall.EPIPE)
	buf := ibuf.New(1)
	defer buf.Close()
	for name, err := range map[string]error{
		"Compose":       b.Compose(h, f),
		"ComposeBuffer": b.ComposeBuffer(h, buf),
		"Forward":       b.Forward(ms[0]),
		"Commit":        built.Commit(),
		"WriteSocket":   b.WriteSocket(),
		"Flush":         b.Flush(),
	} {
		testutil.Equal(t, name, err, want)
	}
	testutil.Equal(t, "queue", b.QueueLen(), 0)
	testutil.WantOpen(t, "the file that was not taken", f)
	if _, err := b.PeerCred(); err != nil { // a socket without a peer still knows who it was
		t.Errorf("PeerCred: %v", err)
	}
}
