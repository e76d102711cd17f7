package capture

import (
	"bytes"
	"strconv"
	"time"

	"example.org/imsg"
)

// A callKind is what a line of strace shows.
type callKind int

const (
	callOther callKind = iota
	callRead
	callReadv
	callRecvfrom
	callRecvmsg
	callRecvmmsg
	callWrite
	callWritev
	callSendto
	callSendmsg
	callSendmmsg
	callMoves // those before move bytes
	callClose
	callExec
	callClone
)

var callKinds = map[string]callKind{
	"read": callRead, "readv": callReadv, "recvfrom": callRecvfrom, "recv": callRecvfrom, "recvmsg": callRecvmsg, "recvmmsg": callRecvmmsg,
	"recvmmsg_time64": callRecvmmsg, "write": callWrite, "writev": callWritev, "sendto": callSendto, "send": callSendto, "sendmsg": callSendmsg,
	"sendmmsg": callSendmmsg, "close": callClose, "execve": callExec, "clone": callClone, "clone3": callClone, "fork": callClone, "vfork": callClone,
}

func (k callKind) receives() bool { return k < callWrite }

// plain says that a file can be read and written with it, too.
func (k callKind) plain() bool {
	return k == callRead || k == callReadv || k == callWrite || k == callWritev
}

// many says that it moves many messages.
func (k callKind) many() bool { return k == callRecvmmsg || k == callSendmmsg }

// wanted returns what kind of call a line shows.
func wanted(p []byte) callKind {
	i := bytes.IndexByte(p[:min(len(p), 20)], '(')
	if i < 0 {
		return callOther
	}
	return callKinds[string(p[:i])]
}

// result splits a call at its result: body is what is between the parentheses,
// spent the time of -T.
func result(p []byte) (body []byte, ret int, spent time.Duration, ok bool) {
	beg := bytes.IndexByte(p, '(') + 1
	i := bytes.LastIndex(p, []byte(" = "))
	if i < beg {
		return nil, 0, 0, false
	}
	body = bytes.TrimRight(p[beg:i], " ")
	if n := len(body); n > 0 && body[n-1] == ')' {
		body = body[:n-1]
	} else {
		return nil, 0, 0, false
	}
	r := p[i+3:]
	if j := bytes.LastIndexByte(r, '<'); j >= 0 && r[len(r)-1] == '>' {
		if sec, err := strconv.ParseFloat(string(r[j+1:len(r)-1]), 64); err == nil && sec >= 0 && sec < 1e6 {
			spent = time.Duration(sec * float64(time.Second))
		}
	}
	n := 0
	for n < len(r) && isDigit(r[n]) {
		n++
	}
	if n == 0 || n > 9 {
		return nil, 0, 0, false // an error, or "?"
	}
	ret, _ = strconv.Atoi(string(r[:n]))
	return body, ret, spent, true
}

// callArgs are the arguments of a call.
type callArgs struct {
	p     []byte // what is behind the descriptor
	fdNum int
	noted bool // the descriptor is annotated
	unix  bool // as an AF_UNIX socket, or as some socket
	inode uint64
	peer  uint64
	path  string // that the socket is bound to

	data  []byte // of the strings
	parts []part
	bytes []byte
	gaps  []Range
	files []File
	lost  bool
	note  []byte
}

// A part is one element of an iovec: data[beg:end] of it was printed.
type part struct {
	beg, end int
	n        int // its length, as the program gave it
}

// fd parses the first argument, a descriptor.
func (a *callArgs) fd(p []byte) bool {
	i := 0
	for i < len(p) && isDigit(p[i]) && i < 10 {
		i++
	}
	if i == 0 || i == 10 {
		return false
	}
	a.fdNum, _ = strconv.Atoi(string(p[:i]))
	a.noted, a.unix, a.inode, a.peer, a.path = false, false, 0, 0, ""
	p = p[i:]
	if len(p) > 0 && p[0] == '<' {
		end := annotation(p)
		if end < 0 {
			return false
		}
		a.noted = true
		a.socket(p[1 : end-1])
		p = p[end:]
	}
	a.p = p
	return true
}

// annotation returns the length of <...> at the beginning of p. It can hold
// "->", strings, and others of its kind.
func annotation(p []byte) int {
	depth := 0
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '<':
			depth++
		case '>':
			if i > 0 && p[i-1] == '-' {
				continue
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case '\\':
			i++
		case '"':
			for i++; i < len(p) && p[i] != '"'; i++ {
				if p[i] == '\\' {
					i++
				}
			}
		}
	}
	return -1
}

