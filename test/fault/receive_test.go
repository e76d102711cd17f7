//go:build imsgfault && linux

package fault_test

import (
	"bytes"
	"errors"
	"syscall"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// How a conversation receives: every message must be the next one, with its file.

// receive receives n messages of the peer.
func (r *conversation) receive(s *side, n int) {
	for range n {
		if r.over {
			return
		}
		r.next(s)
	}
}

func (r *conversation) next(s *side) {
	m, err := s.party.next()
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
func (r *conversation) failed(s *side, err error) {
	r.reset(s, s.end.receive)
	checkError(r.w, err, s.end.receive)
	if whole, _ := messagesIn(s.peer.sent, s.end.received); s.got != whole {
		r.w.fatalf("%d messages, but %d had arrived before %v", s.got, whole, err)
	}
	if _, again := s.party.next(); again != err {
		r.w.fatalf("first %v, then %v", err, again)
	}
	s.recvErr, r.over = err, true
}

// reset fails the run if a reset is not the peer's fault: only one who is gone
// and has not read everything makes one.
func (r *conversation) reset(s *side, stop ending) {
	if stop.real && (!s.peer.closed || s.peer.got == len(s.sent)) {
		r.w.fatalf("nobody has made this fail: %v", stop.errno)
	}
}

// check compares a message with what was sent, and takes its file, or leaves it.
func (r *conversation) check(s *side, m imsg.Message, want message) {
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

func (r *conversation) take(m imsg.Message, p *pipeFile) {
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
		if st, err := f.Stat(); err != nil || st.Sys().(*syscall.Stat_t).Ino != p.Inode {
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
