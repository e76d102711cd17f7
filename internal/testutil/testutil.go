// Package testutil has the helpers that the tests of several packages share.
package testutil

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// Bound is how long anything may take before a test gives up on it.
const Bound = 10 * time.Second

// Dialects are all of them.
var Dialects = []imsg.Dialect{imsg.Current, imsg.Legacy, imsg.Auto}

// NoLeak fails the test if it ends with other descriptors than it has now.
// Call it first: later cleanups run before its own.
func NoLeak(t testing.TB) {
	t.Helper()
	before := imsgtest.OpenFDs()
	t.Cleanup(func() {
		for fd, name := range imsgtest.OpenFDs() {
			if _, ok := before[fd]; !ok {
				t.Errorf("descriptor %d (%s) is left", fd, name)
			}
		}
	})
}

// These are check's, for tests that may import this package.
var (
	Must      = check.Must
	Check     = check.NoError
	WantError = check.Is
	Equal     = check.Equal

	InChild        = check.InChild
	NeedExec       = check.NeedExec
	AsOrdinaryUser = check.AsOrdinaryUser
	SetMaxFiles    = check.SetMaxFiles
	FillTable      = check.FillTable
)

// ChildEnv is check's, too.
const ChildEnv = check.ChildEnv

// DeadlineCtx returns a context that bounds a failure.
func DeadlineCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Bound)
	t.Cleanup(cancel)
	return ctx
}

// Frame is one whole message as dialect d writes it, its payload a pattern
// that depends on the type.
func Frame(d imsg.Dialect, typ uint32, payload int, file bool) []byte {
	p := RawHeader(d, typ, imsg.HeaderSize+payload, file)
	return append(p, Pattern(typ, payload)...)
}

// RawHeader is a header that may lie about the length.
func RawHeader(d imsg.Dialect, typ uint32, n int, file bool) []byte {
	p := make([]byte, imsg.HeaderSize)
	d.Encode(p, binary.NativeEndian, imsg.Header{Type: typ, ID: typ + 1, PID: int32(typ) + 2}, n, file)
	return p
}

// Pattern is a payload of n bytes that depends on the seed.
func Pattern(seed uint32, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(uint32(i)*7 + seed*13 + 1)
	}
	return p
}

// CheckFrame fails the test unless m is what Frame or a Send of Pattern made.
func CheckFrame(t testing.TB, m imsg.Message, typ uint32, payload int) {
	t.Helper()
	if m.Type() != typ || m.Len() != payload || string(m.Bytes()) != string(Pattern(typ, payload)) {
		t.Fatalf("message of type %d with %d bytes, want type %d with %d bytes of its pattern", m.Type(), m.Len(), typ, payload)
	}
}

// A Side is one side of a channel, a Buf or a Conn, as the tests drive both.
type Side struct {
	Next  func() (imsg.Message, error) // waits for a message
	Send  func(h imsg.Header, f *os.File, data ...[]byte) error
	Stats func() imsg.Stats
	Clear func() // gives up everything the side holds
	Set   func(int) error

	Dialect    func() imsg.Dialect
	SetDialect func(imsg.Dialect)
	FD         int // borrowed
}

// BufSide is the side of a Buf on the descriptor fd.
func BufSide(t testing.TB, b *imsg.Buf, fd int) *Side {
	return &Side{
		Next: func() (imsg.Message, error) {
			for {
				if m, ok := b.Get(); ok {
					return m, nil
				}
				had := b.Stats().Received.Bytes
				if err := b.ReadSocket(); err != nil {
					if m, ok := b.Get(); ok {
						return m, nil
					}
					return imsg.Message{}, err
				}
				if b.Stats().Received.Bytes == had {
					WaitFD(t, fd, unix.POLLIN)
				}
			}
		},
		Send: func(h imsg.Header, f *os.File, data ...[]byte) error {
			if err := b.Compose(h, f, data...); err != nil {
				return err
			}
			return b.Flush()
		},
		Stats: b.Stats,
		Clear: b.Clear,
		Set:   b.SetMaxSize,

		Dialect:    b.Dialect,
		SetDialect: b.SetDialect,
		FD:         fd,
	}
}

func connSide(t testing.TB, c *imsg.Conn) *Side {
	return &Side{
		Next:  func() (imsg.Message, error) { return c.Receive(DeadlineCtx(t)) },
		Send:  func(h imsg.Header, f *os.File, data ...[]byte) error { return c.Send(DeadlineCtx(t), h, f, data...) },
		Stats: c.Stats,
		Clear: func() { c.Close() },
		Set:   c.SetMaxSize,

		Dialect:    c.Dialect,
		SetDialect: c.SetDialect,
	}
}

