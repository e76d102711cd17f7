//go:build imsgfault && linux

package fault_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// storms runs conversations in both directions at once, with sockets that
// are full most of the time, while every other call comes up short, is
// interrupted or has to wait. All of that passes, so everything must arrive, in
// order; a file that did not fit, and only that, is reported as lost.
func storms(t *testing.T) (sum tally) {
	for i := range uint64(*pairs) * 4 {
		seed := *seed + i
		for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
			for _, who := range [][2]string{{"conn", "conn"}, {"conn", "buf"}, {"buf", "buf"}} {
				t.Run(fmt.Sprintf("%d/%v/%s-%s", seed, d, who[0], who[1]), func(t *testing.T) {
					testutil.NoLeak(t)
					sum.add(storm(t, seed, d, who))
				})
			}
		}
	}
	return sum
}

const stormMessages = 120

func storm(t *testing.T, seed uint64, d imsg.Dialect, who [2]string) (sum tally) {
	w := newWorld(t)
	w.quiet = true
	w.begin(nil)
	rnd := rand.New(rand.NewPCG(seed, 0))
	w.let(func(_ int, c unixmsg.Call) unixmsg.Fault { return stormFault(rnd, c) })
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	testutil.Must(t, err)
	ctx, stop := context.WithTimeout(context.Background(), 3*testutil.Bound)
	defer stop()
	var sides [2]*stormSide
	for i := range sides {
		unix.SetsockoptInt(fds[i], unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10)
		s := &stormSide{ctx: ctx, w: w, rnd: rand.New(rand.NewPCG(seed, uint64(i+1)))}
		for range stormMessages {
			s.plan = append(s.plan, s.message())
		}
		sides[i] = s
	}
	sides[0].peer, sides[1].peer = sides[1], sides[0]
	t.Cleanup(func() {
		for _, m := range append(sides[0].plan, sides[1].plan...) {
			if m.pipe != nil {
				m.pipe.giveUp()
			}
		}
	})
	var wg sync.WaitGroup
	var close [2]func() error
	for i, s := range sides {
		if cfg := (&imsg.Config{Dialect: d, AllowFDPass: true}); who[i] == "conn" {
			c := newConnParty(w, fds[i], cfg, false)
			close[i] = c.close
			wg.Go(func() { s.done(s.sendConn(c)) })
			wg.Go(func() { s.done(s.receiveConn(c)) })
		} else {
			b := newBufParty(w, fds[i], cfg, true)
			close[i] = b.close
			wg.Go(func() { s.done(s.loop(b)) })
		}
	}
	wg.Wait()
	for i, s := range sides {
		testutil.WantError(t, "close", close[i](), nil)
		if s.err != nil {
			t.Errorf("seed %d, %s: %v", seed, who[i], s.err)
		}
		if e := w.end(fds[i]); s.lost != e.lost {
			t.Errorf("seed %d, %s: %d files were lost, %d messages say so", seed, who[i], e.lost, s.lost)
		}
		sum.sent += len(s.plan)
		sum.got += s.got
		sum.lost += s.lost
		sum.delivered += s.delivered
	}
	for _, s := range sides {
		for _, m := range s.plan {
			if m.pipe != nil && !t.Failed() {
				m.pipe.end(w)
				sum.in++
			}
		}
	}
	sum.talks, sum.runs, sum.calls, sum.hit = 1, 1, w.calls, w.hit
	return sum
}

// stormFault is something that passes, for every other call.
func stormFault(rnd *rand.Rand, c unixmsg.Call) (f unixmsg.Fault) {
	switch rnd.IntN(16) {
	case 0, 1:
		f.Errno = unix.EINTR
	case 2, 3:
		f.Errno = unix.EAGAIN
	case 4, 5, 6:
		f.Max = 1 + rnd.IntN(max(c.Size, 1))
	case 7:
		f.Max = 1 + rnd.IntN(20)
	case 8:
		f.Files = unixmsg.LoseFiles + unixmsg.Files(rnd.IntN(2))
	case 9:
		if sends(c) && rnd.IntN(20) == 0 { // whoever hears this sleeps
			f.Errno = [...]unix.Errno{unix.ENOBUFS, unix.ETOOMANYREFS}[rnd.IntN(2)]
		}
	}
	return f
}

