package wireref_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

var (
	liveCount = flag.Int("imsg.live", 400, "TestLive: so many channels")
	liveSeed  = flag.Uint64("imsg.live.seed", 0, "TestLive: the first seed; 0: any")
)

// TestLive compares Buf and Conn with the reference reader on live channels:
// what they make of the streams of all kinds of writers, cut anywhere, and what
// the reference makes of theirs, whatever it reads at a time.
func TestLive(t *testing.T) {
	l := &live{t: t, files: new(testutil.Files), index: map[uint64]int{}}
	for i := range 6 {
		f, fd, err := l.files.Create()
		testutil.Must(t, err)
		l.fds, l.open, l.index[f.Inode] = append(l.fds, fd), append(l.open, os.NewFile(uintptr(fd), "file")), i
	}
	seed := *liveSeed
	if seed == 0 {
		seed = rand.Uint64() >> 20
	}
	first := seed
	for range *liveCount {
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Bound)
		l.ctx = ctx
		l.rnd = rand.New(rand.NewPCG(seed, 8))
		before := testutil.OpenCount()
		run := [...]func() error{l.bufReads, l.connReads, l.bufWrites, l.connWrites}[l.rnd.IntN(4)]
		err := run()
		cancel()
		if n := testutil.OpenCount(); err == nil && n != before {
			err = fmt.Errorf("%d descriptors are open, %d were", n, before)
		}
		if err != nil {
			t.Fatalf("%s: %v\nagain: go test -run TestLive ./test/wireref -imsg.live=1 -imsg.live.seed=%d", l.what, err, seed)
		}
		seed++
	}
	for _, f := range l.open {
		f.Close()
	}
	l.files.Check(0, func(f *testutil.File, closed bool) {
		if !closed {
			t.Errorf("file %d is still open", f.ID)
		}
	})
	l.files.Close()
	t.Logf("seed %d: %d channels, %d messages, %d files", first, *liveCount, l.messages, l.passed)
}

// A live is one channel after the other, with files that all of them pass.
type live struct {
	t     *testing.T
	ctx   context.Context
	rnd   *rand.Rand
	what  string
	files *testutil.Files
	fds   []int
	open  []*os.File     // of fds
	index map[uint64]int // of fds, by inode

	messages, passed int
}

// A message is one as either end sees it.
type message struct {
	h       imsg.Header
	payload []byte
	file    int // -1: none
	lost    bool
}

// size draws the length of a payload.
func (l *live) size() int {
	return l.rnd.IntN([...]int{1, 20, 200, 200, 3000, imsg.DefaultMaxSize - imsg.HeaderSize + 1}[l.rnd.IntN(6)])
}

// draw draws up to 20 messages.
func (l *live) draw() (ms []testutil.WireMsg) {
	for range 1 + l.rnd.IntN(20) {
		ms = append(ms, testutil.WireMsg{Size: l.size(), File: max(-1, l.rnd.IntN(3*len(l.fds))-2*len(l.fds))})
	}
	return ms
}

func (l *live) one(n int) bool { return l.rnd.IntN(n) == 0 }