// BothSides runs fn for a Buf and for a Conn, whose peer is a bare socket.
func BothSides(t *testing.T, cfg imsg.Config, fn func(t *testing.T, peer *imsgtest.Socket, s *Side)) {
	t.Helper()
	t.Run("buf", func(t *testing.T) {
		NoLeak(t)
		peer, b := imsgtest.Sockets(t)
		buf := imsg.NewBuf(b.FD, &cfg)
		t.Cleanup(buf.Clear)
		fn(t, peer, BufSide(t, buf, b.FD))
	})
	t.Run("conn", func(t *testing.T) {
		NoLeak(t)
		peer, b := imsgtest.Sockets(t)
		fd := b.Take()
		c, err := imsg.NewConn(fd, &cfg)
		Must(t, err)
		t.Cleanup(func() { c.Close() })
		s := connSide(t, c)
		s.FD = fd
		fn(t, peer, s)
	})
}

// EachDialect runs BothSides for the dialects given.
func EachDialect(t *testing.T, ds []imsg.Dialect, cfg imsg.Config, fn func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *Side)) {
	t.Helper()
	for _, d := range ds {
		t.Run(d.String(), func(t *testing.T) {
			cfg.Dialect = d
			BothSides(t, cfg, func(t *testing.T, peer *imsgtest.Socket, s *Side) { fn(t, d, peer, s) })
		})
	}
}

// WaitFD waits until fd has one of the events.
func WaitFD(t testing.TB, fd int, events int16) {
	t.Helper()
	end := time.Now().Add(Bound)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(Bound/time.Millisecond))
		switch {
		case err == unix.EINTR && time.Now().Before(end):
		case err != nil:
			t.Fatal(err)
		case n == 0:
			t.Fatalf("descriptor %d: no event within %v", fd, Bound)
		default:
			return
		}
	}
}

// ReadAvailable waits for bytes at fd and returns one read of them; files that
// come along are closed.
func ReadAvailable(t testing.TB, fd int) []byte {
	t.Helper()
	WaitFD(t, fd, unix.POLLIN)
	p := make([]byte, 1<<16)
	n, err := unix.Read(fd, p)
	Must(t, err)
	return p[:n]
}

// WaitBlocked waits until n goroutines sleep inside the function named, which
// is the only event that such a goroutine gives.
func WaitBlocked(t testing.TB, n int, function string) {
	t.Helper()
	waitGoroutines(t, n, function, "[IO wait", "[select", "[chan receive")
}

// WaitSystemCall waits until n goroutines are in a system call of the function
// named, which only waits.
func WaitSystemCall(t testing.TB, n int, function string) {
	t.Helper()
	waitGoroutines(t, n, function, "[syscall")
}

func waitGoroutines(t testing.TB, n int, function string, states ...string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(Bound); ; {
		got, size := 0, runtime.Stack(buf, true)
		for ; size == len(buf); size = runtime.Stack(buf, true) {
			buf = make([]byte, 2*len(buf)) // how long it is depends on the names of folders, too
		}
		for g := range strings.SplitSeq(string(buf[:size]), "\n\n") {
			if strings.Contains(g, function+"(") && slices.ContainsFunc(states, func(s string) bool { return strings.Contains(g, s) }) {
				got++
			}
		}
		if got >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines wait in %s, want %d:\n%s", got, function, n, buf[:min(size, 64<<10)])
		}
		runtime.Gosched()
	}
}

// Within fails the test if what f does takes longer than bound.
func Within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(Bound):
		t.Fatalf("%s: not done after %v", what, Bound)
	}
}

// StartSelf starts this binary again, with one end of a channel, which passes
// files, as descriptor fd, to run one test. There ChildEnv is role.
func StartSelf(t *testing.T, test, role string, fd int, change func(*exec.Cmd)) (*imsg.Conn, *exec.Cmd) {
	t.Helper()
	exe, err := os.Executable()
	Must(t, err)
	cmd := exec.Command(exe, "-test.run=^"+test+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), ChildEnv+"="+role)
	cmd.Stderr = os.Stderr
	if change != nil {
		change(cmd)
	}
	c, err := imsg.StartChild(cmd, fd, &imsg.Config{AllowFDPass: true})
	if err != nil {
		NeedExec(t, err)
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, cmd
}

// DevNull opens a file that is not a socket.
func DevNull(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	Must(t, err)
	return f
}

