//go:build imsgfault && linux

package fault_test

import (
	"os"
	"strings"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// A conversation is one conversation between two sides, step by step on one
// goroutine, so that it makes the same calls every time. When a fault has ended
// a direction the remaining steps do nothing and finish comes next.
type conversation struct {
	w     *world
	a, b  *side
	over  bool
	typ   uint32
	pipes []*pipeFile
	count tally
}

// A side is one side and what is known about it.
type side struct {
	party
	end              *stream
	peer             *side
	sent             []message // accepted by send, queue or build
	got              int       // messages of the peer that were received
	lost             int       // of these, those that said so of their file
	closed           bool
	sendErr, recvErr error
}

type message struct {
	typ  uint32
	size int
	pipe *pipeFile // nil: no file
}

func newConversation(w *world, a, b string, acfg, bcfg *imsg.Config) *conversation {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		w.fatalf("%v", err)
	}
	for _, fd := range fds { // nobody shall wait for the other side to read
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	}
	r := &conversation{w: w}
	r.a = &side{end: w.end(fds[0]), party: parties[a](w, fds[0], acfg)}
	r.b = &side{end: w.end(fds[1]), party: parties[b](w, fds[1], bcfg)}
	r.a.peer, r.b.peer = r.b, r.a
	w.giveUp = r.giveUp
	return r
}

// giveUp leaves nothing behind that could hide the failure.
func (r *conversation) giveUp() {
	for _, s := range []*side{r.a, r.b} {
		if !s.closed {
			s.party.close()
		}
	}
	for _, p := range r.pipes {
		p.giveUp()
	}
}

// message makes the next message, with a file or without.
func (r *conversation) message(size int, file bool) (message, *os.File) {
	r.typ++
	m := message{typ: r.typ, size: size}
	if !file {
		return m, nil
	}
	m.pipe = newPipeFile(r.w)
	r.pipes = append(r.pipes, m.pipe)
	r.count.in++
	return m, m.pipe.w
}

func (m message) header() imsg.Header { return imsg.Header{Type: m.typ, ID: m.typ + 7} }

// payload is a part of one long pattern, for every type another.
func (m message) payload() []byte { return pattern[m.typ:][:m.size] }

var pattern = testutil.Pattern(251, 1<<15)

// send sends a message and waits until the kernel has it.
func (r *conversation) send(s *side, size int, file bool) {
	if r.over {
		return
	}
	m, f := r.message(size, file)
	s.sent = append(s.sent, m)
	owned, err := s.party.send(m.header(), f, m.payload())
	if f != nil && !owned {
		m.pipe.closeOurs(r.w)
	}
	r.flushed(s, err)
}

// queue queues a message, every other one with a Builder.
func (r *conversation) queue(s *side, size int, file bool) {
	if r.over {
		return
	}
	m, f := r.message(size, file)
	do := s.party.queue
	if m.typ%2 == 0 {
		do = s.build
	}
	if err := do(m.header(), f, m.payload()); err != nil {
		r.w.fatalf("queue: %v", err) // it makes no system call
	}
	s.sent = append(s.sent, m)
}

func (r *conversation) flush(s *side) {
	if !r.over {
		r.flushed(s, s.party.flush())
	}
}

// flushed looks at how sending everything went.
func (r *conversation) flushed(s *side, err error) {
	if err == nil {
		if whole, torn := s.delivered(); whole < len(s.sent) || torn {
			r.w.fatalf("nil, but the kernel has %d of %d messages", whole, len(s.sent))
		}
		return
	}
	if s.end.send.real && !s.peer.closed {
		r.w.fatalf("nobody has made this fail: %v", err)
	}
	checkError(r.w, err, s.end.send)
	if again := s.party.flush(); again != err {
		r.w.fatalf("first %v, then %v", err, again)
	}
	if _, again := s.party.send(imsg.Header{Type: 1}, nil, nil); again != err {
		r.w.fatalf("first %v, then from another message %v", err, again)
	}
	s.sendErr, r.over = err, true
}

// delivered returns how many messages the kernel took from s whole, and whether
// it has a part of one more.
func (s *side) delivered() (whole int, torn bool) { return messagesIn(s.sent, s.end.sent) }

func messagesIn(ms []message, bytes int) (whole int, torn bool) {
	for _, m := range ms {
		if bytes < imsg.HeaderSize+m.size {
			return whole, bytes > 0
		}
		bytes -= imsg.HeaderSize + m.size
		whole++
	}
	return whole, bytes > 0
}

// cred asks who the peer is.
func (r *conversation) cred(s *side) {
	if r.over {
		return
	}
	c, err := s.party.cred()
	if err != nil {
		checkError(r.w, err, r.w.failed(len(r.w.events)-1))
		c, err = s.party.cred()
	}
	if err != nil && !strings.Contains(r.w.plan.String(), " ") || err == nil && c.PID != os.Getpid() {
		r.w.fatalf("%+v, %v", c, err)
	}
}