// sockets returns two ends, of which the second often has a small buffer.
func (l *live) sockets() (a, b int, err error) {
	if a, b, err = unixmsg.Pair(true); err == nil && l.one(2) {
		unix.SetsockoptInt(b, unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	}
	return a, b, err
}

// fileOf is the index of the file that fd is a copy of, which it closes.
func (l *live) fileOf(fd int) (int, error) {
	inode, err := testutil.Inode(fd)
	unix.Close(fd)
	i, ok := l.index[inode]
	if err == nil && !ok {
		err = fmt.Errorf("descriptor %d is none of the files", fd)
	}
	l.passed++
	return i, err
}

// pieces draws the sends of a writer: whole or cut anywhere, as by a kernel
// that takes only a part, which is then sent without the file. The end of the
// last one may be missing.
func (l *live) pieces(bt testutil.Batching) (all []testutil.Piece) {
	often := 1 + l.rnd.IntN(6)
	for _, p := range bt.Encode(l.draw(), l.fds) {
		for l.one(often) && len(p.P) > 1 {
			n := 1 + l.rnd.IntN(min(len(p.P)-1, 1+l.rnd.IntN(len(p.P))))
			all = append(all, testutil.Piece{P: p.P[:n], Fd: p.Fd})
			p = testutil.Piece{P: p.P[n:], Fd: -1}
		}
		all = append(all, p)
	}
	if last := &all[len(all)-1]; l.one(4) && len(last.P) > 1 {
		last.P = last.P[:1+l.rnd.IntN(len(last.P)-1)]
	}
	return all
}

// reads lets a reader of the library read what a writer sends, and compares
// with the reference. The reader is told to catch up after some of the sends;
// when it is told that there will be no more, it goes on to the end.
func (l *live) reads(kind string, start func(fd int, cfg *imsg.Config) (func(end bool) error, *reading, error)) error {
	bt := testutil.Batchings[l.rnd.IntN(len(testutil.Batchings))]
	cfg := &imsg.Config{Dialect: bt.Dialect, AllowFDPass: !l.one(8)}
	if l.one(3) {
		cfg.Dialect = imsg.Auto
	}
	l.what = fmt.Sprintf("%s, dialect %v, files %v, reads from a writer: %s", kind, cfg.Dialect, cfg.AllowFDPass, bt.Name)
	b, a, err := l.sockets()
	if err != nil {
		return err
	}
	catchUp, got, err := start(b, cfg)
	if err != nil {
		unix.Close(a)
		return err
	}
	ref := wireref.Reader{Dialect: wireref.Dialect(cfg.Dialect), Limit: imsg.DefaultMaxSize, Files: cfg.AllowFDPass}
	often := 1 + l.rnd.IntN(4)
	for _, p := range l.pieces(bt) {
		var with []wireref.Flight
		var oob []byte
		if p.Fd >= 0 {
			with = []wireref.Flight{{File: &wireref.File{ID: slices.Index(l.fds, p.Fd)}}}
			oob = unix.UnixRights(p.Fd)
		}
		ref.Read(p.P, false, with...)
		for len(p.P) > 0 && err == nil {
			var n int
			n, err = unix.SendmsgN(a, p.P, oob, nil, unix.MSG_NOSIGNAL)
			if err == nil {
				p.P, oob = p.P[n:], nil
			}
			if err == unix.EAGAIN {
				if err = catchUp(false); err == nil {
					testutil.WaitFD(l.t, a, unix.POLLOUT)
				}
			}
		}
		if err == nil && l.one(often) {
			err = catchUp(false)
		}
	}
	unix.Close(a)
	if eerr := catchUp(true); err == nil {
		err = eerr
	}
	ref.EOF()
	if err == nil && !errors.Is(got.err, ref.Err) {
		err = fmt.Errorf("the end is %v, want %v", got.err, ref.Err)
	}
	if err == nil {
		err = compare(got.messages, ref.Ready)
	}
	return err
}

// A reading is what came of it.
type reading struct {
	messages []message
	err      error
}

func (l *live) take(r *reading, m imsg.Message) (err error) {
	got := message{h: m.Header(), payload: bytes.Clone(m.Bytes()), file: -1, lost: errors.Is(m.FileErr(), imsg.ErrFileLost)}
	if m.HasFile() {
		got.file, err = l.fileOf(m.TakeFD())
	}
	r.messages = append(r.messages, got)
	l.messages++
	return errors.Join(err, m.Close())
}

func compare(got []message, want []*wireref.Message) error {
	for i, g := range got[:min(len(got), len(want))] {
		w, file := want[i], -1
		if w.File != nil {
			file = w.File.ID
		}
		if g.h != imsg.Header(w.Header) || !bytes.Equal(g.payload, w.Payload) || g.file != file || g.lost != w.Lost {
			return fmt.Errorf("message %d: %+v, %d bytes, file %d, lost %v; the reference has %+v, %d bytes, file %d, lost %v",
				i, g.h, len(g.payload), g.file, g.lost, w.Header, len(w.Payload), file, w.Lost)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d messages, the reference has %d", len(got), len(want))
	}
	return nil
}

func (l *live) bufReads() error {
	return l.reads("Buf", func(fd int, cfg *imsg.Config) (func(bool) error, *reading, error) {
		b, r := imsg.NewBuf(fd, cfg), new(reading)
		return func(end bool) error {
			for {
				had := b.Stats().Received.Bytes
				r.err = b.ReadSocket()
				for m := range b.All() {
					if err := l.take(r, m); err != nil {
						return err
					}
				}
				if r.err != nil || !end && b.Stats().Received.Bytes == had {
					break
				}
			}
			if end {
				b.Clear()
				unix.Close(fd)
				return nil
			}
			return r.err
		}, r, nil
	})
}

func (l *live) connReads() error {
	return l.reads("Conn", func(fd int, cfg *imsg.Config) (func(bool) error, *reading, error) {
		c, err := imsg.NewConn(fd, cfg)
		if err != nil {
			return nil, nil, err
		}
		r := new(reading)
		done := testutil.Go(func() (err error) {
			for r.err == nil && err == nil {
				var m imsg.Message
				if m, r.err = c.Receive(l.ctx); r.err == nil {
					err = l.take(r, m)
				}
			}
			return err
		})
		return func(end bool) error {
			if !end {
				return nil
			}
			err := <-done
			c.Close()
			return err
		}, r, nil
	})
}

// A writer is what Buf and Conn have in common.
type writer interface {
	Compose(imsg.Header, *os.File, ...[]byte) error
	Create(imsg.Header, int) (*imsg.Builder, error)
}

// compose queues a message in one of the ways there are.
func (l *live) compose(w writer, m message) (err error) {
	var f *os.File
	if m.file >= 0 {
		fd, err := unixmsg.Dup(l.fds[m.file])
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "file")
	}
	defer func() {
		if err != nil && f != nil {
			f.Close()
		}
	}()
	n := len(m.payload) / 3
	b, isBuf := w.(*imsg.Buf)
	switch k := l.rnd.IntN(3); {
	case k == 0:
		bd, err := w.Create(m.h, n)
		if err != nil {
			return err
		}
		bd.SetFile(f)
		return errors.Join(bd.Add(m.payload[:n]), bd.Add(m.payload[n:]), bd.Commit())
	case k == 1 && isBuf:
		p := ibuf.New(len(m.payload))
		p.SetFile(f)
		return errors.Join(p.Add(m.payload), b.ComposeBuffer(m.h, p))
	}
	return w.Compose(m.h, f, m.payload[:n], m.payload[n:])
}

// writes reads what a writer of the library writes with the reference reader.
// The writer does something when it is told to, and reports whether that was all.
func (l *live) writes(kind string, start func(fd int, cfg *imsg.Config, ms []message) (more func() (bool, error), end func() error, err error)) error {
	cfg := &imsg.Config{Dialect: imsg.Dialect(l.rnd.IntN(3)), AllowFDPass: true}
	l.what = fmt.Sprintf("%s, dialect %v, writes", kind, cfg.Dialect)
	var want []message
	total := 0
	for i, m := range l.draw() {
		total += m.Size
		want = append(want, message{imsg.Header{Type: uint32(i), ID: 7, PID: 9}, testutil.Payload(i, m.Size), m.File, false})
	}
	a, b, err := l.sockets()
	if err != nil {
		return err
	}
	defer unix.Close(a)
	more, end, err := start(b, cfg, want)
	if err != nil {
		return err
	}
	ref := wireref.Reader{Dialect: wireref.Dialect(cfg.Dialect), Limit: imsg.DefaultMaxSize, Files: true}
	most := [...]int{1, 20, 300, 5000, 64 << 10}[l.rnd.IntN(5)]
	most = max(most, total/200) // or it takes long
	for all := false; err == nil && len(ref.Ready) < len(want); {
		if all, err = more(); err == nil {
			err = l.read(&ref, a, 1+l.rnd.IntN(most), all)
		}
	}
	if eerr := end(); err == nil {
		err = eerr
	}
	if err == nil {
		if err = l.read(&ref, a, most, false); err == nil && (ref.Err != io.EOF || ref.Held() > 0) {
			err = fmt.Errorf("the end is %v, with %d files that no message claims", ref.Err, ref.Held())
		}
	}
	if err == nil {
		err = compare(want, ref.Ready)
	}
	l.messages += len(ref.Ready)
	return err
}

// read lets the reference read n bytes from fd; wait says that some will come.
func (l *live) read(ref *wireref.Reader, fd, n int, wait bool) error {
	p, oob := make([]byte, n), make([]byte, unix.CmsgSpace(4*2))
	n, oobn, _, _, err := unix.Recvmsg(fd, p, oob, unix.MSG_DONTWAIT)
	switch {
	case err == unix.EAGAIN:
		if wait {
			testutil.WaitFD(l.t, fd, unix.POLLIN)
		}
		return nil
	case err != nil:
		return err
	case n == 0:
		ref.EOF()
		return nil
	}
	var with []wireref.Flight
	cs, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range cs {
		fds, _ := unix.ParseUnixRights(&cs[i])
		for _, fd := range fds {
			id, ferr := l.fileOf(fd)
			if ferr != nil {
				return ferr
			}
			with = append(with, wireref.Flight{File: &wireref.File{ID: id}})
		}
	}
	if len(with) > 1 {
		return fmt.Errorf("%d files in one read", len(with))
	}
	if ref.Read(p[:n], n == len(p), with...); err == nil {
		err = ref.Err
	}
	return err
}

func (l *live) bufWrites() error {
	return l.writes("Buf", func(fd int, cfg *imsg.Config, ms []message) (func() (bool, error), func() error, error) {
		b := imsg.NewBuf(fd, cfg)
		return func() (bool, error) {
				for len(ms) > 0 && l.one(2) {
					m := ms[0]
					ms = ms[1:]
					if err := l.compose(b, m); err != nil {
						return false, err
					}
				}
				return len(ms) == 0 && b.QueueLen() == 0, b.WriteSocket()
			}, func() error {
				b.Clear()
				return unix.Close(fd)
			}, nil
	})
}

func (l *live) connWrites() error {
	return l.writes("Conn", func(fd int, cfg *imsg.Config, ms []message) (func() (bool, error), func() error, error) {
		c, err := imsg.NewConn(fd, cfg)
		if err != nil {
			return nil, nil, err
		}
		rnd := rand.New(rand.NewPCG(l.rnd.Uint64(), 0)) // the writer's own
		done := testutil.Go(func() (err error) {
			w := &live{ctx: l.ctx, rnd: rnd, fds: l.fds}
			for _, m := range ms {
				if w.one(2) {
					err = w.compose(c, m)
				} else {
					var f *os.File
					if m.file >= 0 {
						f = l.open[m.file]
					}
					err = c.Send(l.ctx, m.h, f, m.payload)
				}
				if err == nil && w.one(3) {
					err = c.Flush(l.ctx)
				}
				if err != nil {
					return err
				}
			}
			return c.Flush(l.ctx)
		})
		return func() (bool, error) { return true, nil }, func() error { return errors.Join(<-done, c.Close()) }, nil
	})
}