// OwnFile opens one that is closed when the test ends.
func OwnFile(t testing.TB) *os.File {
	t.Helper()
	f := DevNull(t)
	t.Cleanup(func() { f.Close() })
	return f
}

const fillType = 0xf111

// FillConn sends messages behind the Conn's back until its socket takes no more,
// and returns how many. Each goes whole or not at all.
func FillConn(t testing.TB, c *imsg.Conn) (n int) {
	t.Helper()
	f, err := c.File()
	Must(t, err)
	defer f.Close()
	rc, err := f.SyscallConn()
	Must(t, err)
	p := Frame(imsg.Current, fillType, 48, false)
	rc.Control(func(fd uintptr) {
		for {
			var k int
			if k, err = unix.Write(int(fd), p); err != nil {
				return
			} else if k != len(p) {
				err = fmt.Errorf("%d bytes of %d written", k, len(p))
				return
			}
			n++
		}
	})
	if err != unix.EAGAIN || n == 0 {
		t.Fatalf("fillConn: %d messages, %v", n, err)
	}
	return n
}

// DrainConn receives n of FillConn's messages.
func DrainConn(t testing.TB, c *imsg.Conn, n int) {
	t.Helper()
	for range n {
		ReceiveFrame(t, c, fillType, 48).Close()
	}
}

// ReceiveAll receives messages of the types given, whose payload is the pattern.
func ReceiveAll(t testing.TB, c *imsg.Conn, types ...uint32) {
	t.Helper()
	for _, typ := range types {
		m := Receive(t, c)
		CheckFrame(t, m, typ, m.Len())
		m.Close()
	}
}

// WaitQueue waits until n messages are queued.
func WaitQueue(t testing.TB, c *imsg.Conn, n int) {
	t.Helper()
	for end := time.Now().Add(Bound); c.QueueLen() != n; {
		if time.Now().After(end) {
			t.Fatalf("%d messages queued, want %d", c.QueueLen(), n)
		}
		runtime.Gosched()
	}
}

// MustNext takes the next message, which must be what Frame made.
func MustNext(t *testing.T, s *Side, typ uint32, payload int) imsg.Message {
	t.Helper()
	m, err := s.Next()
	if err != nil {
		t.Fatalf("message %d: %v", typ, err)
	}
	CheckFrame(t, m, typ, payload)
	return m
}

// LeavesOpen reports whether some of n files that are received with room for
// one are left open without telling. Padding is room for a second one on
// 64 bits.
func LeavesOpen(t *testing.T, n int) bool {
	t.Helper()
	a, b := imsgtest.Sockets(t)
	p := NewProbe(t)
	before := imsgtest.OpenFDs()
	a.Write([]byte{0}, slices.Repeat([]int{p.Fd()}, n)...)
	oob := make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(b.FD, make([]byte, 1), oob, 0)
	Must(t, err)
	msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range msgs {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	left := 0
	for fd := range imsgtest.OpenFDs() {
		if _, ok := before[fd]; !ok {
			unix.Close(fd)
			left++
		}
	}
	return left > 0
}

// PassOver takes and closes the next message, which must be what Frame made, with
// a file or without.
func PassOver(t *testing.T, s *Side, typ uint32, payload int, file bool) {
	t.Helper()
	m := MustNext(t, s, typ, payload)
	WantFile(t, m, file)
	m.Close()
}

// SameError takes n errors and fails the test unless each is err itself.
func SameError(t *testing.T, err error, n int, again func() error) {
	t.Helper()
	for range n {
		if e := again(); e != err {
			t.Fatalf("a later call returned %v, want %v again", e, err)
		}
	}
}

// ReceiveError takes the next message and fails the test unless there is none.
func ReceiveError(t *testing.T, s *Side) error {
	t.Helper()
	m, err := s.Next()
	if err == nil {
		t.Fatalf("message of type %d, want an error", m.Type())
	}
	SameError(t, err, 3, func() error { _, err := s.Next(); return err })
	return err
}

// A Piece is what one sendmsg(2) carries: bytes, and a file with the first of
// them or -1.
type Piece struct {
	P  []byte
	Fd int
}

// Batching says how a sender of the time groups messages into sends.
type Batching struct {
	Name    string
	Dialect imsg.Dialect
	Last    bool // the message with the file ends its send, and the file goes with the first byte
}

// Batchings are the ways in which writers of the time group messages.
var Batchings = []Batching{
	{"current", imsg.Current, false},
	{"legacy", imsg.Legacy, false},
	{"legacy before 2021", imsg.Legacy, true},
}

// LittleEndian reports the byte order of this machine.
func LittleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }

