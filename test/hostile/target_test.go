package hostile_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// How a target behaves.
type targetConfig struct {
	dialect imsg.Dialect
	files   bool // file passing
	limit   int  // maximum size of a message
	conn    bool // Conn, or else Buf
	all     bool // Conn: All, or else Receive
	ctx     bool // Conn: a context that can end, or else a deadline
	hold    bool // messages stay open until the end
	take    int  // files are left to their messages, or 1: TakeFile, 2: TakeFD
	answer  int  // one message in so many is answered
	abrupt  bool // Conn: closed by somebody else while it waits
	quit    int  // closes after so many messages; 0: never
	pending int  // Config.MaxPendingBytes
}

// maxAnswers is what fits the socket of a peer that never reads.
const maxAnswers = 64

// seen is what a target saw.
type seen struct {
	targetConfig
	got       []gotMessage
	payload   []byte
	open      []imsg.Message
	openFiles int
	err       error // of the receiving direction
	serr      error // of the sending one
	end       string
	badLen    int
	replies   int
	silent    bool // no end of the stream is all right
	stats     imsg.Stats
	problem   error

	marked, certain int // messages that want a file, and those where it is certain which
}

func (s *seen) wrong(format string, args ...any) {
	if s.problem == nil {
		s.problem = fmt.Errorf(format, args...)
	}
}

// message notes a message and reports whether to go on.
func (s *seen) message(m imsg.Message, queue func(imsg.Header, ...[]byte) error) bool {
	g := gotMessage{h: m.Header(), beg: len(s.payload), lost: errors.Is(m.FileErr(), imsg.ErrFileLost)}
	s.payload = append(s.payload, m.Bytes()...)
	g.end = len(s.payload)
	if m.Len() != g.end-g.beg || m.Type() != g.h.Type {
		s.wrong("message %d: length %d of %d", len(s.got), m.Len(), g.end-g.beg)
	}
	switch {
	case !m.HasFile():
	case s.take == 0:
		g.file = someFile
	case s.take == 1:
		f := m.TakeFile()
		rc, err := f.SyscallConn()
		if err == nil {
			err = rc.Control(func(fd uintptr) { g.file = s.identity(int(fd)) })
		}
		if err != nil {
			s.wrong("message %d: its file: %v", len(s.got), err)
		}
		f.Close()
	default:
		fd := m.TakeFD()
		g.file = s.identity(fd)
		unix.Close(fd)
	}
	s.got = append(s.got, g)
	if s.serr == nil && s.replies < maxAnswers && s.answer > 0 && len(s.got)%s.answer == 0 {
		if s.serr = queue(imsg.Header{Type: g.h.Type}, m.Bytes()[:min(m.Len(), 100)]); s.serr == nil {
			s.replies++
		}
	}
	if s.hold {
		if s.open = append(s.open, m); m.HasFile() {
			s.openFiles++
		}
	} else {
		m.Close()
	}
	return s.quit == 0 || len(s.got) < s.quit
}

func (s *seen) identity(fd int) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		s.wrong("message %d: file %d: %v", len(s.got), fd, err)
	}
	return fileIdentity(&st)
}

func fileIdentity(st *unix.Stat_t) uint64 { return uint64(st.Ino)<<20 ^ uint64(st.Dev) }

// over names the end, looks again at the messages that are still open, and
// compares what was counted.
func (s *seen) over() {
	var he *imsg.HeaderError
	var oe *imsg.OpError
	switch {
	case s.err == nil && s.end != "":
		// silence, or closed by the target itself
	case s.err == io.EOF:
		s.end = endBetween
	case s.abrupt && errors.Is(s.err, net.ErrClosed):
		s.end = endQuit
	case !errors.As(s.err, &oe) || oe.Op != "receive" || oe.Timeout():
		s.wrong("the error is %#v", s.err)
	case errors.Is(s.err, io.ErrUnexpectedEOF):
		s.end = endInside
	case errors.As(s.err, &he):
		s.end, s.badLen = endHeader, he.Len
		if he.Limit != s.limit || !errors.Is(s.err, imsg.ErrTooLarge) {
			s.wrong("the error is %v, want limit %d", s.err, s.limit)
		}
	case errors.Is(s.err, imsg.ErrTooLarge):
		s.end = endFiles
	case errors.Is(s.err, syscall.ECONNRESET):
		s.end = endReset
	default:
		s.wrong("the error is %v", s.err)
	}
	if e := s.serr; e != nil && !errors.Is(e, syscall.EPIPE) && !errors.Is(e, syscall.ECONNRESET) && !(s.abrupt && errors.Is(e, net.ErrClosed)) {
		s.wrong("the answer's error is %v", e)
	}
	for i, m := range s.open {
		g := s.got[i]
		if m.Header() != g.h || string(m.Bytes()) != string(s.payload[g.beg:g.end]) {
			s.wrong("message %d of %d has changed while it was open", i, len(s.open))
		}
		m.Close()
	}
	files := 0
	for _, g := range s.got {
		if g.file != 0 {
			files++
		}
	}
	if n := s.stats.Received; n.Messages != uint64(len(s.got)) || n.Files != uint64(files) {
		s.wrong("counters %+v after %d messages with %d files", n, len(s.got), files)
	}
}
