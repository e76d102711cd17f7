//go:build imsgfault && linux

package imsg_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// A faultRun is one conversation between two sides, step by step on one
// goroutine, so that it makes the same calls every time. When a fault has ended
// a direction the remaining steps do nothing and finish comes next.
type faultRun struct {
	w     *faultWorld
	a, b  *faultSide
	over  bool
	typ   uint32
	pipes []*faultPipe
	count faultCount
}

// A faultSide is one side and what is known about it.
type faultSide struct {
	faultParty
	end              *faultEnd
	peer             *faultSide
	sent             []faultMsg // accepted by send, queue or build
	got              int        // messages of the peer that were received
	lost             int        // of these, those that said so of their file
	closed           bool
	sendErr, recvErr error
}

type faultMsg struct {
	typ  uint32
	size int
	pipe *faultPipe // nil: no file
}

func newFaultRun(w *faultWorld, a, b string, acfg, bcfg *imsg.Config) *faultRun {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		w.fatalf("%v", err)
	}
	for _, fd := range fds { // nobody shall wait for the other side to read
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	}
	r := &faultRun{w: w}
	r.a = &faultSide{end: w.end(fds[0]), faultParty: faultParties[a](w, fds[0], acfg)}
	r.b = &faultSide{end: w.end(fds[1]), faultParty: faultParties[b](w, fds[1], bcfg)}
	r.a.peer, r.b.peer = r.b, r.a
	w.giveUp = r.giveUp
	return r
}

// giveUp leaves nothing behind that could hide the failure.
func (r *faultRun) giveUp() {
	for _, s := range []*faultSide{r.a, r.b} {
		if !s.closed {
			s.faultParty.close()
		}
	}
	for _, p := range r.pipes {
		p.w.Close()
		unix.Close(p.r)
	}
}

// message makes the next message, with a file or without.
func (r *faultRun) message(size int, file bool) (faultMsg, *os.File) {
	r.typ++
	m := faultMsg{typ: r.typ, size: size}
	if !file {
		return m, nil
	}
	m.pipe = newFaultPipe(r.w)
	r.pipes = append(r.pipes, m.pipe)
	r.count.in++
	return m, m.pipe.w
}

func (m faultMsg) header() imsg.Header { return imsg.Header{Type: m.typ, ID: m.typ + 7} }

// payload is a part of one long pattern, for every type another.
func (m faultMsg) payload() []byte { return faultPattern[m.typ:][:m.size] }

var faultPattern = pattern(251, 1<<15)

// send sends a message and waits until the kernel has it.
func (r *faultRun) send(s *faultSide, size int, file bool) {
	if r.over {
		return
	}
	m, f := r.message(size, file)
	s.sent = append(s.sent, m)
	owned, err := s.faultParty.send(m.header(), f, m.payload())
	if f != nil && !owned {
		m.pipe.closeOurs(r.w)
	}
	r.flushed(s, err)
}

// queue queues a message, every other one with a Builder.
func (r *faultRun) queue(s *faultSide, size int, file bool) {
	if r.over {
		return
	}
	m, f := r.message(size, file)
	do := s.faultParty.queue
	if m.typ%2 == 0 {
		do = s.build
	}
	if err := do(m.header(), f, m.payload()); err != nil {
		r.w.fatalf("queue: %v", err) // it makes no system call
	}
	s.sent = append(s.sent, m)
}

func (r *faultRun) flush(s *faultSide) {
	if !r.over {
		r.flushed(s, s.faultParty.flush())
	}
}

// flushed looks at how sending everything went.
func (r *faultRun) flushed(s *faultSide, err error) {
	if err == nil {
		if whole, torn := s.delivered(); whole < len(s.sent) || torn {
			r.w.fatalf("nil, but the kernel has %d of %d messages", whole, len(s.sent))
		}
		return
	}
	if s.end.send.real && !s.peer.closed {
		r.w.fatalf("nobody has made this fail: %v", err)
	}
	faultCheckError(r.w, err, s.end.send)
	if again := s.faultParty.flush(); again != err {
		r.w.fatalf("first %v, then %v", err, again)
	}
	if _, again := s.faultParty.send(imsg.Header{Type: 1}, nil, nil); again != err {
		r.w.fatalf("first %v, then from another message %v", err, again)
	}
	s.sendErr, r.over = err, true
}

