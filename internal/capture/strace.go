package capture

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A StraceReader reads the messages in what strace(1) printed: of any version
// and with any of -f, -t, -T, -y and -x. With -yy and -f it tells both ends of
// each channel, with -ttt the times. What was printed without -s is cut, and
// said to be. Lines that show something else are passed over.
type StraceReader struct {
	in     *bufio.Reader
	line   []byte // that is longer than in's buffer
	number int
	opt    Options

	asm   *Assembler
	queue []Record
	next  int
	last  Record
	err   error

	begun  map[int]begun  // calls that are unfinished, by thread
	parent map[int]int    // of a thread: another of its process
	exe    map[int]string // by process
	owner  map[uint64]int // a thread that has used the socket
	socket map[endKey]bool
	found  bool
	cut    bool
	args   callArgs
	calls  int // that moved bytes over a socket
}

// begun is the first half of a call.
type begun struct {
	text []byte
	time time.Time
}

const (
	straceLine  = 64 << 20 // longest line: one with a MaxPayload in hex
	straceBegun = 1 << 12  // calls that are unfinished at a time
	straceNames = 1 << 16  // processes, and descriptors
)

// NewStraceReader returns a Reader of r. Its options need no dialect and no
// byte order: each end's are guessed.
func NewStraceReader(r io.Reader, o Options) *StraceReader {
	s := &StraceReader{
		in: bufio.NewReaderSize(r, 256<<10), opt: o, begun: map[int]begun{}, parent: map[int]int{},
		exe: map[int]string{}, owner: map[uint64]int{}, socket: map[endKey]bool{},
	}
	s.asm = NewAssembler(func(r *Record) error {
		x := *r
		x.Files = append([]File(nil), r.Files...)
		if s.cut && r.Cut() > 0 {
			x.Note = fmt.Sprintf("%d bytes of the payload cut by strace -s", r.Cut())
		}
		s.queue = append(s.queue, x)
		return nil
	})
	s.asm.Max = o.max()
	s.asm.Problem = o.Warn
	return s
}

// Next returns the next record, or io.EOF at the end.
func (s *StraceReader) Next() (*Record, error) {
	for {
		if s.next < len(s.queue) {
			s.last, s.queue[s.next] = s.queue[s.next], Record{}
			s.next++
			s.found = true
			return &s.last, nil
		}
		s.queue, s.next = s.queue[:0], 0
		if s.err != nil {
			return nil, s.err
		}
		p, err := s.readLine()
		if len(p) > 0 {
			s.parse(p)
		}
		if err != nil {
			s.asm.Close()
			s.err = s.end(err)
		}
	}
}

// end says what the end of the input means.
func (s *StraceReader) end(err error) error {
	switch {
	case err != io.EOF:
		return &InputError{Line: s.number, Err: err}
	case s.number == 0 || s.found || len(s.queue) > 0:
		return io.EOF
	case s.calls == 0:
		return &InputError{Line: s.number, Err: fmt.Errorf("expected calls of sendmsg(2) and recvmsg(2) in what strace printed, found none")}
	}
	return &InputError{Line: s.number, Err: fmt.Errorf("no imsg in %d calls", s.calls)}
}

// readLine returns the next line, without its end. A line that is too long is
// passed over.
func (s *StraceReader) readLine() ([]byte, error) {
	s.number++
	p, err := s.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		s.line = append(s.line[:0], p...)
		for err == bufio.ErrBufferFull {
			p, err = s.in.ReadSlice('\n')
			if len(s.line) < straceLine {
				s.line = append(s.line, p...)
			}
		}
		if p = s.line; len(p) >= straceLine {
			s.opt.warn("line %d is longer than %d bytes: left out", s.number, straceLine)
			p = nil
		}
		if cap(s.line) > 4<<20 {
			s.line = nil
		}
	}
	return bytes.TrimRight(p, "\r\n"), err
}

// parse takes one line.
func (s *StraceReader) parse(p []byte) {
	tid, comm, at, p := prefix(p)
	if comm != "" && s.exe[s.process(tid)] == "" && len(s.exe) < straceNames {
		s.exe[s.process(tid)] = comm
	}
	if rest, ok := bytes.CutPrefix(p, []byte("<... ")); ok {
		b, ok := s.begun[tid]
		_, rest, whole := bytes.Cut(rest, []byte(" resumed>"))
		if !ok || !whole {
			return
		}
		delete(s.begun, tid)
		s.call(tid, append(b.text, rest...), b.time, at)
		return
	}
	tail := max(len(p)-len("<unfinished ...>"), 0)
	if i := bytes.Index(p[tail:], []byte("<unfinished ...")) + tail; i >= tail {
		if wanted(p) != callOther && len(s.begun) < straceBegun && i < 1<<20 {
			s.begun[tid] = begun{bytes.Clone(p[:i]), at}
		}
		return
	}
	s.call(tid, p, at, at)
}