// socket parses what -yy and -y say of a socket: UNIX-STREAM:[1->2,"path"] and
// socket:[1].
func (a *callArgs) socket(p []byte) {
	if len(p) > 0 && p[0] == '\\' { // -xx escapes what it takes from /proc
		a.note = unescape(a.note[:0], p)
		p = a.note
	}
	rest, ok := bytes.CutPrefix(p, []byte("UNIX"))
	if ok {
		if i := bytes.IndexByte(rest, '['); i >= 0 && i < 12 {
			a.unix = true
			rest = rest[i+1:]
		}
	} else if rest, ok = bytes.CutPrefix(p, []byte("socket:[")); ok {
		a.unix = true
	}
	if !a.unix {
		return
	}
	a.inode, rest = number(rest)
	if q, ok := bytes.CutPrefix(rest, []byte("->")); ok {
		a.peer, rest = number(q)
	}
	if i := bytes.IndexByte(rest, '"'); i >= 0 {
		path, _ := unquote(nil, rest[i:])
		a.path = string(path)
	}
}

func number(p []byte) (n uint64, rest []byte) {
	i := 0
	for i < len(p) && isDigit(p[i]) && i < 19 {
		n = n*10 + uint64(p[i]-'0')
		i++
	}
	return n, p[i:]
}

// scan finds the bytes and the files in the arguments, and gives what each
// message of a call moved to out.
func (a *callArgs) scan(kind callKind, ret int, out func(*Call)) {
	a.reset()
	depth, given, p := 0, 0, a.p
	word := 0 // where the last word began
	for i := 0; i < len(p); {
		c := p[i]
		switch {
		case c == '"':
			n := a.str(p, i, depth, word)
			i += n
		case c == '<':
			n := annotation(p[i:])
			if n < 0 {
				n = len(p) - i
			}
			i += n
		case c == '{' || c == '[':
			depth++
			i++
			word = i
		case c == '}' || c == ']':
			depth--
			i++
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
			word = i
			for i < len(p) && (p[i] >= 'a' && p[i] <= 'z' || p[i] >= 'A' && p[i] <= 'Z' || p[i] == '_' || isDigit(p[i])) {
				i++
			}
			switch string(p[word:i]) {
			case "SCM_RIGHTS":
				i += a.rights(p[i:], kind)
			case "MSG_CTRUNC":
				a.lost = true
			case "iov_base": // without a string: it was not printed
				if i+1 < len(p) && p[i] == '=' && p[i+1] != '"' {
					a.parts = append(a.parts, part{n: length(p[i+1:])})
				}
			case "msg_len":
				if n, _ := number(bytes.TrimLeft(p[i:], "=")); kind.many() && given < ret {
					a.give(kind, int(min(n, MaxPayload)), out)
					given++
					a.reset()
				}
			}
		default:
			i++
		}
	}
	if !kind.many() {
		a.give(kind, ret, out)
	}
}

func (a *callArgs) reset() {
	a.data, a.parts, a.bytes, a.gaps, a.files, a.lost = a.data[:0], a.parts[:0], a.bytes[:0], a.gaps[:0], a.files[:0], false
}

// str takes the string at p[i:] if it is what was moved, and returns how long
// it is there. That is so for a direct argument, and for the first member of an
// iovec.
func (a *callArgs) str(p []byte, i, depth, word int) int {
	beg := len(a.data)
	data, n := unquote(a.data, p[i:])
	if depth > 0 && !bytes.HasPrefix(p[word:], []byte("iov_base=")) && p[i-1] != '{' || depth == 0 && len(a.parts) > 0 {
		return n
	}
	a.data = data
	a.parts = append(a.parts, part{beg, len(data), length(p[i+n:])})
	return n
}

// length parses the number that follows an address or a string.
func length(p []byte) int {
	i := bytes.IndexByte(p[:min(len(p), 40)], ',')
	if i < 0 {
		return 0
	}
	p = bytes.TrimPrefix(bytes.TrimLeft(p[i+1:], " "), []byte("iov_len="))
	n, _ := number(p)
	return int(min(n, MaxPayload))
}