// delivered returns how many messages the kernel took from s whole, and whether
// it has a part of one more.
func (s *faultSide) delivered() (whole int, torn bool) { return faultMessagesIn(s.sent, s.end.sent) }

func faultMessagesIn(ms []faultMsg, bytes int) (whole int, torn bool) {
	for _, m := range ms {
		if bytes < imsg.HeaderSize+m.size {
			return whole, bytes > 0
		}
		bytes -= imsg.HeaderSize + m.size
		whole++
	}
	return whole, bytes > 0
}

// receive receives n messages of the peer.
func (r *faultRun) receive(s *faultSide, n int) {
	for range n {
		if r.over {
			return
		}
		r.next(s)
	}
}

func (r *faultRun) next(s *faultSide) {
	m, err := s.faultParty.next()
	if err != nil {
		r.failed(s, err)
		return
	}
	if s.got == len(s.peer.sent) {
		r.w.fatalf("a message of type %d that nobody sent", m.Type())
	}
	r.check(s, m, s.peer.sent[s.got])
	s.got++
}

// failed looks at an error that an injected fault must have caused.
func (r *faultRun) failed(s *faultSide, err error) {
	r.reset(s, s.end.receive)
	faultCheckError(r.w, err, s.end.receive)
	if whole, _ := faultMessagesIn(s.peer.sent, s.end.received); s.got != whole {
		r.w.fatalf("%d messages, but %d had arrived before %v", s.got, whole, err)
	}
	if _, again := s.faultParty.next(); again != err {
		r.w.fatalf("first %v, then %v", err, again)
	}
	s.recvErr, r.over = err, true
}

// reset fails the run if a reset is not the peer's fault: only one who is gone
// and has not read everything makes one.
func (r *faultRun) reset(s *faultSide, stop faultStop) {
	if stop.real && (!s.peer.closed || s.peer.got == len(s.sent)) {
		r.w.fatalf("nobody has made this fail: %v", stop.errno)
	}
}

// check compares a message with what was sent, and takes its file, or leaves it.
func (r *faultRun) check(s *faultSide, m imsg.Message, want faultMsg) {
	if m.Type() != want.typ || m.ID() != want.typ+7 || !bytes.Equal(m.Bytes(), want.payload()) {
		r.w.fatalf("message of type %d with %d bytes, want type %d with %d bytes of its pattern", m.Type(), m.Len(), want.typ, want.size)
	}
	err := m.FileErr()
	switch {
	case want.pipe == nil:
		if m.HasFile() || err != nil {
			r.w.fatalf("message %d was sent without a file: %v, %v", want.typ, m.HasFile(), err)
		}
	case err != nil:
		if !errors.Is(err, imsg.ErrFileLost) || m.HasFile() || m.TakeFD() != -1 {
			r.w.fatalf("message %d: %v", want.typ, err)
		}
		s.lost++
		r.count.lost++
	case !m.HasFile():
		r.w.fatalf("message %d has no file and does not say why", want.typ)
	default:
		r.take(m, want.pipe)
		r.count.delivered++
	}
	if err := m.Close(); err != nil {
		r.w.fatalf("close of message %d: %v", want.typ, err)
	}
}

func (r *faultRun) take(m imsg.Message, p *faultPipe) {
	switch m.Type() % 3 {
	case 0: // leave it to Close
	case 1:
		fd := m.TakeFD()
		p.isIt(r.w, fd)
		if err := unix.Close(fd); err != nil {
			r.w.fatalf("%v", err)
		}
	case 2:
		f := m.TakeFile()
		if st, err := f.Stat(); err != nil || st.Sys().(*syscall.Stat_t).Ino != p.inode {
			r.w.fatalf("message %d has another one's file, or %v", m.Type(), err)
		}
		if err := f.Close(); err != nil {
			r.w.fatalf("%v", err)
		}
	}
	if m.HasFile() != (m.Type()%3 == 0) {
		r.w.fatalf("message %d after its file was taken: %v", m.Type(), m.HasFile())
	}
}

