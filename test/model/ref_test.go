//go:build linux

package model_test

import (
	"errors"
	"io"

	"example.org/imsg"
	"example.org/imsg/test/wireref"
)

// The reference model: doc/wire.md as plain queues, one step after the other.
// It makes no system call and calls nothing of the library; how many bytes a
// call moved is told to it.

// A refMsg is one message to be sent, or a raw peer's bytes.
type refMsg struct {
	b     []byte
	sent  int
	file  *wireref.File
	extra *wireref.File // a raw peer's second file in the same control message
	owned bool          // the queue closes file
}

// A refSender is the sending half of a channel.
type refSender struct {
	queue       []*refMsg
	size, files int   // not written, not sent
	err         error // final, as the library said it first
	n           imsg.Counters
}

// remark says the marks of files that wait in the dialect in force.
func (s *refSender) remark(d wireref.Dialect) {
	for _, m := range s.queue {
		if m.file != nil && m.sent == 0 {
			copy(m.b[4:8], wireref.Encode(d, wireref.Header{}, m.b[imsg.HeaderSize:], true)[4:8])
		}
	}
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

// refMany is how many files one system call may send, each in a send of its own.
const refMany = 32

// bounds is how many bytes one system call carries: at least up to the next
// file, at most up to the one that is too many.
func (s *refSender) bounds() (least, messages, most int) {
	files := 0
	for i, m := range s.queue {
		if m.file != nil && m.sent == 0 {
			files++
		}
		if files > refMany {
			break
		}
		n := len(m.b) - m.sent
		if most += n; files == 0 || i == 0 || files == 1 && s.queue[0].file != nil && s.queue[0].sent == 0 {
			least += n
			messages++
		}
	}
	return least, messages, most
}

// drop discards what is queued.
func (s *refSender) drop() {
	for _, m := range s.queue {
		if m.file != nil && m.sent == 0 && m.owned {
			m.file.Refs--
		}
	}
	s.queue, s.size, s.files = nil, 0, 0
}

// A refWire is what the kernel holds of one direction.
type refWire struct {
	p     []byte
	off   uint64 // stream offset of p[0]
	files []wireref.Flight
	lax   bool
	over  bool // nothing will follow: the writer has closed, or hung up
	reset bool // the writer closed with bytes unread, which Linux reports
}

// unsure says that nobody can tell which message gets which file.
func (w *refWire) unsure() {
	w.lax = true
	for _, f := range w.files {
		f.Unsure = true
	}
}

// carry puts m's files on the wire with the byte that comes next.
func (w *refWire) carry(m *refMsg) {
	at := w.off + uint64(len(w.p))
	w.files = append(w.files, wireref.Flight{File: m.file, At: at})
	m.file.Unsure = m.file.Unsure || w.lax
	if !m.owned {
		m.file.Refs++
	}
	if m.extra != nil {
		w.files = append(w.files, wireref.Flight{File: m.extra, At: at, Surplus: true})
	}
}

// sent says that a send has ended.
func (w *refWire) sent() {
	for i := len(w.files) - 1; i >= 0 && w.files[i].End == 0; i-- {
		w.files[i].End = w.off + uint64(len(w.p))
	}
}

// take removes n bytes, and the files that travel with them. The slice is valid
// until the next call.
func (w *refWire) take(n int) (p []byte, files []wireref.Flight) {
	p = w.p[:n]
	if w.p = w.p[n:]; len(w.p) == 0 {
		w.p = p[:0]
	}
	w.off += uint64(n)
	k := 0
	for k < len(w.files) && w.files[k].At < w.off {
		k++
	}
	files, w.files = w.files[:k], w.files[k:]
	return p, files
}

// drop is what the kernel does when the reader closes.
func (w *refWire) drop() {
	_, files := w.take(len(w.p))
	for _, f := range files {
		f.Refs--
	}
}

// A receiver is the receiving half of a channel: the reference reader, and what
// the library said.
type receiver struct {
	wireref.Reader
	err  error // final, as the library said it first
	n    imsg.Counters
	wire *refWire
}

func newReceiver(e *endpoint) receiver {
	w := &e.peer.out
	return receiver{wire: w, Reader: wireref.Reader{
		Dialect: wireref.Dialect(e.dialect), Limit: imsg.DefaultMaxSize, Files: e.fdpass, Doubt: w.unsure,
	}}
}

func (r *receiver) Feed(p []byte, files []wireref.Flight) {
	r.n.Bytes += uint64(len(p))
	r.Reader.Feed(p, files)
}

// next is the oldest complete message.
func (r *receiver) next() *wireref.Message {
	r.n.Messages++
	return r.Next()
}

// refIs reports whether got is the error want: itself, wrapped, or the
// library's for the reference reader's.
func refIs(got, want error) bool {
	var g *imsg.HeaderError
	var w *wireref.LengthError
	switch {
	case errors.As(want, &w):
		return errors.As(got, &g) && g.Len == w.Len && g.Limit == w.Limit
	case want == wireref.ErrTooManyFiles:
		return errors.Is(got, imsg.ErrTooLarge)
	case want == io.EOF:
		return got == io.EOF
	}
	return errors.Is(got, want)
}