// prefix splits what strace prints in front of a call: a thread, perhaps with a
// name, and a time.
func prefix(p []byte) (tid int, comm string, at time.Time, rest []byte) {
	if q, ok := bytes.CutPrefix(p, []byte("[pid ")); ok {
		if q, more, ok := bytes.Cut(q, []byte("]")); ok {
			tid, comm = thread(bytes.TrimSpace(q))
			p = bytes.TrimLeft(more, " ")
		}
	} else if i := bytes.IndexByte(p, ' '); i > 0 && isDigit(p[0]) {
		if word := p[:i]; bytes.IndexByte(word, ':') < 0 && (bytes.IndexByte(word, '.') < 0 || word[i-1] == '>') {
			tid, comm = thread(word)
			p = bytes.TrimLeft(p[i:], " ")
		}
	}
	if len(p) > 0 && (isDigit(p[0]) || p[0] == ' ') {
		p = bytes.TrimLeft(p, " ")
		if i := bytes.IndexByte(p, ' '); i > 0 {
			if t, ok := clock(p[:i]); ok {
				at, p = t, bytes.TrimLeft(p[i:], " ")
			}
		}
	}
	return tid, comm, at, p
}

// thread parses "123" and "123<name>".
func thread(p []byte) (int, string) {
	num, name, _ := bytes.Cut(p, []byte("<"))
	n, _ := strconv.Atoi(string(num))
	return n, string(bytes.TrimSuffix(name, []byte(">")))
}

// clock parses the times of -ttt, -tt and -t, the latter without a day.
func clock(p []byte) (t time.Time, ok bool) {
	whole, frac, _ := bytes.Cut(p, []byte("."))
	var ns int64
	for i := range 9 {
		ns *= 10
		if i < len(frac) {
			if !isDigit(frac[i]) {
				return t, false
			}
			ns += int64(frac[i] - '0')
		}
	}
	if len(whole) == 8 && whole[2] == ':' && whole[5] == ':' {
		var n [3]int64
		for i := range n {
			a, b := whole[3*i], whole[3*i+1]
			if !isDigit(a) || !isDigit(b) {
				return t, false
			}
			n[i] = int64(a-'0')*10 + int64(b-'0')
		}
		return time.Unix(n[0]*3600+n[1]*60+n[2], ns).UTC(), true
	}
	var sec int64
	if len(whole) > 18 {
		return t, false
	}
	for _, c := range whole {
		if !isDigit(c) {
			return t, false
		}
		sec = sec*10 + int64(c-'0')
	}
	if sec < 1e8 {
		return t, true // of -r: how long after the last line
	}
	return time.Unix(sec, ns), true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// process returns what stands for the process of a thread: its smallest thread
// that is known.
func (s *StraceReader) process(tid int) int {
	for {
		p, ok := s.parent[tid]
		if !ok {
			return tid
		}
		tid = p
	}
}

// join notes that two threads are of one process.
func (s *StraceReader) join(a, b int) {
	a, b = s.process(a), s.process(b)
	if a == b || len(s.parent) >= straceNames {
		return
	}
	if a > b {
		a, b = b, a
	}
	s.parent[b] = a
	if e := s.exe[b]; e != "" && s.exe[a] == "" {
		s.exe[a] = e
	}
}

// call takes a whole call, of which begin and end are times as far as they are
// known.
func (s *StraceReader) call(tid int, p []byte, begin, end time.Time) {
	kind := wanted(p)
	if kind == callOther {
		return
	}
	body, ret, spent, ok := result(p)
	if !ok {
		return
	}
	if spent > 0 && end.Equal(begin) && !end.IsZero() {
		end = begin.Add(spent)
	}
	if kind > callMoves {
		s.other(kind, tid, body, ret)
		return
	}
	if ret <= 0 {
		return
	}
	a := &s.args
	if !a.fd(body) {
		return
	}
	side := Side{Endpoint: Endpoint{PID: s.process(tid), FD: a.fdNum}, Inode: a.inode, Peer: a.peer, Name: a.path}
	key := side.key()
	switch {
	case a.noted && !a.unix:
		return
	case !a.noted && kind.plain() && !s.socket[key]:
		return // a file, perhaps
	case !a.noted && len(s.socket) < straceNames:
		s.socket[key] = true
	}
	s.calls++
	if a.inode != 0 {
		if o, ok := s.owner[a.inode]; ok {
			s.join(o, tid)
		} else if len(s.owner) < straceNames {
			s.owner[a.inode] = tid
		}
		side.PID = s.process(tid)
	}
	side.Exe = s.exe[side.PID]
	time := begin
	if kind.receives() {
		time = end
	}
	a.scan(kind, ret, func(c *Call) {
		c.Time = time
		if len(c.Hidden) > 0 {
			s.cut = true
		}
		if kind.receives() {
			s.asm.Received(side, *c)
		} else {
			s.asm.Sent(side, *c)
		}
	})
}

// other takes a call that tells about processes and descriptors.
func (s *StraceReader) other(kind callKind, tid int, body []byte, ret int) {
	pid := s.process(tid)
	switch kind {
	case callClose:
		a := &s.args
		if a.fd(body) && a.inode == 0 && ret == 0 {
			side := Side{Endpoint: Endpoint{PID: pid, FD: a.fdNum}}
			delete(s.socket, side.key())
			s.asm.Closed(side)
		}
	case callExec:
		if ret == 0 && len(s.exe) < straceNames && len(body) > 0 && body[0] == '"' {
			path, _ := unquote(nil, body)
			s.exe[pid] = string(path)
		}
	case callClone:
		if ret <= 0 {
			return
		}
		if bytes.Contains(body, []byte("CLONE_THREAD")) {
			s.join(tid, ret)
		} else if e := s.exe[pid]; e != "" && len(s.exe) < straceNames {
			s.exe[ret] = e
		}
	}
}