// cred asks who the peer is.
func (r *faultRun) cred(s *faultSide) {
	if r.over {
		return
	}
	c, err := s.faultParty.cred()
	if err != nil {
		faultCheckError(r.w, err, r.w.failed(len(r.w.events)-1))
		c, err = s.faultParty.cred()
	}
	if err != nil && !strings.Contains(r.w.plan.String(), " ") || err == nil && c.PID != os.Getpid() {
		r.w.fatalf("%+v, %v", c, err)
	}
}

// close closes a side, with whatever it holds.
func (r *faultRun) close(s *faultSide) {
	if r.over || s.closed {
		return
	}
	r.shut(s)
}

func (r *faultRun) shut(s *faultSide) {
	stats, dead := s.stats(), s.sendErr != nil
	sent, _ := s.delivered()
	if n := stats.Sent; n.Bytes != uint64(s.end.sent) || !dead && n.Messages != uint64(sent) {
		r.w.fatalf("counters %+v, but %d bytes and %d messages were sent", n, s.end.sent, sent)
	}
	if n := stats.Received; n.Bytes != uint64(s.end.received) || n.Messages != uint64(s.got) {
		r.w.fatalf("counters %+v, but %d bytes and %d messages were received", n, s.end.received, s.got)
	}
	if err := s.faultParty.close(); err != nil {
		r.w.fatalf("close: %v", err)
	}
	s.closed = true
}

// finish brings what still works to its end: what was queued is sent, what was
// sent is received, one side closes and the other sees it. Then everything is
// faultCounted.
func (r *faultRun) finish() faultCount {
	for _, s := range []*faultSide{r.a, r.b} {
		if !s.closed && s.sendErr == nil && !s.peer.closed {
			r.flushed(s, s.faultParty.flush())
		}
	}
	for _, s := range []*faultSide{r.a, r.b} {
		for want, _ := s.peer.delivered(); !s.closed && s.recvErr == nil && s.got < want; {
			r.next(s)
		}
	}
	for _, s := range []*faultSide{r.a, r.b} {
		if !s.closed {
			r.shut(s)
		}
		if !s.peer.closed && s.peer.recvErr == nil {
			r.drain(s.peer)
		}
	}
	for _, s := range []*faultSide{r.a, r.b} {
		r.count.sent += len(s.sent)
		r.count.got += s.got
		// A file may come before its message, or be lost with the rest of it.
		if all := s.got == len(s.peer.sent); s.lost > s.end.lost || all && s.lost < s.end.lost {
			r.w.fatalf("%d files were lost, %d messages say so", s.end.lost, s.lost)
		}
	}
	for _, p := range r.pipes {
		p.end(r.w)
	}
	r.count.ended = r.count.in - r.count.delivered - r.count.lost
	r.count.runs, r.count.calls, r.count.hit = 1, r.w.calls, r.w.hit
	return r.count
}

// drain receives the end of the stream.
func (r *faultRun) drain(s *faultSide) {
	_, torn := s.peer.delivered()
	m, err := s.faultParty.next()
	switch {
	case err == nil:
		r.w.fatalf("a message of type %d behind the last one", m.Type())
	case s.end.receive.errno != 0:
		r.failed(s, err)
	case s.end.late.errno != 0:
		r.reset(s, s.end.late)
		faultCheckError(r.w, err, s.end.late)
	case torn:
		if op := (*imsg.OpError)(nil); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &op) {
			r.w.fatalf("the end inside a message: %v", err)
		}
	case err != io.EOF:
		r.w.fatalf("the end between messages: %v", err)
	}
	if _, again := s.faultParty.next(); again != err {
		r.w.fatalf("first %v, then %v", err, again)
	}
}