// rights takes the descriptors behind SCM_RIGHTS, and returns where they end.
func (a *callArgs) rights(p []byte, kind callKind) int {
	i := 0
	for i < len(p) && p[i] != '[' && p[i] != '{' {
		if i++; i > 16 {
			return 0
		}
	}
	for i++; i < len(p) && p[i] != ']' && p[i] != '}'; {
		n, rest := number(p[i:])
		if len(rest) == len(p)-i {
			i++
			continue
		}
		i = len(p) - len(rest)
		f := File{From: -1, To: -1}
		if kind.receives() {
			f.To = int(n)
		} else {
			f.From = int(n)
		}
		if len(rest) > 0 && rest[0] == '<' {
			m := annotation(rest)
			if m < 0 {
				return len(p)
			}
			f.Path, f.Kind = described(rest[1 : m-1])
			i += m
		}
		if len(a.files) < 256 {
			a.files = append(a.files, f)
		}
	}
	return i
}

// described turns an annotation into a path and a kind.
func described(p []byte) (path, kind string) {
	note := unescape(nil, p)
	inner, dev, isDev := bytes.Cut(note, []byte("<"))
	switch {
	case isDev && bytes.HasPrefix(dev, []byte("char")):
		return string(inner), "char"
	case isDev && bytes.HasPrefix(dev, []byte("block")):
		return string(inner), "block"
	case bytes.HasPrefix(note, []byte("pipe:")):
		kind = "pipe"
	case bytes.HasPrefix(note, []byte("anon_inode:")):
		kind = "anon"
	case len(note) > 0 && note[0] != '/':
		kind = "socket"
	}
	return string(note), kind
}

// give makes a call of the parts: n bytes were moved.
func (a *callArgs) give(kind callKind, n int, out func(*Call)) {
	room := 0
	for _, p := range a.parts {
		room += p.n
		want := min(p.n, n-len(a.bytes))
		if want <= 0 {
			continue
		}
		have := min(p.end-p.beg, want)
		a.bytes = append(a.bytes, a.data[p.beg:p.beg+have]...)
		a.hide(want - have)
	}
	a.hide(min(n-len(a.bytes), MaxPayload+imsg.HeaderSize))
	out(&Call{Bytes: a.bytes, Files: a.files, Lost: a.lost, Full: kind.receives() && room <= n, Hidden: a.gaps})
}

// hide adds n bytes that were not printed.
func (a *callArgs) hide(n int) {
	if n <= 0 {
		return
	}
	beg := len(a.bytes)
	a.bytes = append(a.bytes, make([]byte, n)...)
	a.gaps = append(a.gaps, Range{beg, beg + n})
}

// hexDigit has the value of each hex digit, and 255 for what is none.
var hexDigit = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
		if d := digit(byte(i)); d >= 0 {
			t[i] = byte(d)
		}
	}
	return t
}()

// unquote appends the string at the beginning of p, which begins with a quote,
// and returns how long it is there.
func unquote(b, p []byte) (_ []byte, n int) {
	i := 1
	for i+3 < len(p) && p[i] == '\\' && p[i+1] == 'x' { // -xx
		hi, lo := hexDigit[p[i+2]], hexDigit[p[i+3]]
		if hi|lo > 15 {
			break
		}
		b = append(b, hi<<4|lo)
		i += 4
	}
	end := i
	for end < len(p) && p[end] != '"' {
		if p[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(p))
	b = unescape(b, p[i:end])
	return b, min(end+1, len(p))
}

var escapes = [256]byte{'n': '\n', 't': '\t', 'r': '\r', 'v': '\v', 'f': '\f', 'a': '\a', 'b': '\b', 'e': 27}

// unescape appends p with the escapes of strace undone.
func unescape(b, p []byte) []byte {
	for i := 0; i < len(p); {
		j := bytes.IndexByte(p[i:], '\\')
		if j < 0 {
			return append(b, p[i:]...)
		}
		b = append(b, p[i:i+j]...)
		if i += j + 1; i == len(p) {
			return b
		}
		switch c := p[i]; {
		case c >= '0' && c <= '7':
			v := 0
			for k := 0; k < 3 && i < len(p) && p[i] >= '0' && p[i] <= '7'; k++ {
				v = v<<3 | int(p[i]-'0')
				i++
			}
			b = append(b, byte(v))
		case c == 'x' && i+2 < len(p) && hexDigit[p[i+1]]|hexDigit[p[i+2]] < 16:
			b = append(b, hexDigit[p[i+1]]<<4|hexDigit[p[i+2]])
			i += 3
		case escapes[c] != 0:
			b = append(b, escapes[c])
			i++
		default:
			b = append(b, c)
			i++
		}
	}
	return b
}
