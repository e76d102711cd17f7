package hostile_test

import (
	"errors"
	"os"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// A bufServer is a server with one event loop.
type bufServer struct {
	t      *testing.T
	chans  []*served // the control channel is the first one
	rounds int
}

// A served channel is one of its channels. It does not read while an answer waits for
// room in its queue.
type served struct {
	id     uint32
	fd     int
	b      *imsg.Buf
	answer *imsg.Message
	file   *os.File // of the answer
	dead   bool
}

func serveBufs(t *testing.T) {
	testutil.NoLeak(t)
	testutil.SetMaxFiles(t, 256) // one receive from a hostile peer can bring 208 for a moment
	v := &bufServer{t: t}
	v.add(0, 3, imsg.Current)
	ctl := v.chans[0]
	var fds []unix.PollFd
	for !ctl.dead {
		fds = fds[:0]
		for _, c := range v.chans {
			p := unix.PollFd{Fd: int32(c.fd)}
			if c.answer == nil {
				p.Events |= unix.POLLIN
			}
			if c.b.QueueLen() > 0 {
				p.Events |= unix.POLLOUT
			}
			fds = append(fds, p)
		}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		v.rounds++
		for i, p := range fds {
			if p.Revents != 0 {
				v.turn(v.chans[i], p.Revents)
			}
		}
		v.reap()
	}
	for _, c := range v.chans {
		c.dead = true
	}
	v.reap()
}

func (v *bufServer) add(id uint32, fd int, d imsg.Dialect) {
	if err := unix.SetNonblock(fd, true); err != nil {
		v.t.Fatal(err)
	}
	v.chans = append(v.chans, &served{id: id, fd: fd, b: imsg.NewBuf(fd, serverConfig(d))})
}

// turn does what the events of one channel ask for.
func (v *bufServer) turn(c *served, events int16) {
	var err error
	if events&(unix.POLLOUT|unix.POLLHUP|unix.POLLERR) != 0 {
		err = c.b.WriteSocket()
		if c.answer != nil && err == nil {
			v.say(c)
		}
	}
	if err == nil && c.answer == nil {
		err = c.b.ReadSocket()
	}
	for c.answer == nil {
		m, ok := c.b.Get()
		if !ok {
			break
		}
		v.hear(c, m)
	}
	if err == nil || errors.Is(err, imsg.ErrQueueFull) {
		err = c.b.WriteSocket()
	}
	c.dead = err != nil
}

func (v *bufServer) hear(c *served, m imsg.Message) {
	if c.id != 0 {
		switch m.Type() {
		case sayEcho:
			c.answer, c.file = &m, m.TakeFile()
			v.say(c)
			return
		case sayGive:
			c.answer, c.file = &m, testutil.DevNull(v.t)
			v.say(c)
			return
		}
		m.Close()
		return
	}
	switch m.Type() {
	case ctlAdd:
		v.add(m.ID(), m.TakeFD(), imsg.Dialect(m.Bytes()[0]))
		c.b.Compose(imsg.Header{Type: ctlAdd}, nil)
	case ctlReport:
		r := newReport(m.Len() > 0)
		r.Rounds = v.rounds
		for _, h := range v.chans[1:] {
			s := h.b.Stats()
			r.Channels[h.id] = traffic{s.Received, s.Sent}
		}
		c.b.Compose(imsg.Header{Type: ctlReport}, nil, r.encode())
	}
	m.Close()
}

// say queues the answer, if there is room.
func (v *bufServer) say(c *served) {
	var data []byte
	if c.answer.Type() == sayEcho {
		data = c.answer.Bytes()
	}
	err := c.b.Compose(imsg.Header{Type: c.answer.Type()}, c.file, data)
	if errors.Is(err, imsg.ErrQueueFull) {
		return
	}
	if err != nil {
		c.file.Close()
	}
	c.answer.Close()
	c.answer, c.file = nil, nil
}

// reap ends the channels that are dead.
func (v *bufServer) reap() {
	alive := v.chans[:0]
	for _, c := range v.chans {
		if !c.dead {
			alive = append(alive, c)
			continue
		}
		if c.answer != nil {
			c.answer.Close()
			c.file.Close()
		}
		c.b.Clear()
		unix.Close(c.fd)
		if ctl := v.chans[0]; !ctl.dead {
			ctl.b.Compose(imsg.Header{Type: ctlGone, ID: c.id}, nil)
		}
	}
	clear(v.chans[len(alive):])
	v.chans = alive
}
