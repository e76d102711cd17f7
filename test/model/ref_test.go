//go:build linux

package model_test

import (
	"encoding/binary"
	"errors"
	"io"

	"example.org/imsg"
)

// The reference model: doc/wire.md as plain queues, one step after the other.
// It makes no system call and calls nothing of the library; how many bytes a
// call moved is told to it.

// A refFile is what the model knows about one open file: how many descriptors
// refer to it, those in flight included.
type refFile struct {
	id   int
	refs int
	lax  bool // a peer broke the rules: it may be closed already, or on another message
}

// A refMsg is one message to be sent, or a raw peer's bytes.
type refMsg struct {
	b     []byte
	sent  int
	file  *refFile
	extra *refFile // a raw peer's second file in the same control message
	owned bool     // the queue closes file
}

// A refSender is the sending half of a channel.
type refSender struct {
	queue       []*refMsg
	size, files int   // not written, not sent
	err         error // final, as the library said it first
	n           imsg.Counters
}

func (s *refSender) push(m *refMsg) {
	s.queue = append(s.queue, m)
	s.size += len(m.b)
	if m.file != nil {
		s.files++
	}
}

// wrote moves n bytes to the wire, and files with the first byte of each
// message, which begins another send.
func (s *refSender) wrote(n int, w *refWire) {
	s.n.Bytes += uint64(n)
	s.size -= n
	defer w.sent()
	for n > 0 {
		m := s.queue[0]
		if m.sent == 0 && m.file != nil {
			w.sent()
			w.carry(m)
			s.files--
			s.n.Files++
		}
		k := min(n, len(m.b)-m.sent)
		w.p = append(w.p, m.b[m.sent:m.sent+k]...)
		m.sent += k
		n -= k
		if m.sent == len(m.b) {
			s.queue = s.queue[1:]
			s.n.Messages++
		}
	}
}

// most is how many bytes one system call may carry: up to the next file.
func (s *refSender) most() (n, messages int) {
	for i, m := range s.queue {
		if i > 0 && m.file != nil {
			break
		}
		n += len(m.b) - m.sent
		messages++
	}
	return n, messages
}

// drop discards what is queued.
func (s *refSender) drop() {
	for _, m := range s.queue {
		if m.file != nil && m.sent == 0 && m.owned {
			m.file.refs--
		}
	}
	s.queue, s.size, s.files = nil, 0, 0
}

// A refWire is what the kernel holds of one direction.
type refWire struct {
	p     []byte
	off   uint64 // stream offset of p[0]
	files []refFlight
	lax   bool
	over  bool // nothing will follow: the writer has closed, or hung up
	reset bool // the writer closed with bytes unread, which Linux reports
}

// A refFlight is a file on the wire, with the byte at stream offset at.
type refFlight struct {
	at, end uint64 // of the bytes sent with it: no receive goes on beyond
	f       *refFile
	surplus bool // not the first of its control message
}

// carry puts m's files on the wire with the byte that comes next.
func (w *refWire) carry(m *refMsg) {
	at := w.off + uint64(len(w.p))
	w.files = append(w.files, refFlight{at, 0, m.file, false})
	m.file.lax = m.file.lax || w.lax
	if !m.owned {
		m.file.refs++
	}
	if m.extra != nil {
		w.files = append(w.files, refFlight{at, 0, m.extra, true})
	}
}

// sent says that a send has ended.
func (w *refWire) sent() {
	for i := len(w.files) - 1; i >= 0 && w.files[i].end == 0; i-- {
		w.files[i].end = w.off + uint64(len(w.p))
	}
}

// take removes n bytes, and the files that travel with them. The slice is valid
// until the next call.
func (w *refWire) take(n int) (p []byte, files []refFlight) {
	p = w.p[:n]
	if w.p = w.p[n:]; len(w.p) == 0 {
		w.p = p[:0]
	}
	w.off += uint64(n)
	k := 0
	for k < len(w.files) && w.files[k].at < w.off {
		k++
	}
	files, w.files = w.files[:k], w.files[k:]
	return p, files
}

// drop is what the kernel does when the reader closes.
func (w *refWire) drop() {
	_, files := w.take(len(w.p))
	for _, f := range files {
		f.f.refs--
	}
}

// refEncode is a whole message as dialect d writes it.
func refEncode(d imsg.Dialect, h imsg.Header, payload []byte, mark bool) []byte {
	p := make([]byte, imsg.HeaderSize, imsg.HeaderSize+len(payload))
	ne := binary.NativeEndian
	n, bit := imsg.HeaderSize+len(payload), 0
	if mark {
		bit = 1
	}
	ne.PutUint32(p, h.Type)
	if d == imsg.Legacy {
		ne.PutUint16(p[4:], uint16(n))
		ne.PutUint16(p[6:], uint16(bit))
	} else {
		ne.PutUint32(p[4:], uint32(n)|uint32(bit)<<31)
	}
	ne.PutUint32(p[8:], h.ID)
	ne.PutUint32(p[12:], uint32(h.PID))
	return append(p, payload...)
}

// refIs reports whether got is the error want: itself, wrapped, or a
// HeaderError of the same numbers.
func refIs(got, want error) bool {
	var g, w *imsg.HeaderError
	if errors.As(want, &w) {
		return errors.As(got, &g) && *g == *w
	}
	if want == io.EOF {
		return got == io.EOF
	}
	return errors.Is(got, want)
}