// A stormSide sends its plan and receives its peer's.
type stormSide struct {
	ctx  context.Context
	w    *world
	rnd  *rand.Rand // of whoever sends
	plan []message
	peer *stormSide

	got, lost, delivered int

	mu  sync.Mutex
	err error // the first
}

func (s *stormSide) done(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *stormSide) message() message {
	m := message{typ: uint32(len(s.plan) + 1), size: s.rnd.IntN(300)}
	if s.rnd.IntN(8) == 0 {
		m.size = s.rnd.IntN(16369)
	}
	if s.rnd.IntN(3) == 0 {
		m.pipe = newPipeFile(s.w)
	}
	return m
}

func (m message) file() *os.File {
	if m.pipe == nil {
		return nil
	}
	return m.pipe.w
}

func (s *stormSide) sendConn(c *connParty) error {
	for _, m := range s.plan {
		var err error
		switch s.rnd.IntN(3) {
		case 0:
			err = c.Send(s.ctx, m.header(), m.file(), m.payload())
			m.file().Close() // an error for nil
		case 1:
			err = c.queue(m.header(), m.file(), m.payload())
		case 2:
			err = c.build(m.header(), m.file(), m.payload())
		}
		if err == nil && s.rnd.IntN(4) == 0 {
			err = c.Flush(s.ctx)
		}
		if err != nil {
			return err
		}
	}
	return c.Flush(s.ctx)
}

func (s *stormSide) receiveConn(c *connParty) error {
	for range s.peer.plan {
		m, err := c.Receive(s.ctx)
		if err == nil {
			err = s.check(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loop is an event loop.
func (s *stormSide) loop(b *bufParty) error {
	todo := s.plan
	for len(todo) > 0 || b.QueueLen() > 0 || s.got < len(s.peer.plan) {
		for len(todo) > 0 && b.QueueLen() < 5 {
			m := todo[0]
			todo = todo[1:]
			if err := b.queue(m.header(), m.file(), m.payload()); err != nil {
				return err
			}
		}
		events := int16(unix.POLLIN)
		if b.QueueLen() > 0 {
			events |= unix.POLLOUT
		}
		if err := stormWait(s.ctx, b.fd, events); err != nil {
			return err
		}
		if err := b.WriteSocket(); err != nil {
			return err
		}
		if err := b.ReadSocket(); err != nil {
			return err
		}
		for m := range b.All() {
			if err := s.check(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func stormWait(ctx context.Context, fd int, events int16) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 1000)
		if n > 0 || err != nil && err != unix.EINTR {
			return err
		}
	}
	return ctx.Err()
}

func (s *stormSide) check(m imsg.Message) error {
	want := s.peer.plan[s.got]
	s.got++
	defer m.Close()
	switch {
	case m.Type() != want.typ || !bytes.Equal(m.Bytes(), want.payload()):
		return fmt.Errorf("message of type %d with %d bytes, want type %d with %d of its pattern", m.Type(), m.Len(), want.typ, want.size)
	case want.pipe == nil:
		if m.HasFile() || m.FileErr() != nil {
			return fmt.Errorf("message %d was sent without a file: %v, %v", want.typ, m.HasFile(), m.FileErr())
		}
		return nil
	case m.FileErr() != nil:
		s.lost++
		return nil
	}
	fd := m.TakeFD()
	defer unix.Close(fd)
	if _, err := want.pipe.files.Find(fd); err != nil {
		return fmt.Errorf("message %d: %w", want.typ, err)
	}
	s.delivered++
	return nil
}
