//go:build imsgfault && linux

package fault_test

import (
	"errors"
	"io"

	"example.org/imsg"
)

// How a conversation ends: everything is accounted for.

// close closes a side, with whatever it holds.
func (r *conversation) close(s *side) {
	if r.over || s.closed {
		return
	}
	r.shut(s)
}

func (r *conversation) shut(s *side) {
	stats, dead := s.stats(), s.sendErr != nil
	sent, _ := s.delivered()
	if n := stats.Sent; n.Bytes != uint64(s.end.sent) || !dead && n.Messages != uint64(sent) {
		r.w.fatalf("counters %+v, but %d bytes and %d messages were sent", n, s.end.sent, sent)
	}
	if n := stats.Received; n.Bytes != uint64(s.end.received) || n.Messages != uint64(s.got) {
		r.w.fatalf("counters %+v, but %d bytes and %d messages were received", n, s.end.received, s.got)
	}
	if err := s.party.close(); err != nil {
		r.w.fatalf("close: %v", err)
	}
	s.closed = true
}

// finish brings what still works to its end: what was queued is sent, what was
// sent is received, one side closes and the other sees it. Then everything is
// counted.
func (r *conversation) finish() tally {
	for _, s := range []*side{r.a, r.b} {
		if !s.closed && s.sendErr == nil && !s.peer.closed {
			r.flushed(s, s.party.flush())
		}
	}
	for _, s := range []*side{r.a, r.b} {
		for want, _ := s.peer.delivered(); !s.closed && s.recvErr == nil && s.got < want; {
			r.next(s)
		}
	}
	for _, s := range []*side{r.a, r.b} {
		if !s.closed {
			r.shut(s)
		}
		if !s.peer.closed && s.peer.recvErr == nil {
			r.drain(s.peer)
		}
	}
	for _, s := range []*side{r.a, r.b} {
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
func (r *conversation) drain(s *side) {
	_, torn := s.peer.delivered()
	m, err := s.party.next()
	switch {
	case err == nil:
		r.w.fatalf("a message of type %d behind the last one", m.Type())
	case s.end.receive.errno != 0:
		r.failed(s, err)
	case s.end.late.errno != 0:
		r.reset(s, s.end.late)
		checkError(r.w, err, s.end.late)
	case torn:
		if op := (*imsg.OpError)(nil); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &op) {
			r.w.fatalf("the end inside a message: %v", err)
		}
	case err != io.EOF:
		r.w.fatalf("the end between messages: %v", err)
	}
	if _, again := s.party.next(); again != err {
		r.w.fatalf("first %v, then %v", err, again)
	}
}