// A WireMsg is one message of a test stream; file is an index into the test's
// files, or -1.
type WireMsg struct {
	Size, File int
}

// Encode returns the sends that carry msgs.
func (bt Batching) Encode(msgs []WireMsg, fds []int) []Piece {
	var ps []Piece
	cur := Piece{Fd: -1}
	flush := func() {
		if len(cur.P) > 0 {
			ps = append(ps, cur)
		}
		cur = Piece{Fd: -1}
	}
	for i, m := range msgs {
		file := m.File >= 0
		if file {
			if !bt.Last || cur.Fd >= 0 {
				flush()
			}
			cur.Fd = fds[m.File]
		}
		var hdr [imsg.HeaderSize]byte
		bt.Dialect.Encode(hdr[:], binary.NativeEndian, imsg.Header{Type: uint32(i), ID: 7, PID: 9}, len(hdr)+m.Size, file)
		cur.P = append(append(cur.P, hdr[:]...), Payload(i, m.Size)...)
		if file && bt.Last {
			flush()
		}
	}
	flush()
	return ps
}

// Payload is that of message i of a test stream.
func Payload(i, n int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, n) }

// NeedTruncation skips the test where files that do not fit a control message
// are left open, so that nobody can close them: in qemu's user mode, for one.
func NeedTruncation(t *testing.T) {
	t.Helper()
	if LeavesOpen(t, 4) {
		t.Skip("files that did not fit a control message are left open here")
	}
}

// Heap collects garbage and returns what is left: what channels keep for a
// while takes a few runs to go.
func Heap() (least int) {
	for same := 0; same < 5; same++ {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		if n := int(s.HeapAlloc); least == 0 || n < least-1000 {
			least, same = n, 0
		}
	}
	return least
}

// NewConn returns a Conn on fd, which is closed when the test ends.
func NewConn(t testing.TB, fd int, cfg *imsg.Config) *imsg.Conn {
	t.Helper()
	c, err := imsg.NewConn(fd, cfg)
	Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// NewBuf returns a Buf on fd, which is cleared when the test ends.
func NewBuf(t testing.TB, fd int, cfg *imsg.Config) *imsg.Buf {
	t.Helper()
	b := imsg.NewBuf(fd, cfg)
	t.Cleanup(b.Clear)
	return b
}

// Go runs f on a goroutine of its own and returns where its error comes.
func Go(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// WantFile fails the test unless m has a file or not, and none was lost.
func WantFile(t testing.TB, m imsg.Message, want bool) {
	t.Helper()
	if m.HasFile() != want || m.FileErr() != nil {
		t.Errorf("message of type %d: file %v, %v; want %v", m.Type(), m.HasFile(), m.FileErr(), want)
	}
}

// WantLost fails the test unless m's file was lost on the way.
func WantLost(t testing.TB, m imsg.Message) {
	t.Helper()
	if m.HasFile() || !errors.Is(m.FileErr(), imsg.ErrFileLost) {
		t.Errorf("message of type %d: file %v, %v; want ErrFileLost", m.Type(), m.HasFile(), m.FileErr())
	}
}

// WantOp fails the test unless err is want in an OpError of op, which it returns.
func WantOp(t testing.TB, what string, err error, op string, want error) *imsg.OpError {
	t.Helper()
	oe, ok := errors.AsType[*imsg.OpError](err)
	if !ok || oe.Op != op || !errors.Is(err, want) {
		t.Errorf("%s: %#v, want %v in an OpError of %q", what, err, want, op)
		return &imsg.OpError{}
	}
	return oe
}

// Exchange sends a message and receives it.
func Exchange(t testing.TB, from, to *imsg.Conn, typ uint32, payload int) {
	t.Helper()
	Must(t, from.Send(DeadlineCtx(t), imsg.Header{Type: typ}, nil, Pattern(typ, payload)))
	ReceiveFrame(t, to, typ, payload).Close()
}

// WantEOF receives the end of the channel's stream.
func WantEOF(t testing.TB, c *imsg.Conn) {
	t.Helper()
	_, err := c.Receive(DeadlineCtx(t))
	Equal(t, "the end", err, io.EOF)
}

// Receive receives a message.
func Receive(t testing.TB, c *imsg.Conn) imsg.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Bound)
	defer cancel()
	m, err := c.Receive(ctx)
	Must(t, err)
	return m
}

// ReceiveFrame receives what Frame or a Send of Pattern made.
func ReceiveFrame(t testing.TB, c *imsg.Conn, typ uint32, payload int) imsg.Message {
	t.Helper()
	m := Receive(t, c)
	CheckFrame(t, m, typ, payload)
	return m
}
