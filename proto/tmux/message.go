package tmux

import (
	"encoding/binary"
	"fmt"

	"example.org/imsg"
)

// Types of messages, as in tmux-protocol.h.
const (
	msgVersion           = 12
	msgIdentifyTerm      = 101
	msgIdentifyTTYName   = 102
	msgIdentifyStdin     = 104
	msgIdentifyEnviron   = 105
	msgIdentifyDone      = 106
	msgIdentifyClientPID = 107
	msgIdentifyCwd       = 108
	msgIdentifyStdout    = 110
	msgIdentifyLongFlags = 111
	msgCommand           = 200
	msgDetach            = 201
	msgDetachKill        = 202
	msgExit              = 203
	msgExited            = 204
	msgExiting           = 205
	msgReady             = 207
	msgResize            = 208
	msgShutdown          = 210
	msgSuspend           = 214
	msgFlags             = 218
	msgReadOpen          = 300
	msgRead              = 301
	msgReadDone          = 302
	msgWriteOpen         = 303
	msgWrite             = 304
	msgWriteReady        = 305
	msgWriteClose        = 306
	msgReadCancel        = 307
)

const (
	protocolVersion = 8 // in the id of every header

	// Flags of a client, in LONGFLAGS.
	flagControl = 0x2000
	flagUTF8    = 0x10000

	maxPayload = imsg.DefaultMaxSize - imsg.HeaderSize
	maxCommand = maxPayload - 4 // bytes of the arguments of one message, each with its NUL
	maxData    = maxPayload - 4 // bytes of a file in one message
)

var typeNames = map[uint32]string{
	12: "VERSION",

	100: "IDENTIFY_FLAGS", 101: "IDENTIFY_TERM", 102: "IDENTIFY_TTYNAME", 103: "IDENTIFY_OLDCWD", 104: "IDENTIFY_STDIN",
	105: "IDENTIFY_ENVIRON", 106: "IDENTIFY_DONE", 107: "IDENTIFY_CLIENTPID", 108: "IDENTIFY_CWD", 109: "IDENTIFY_FEATURES",
	110: "IDENTIFY_STDOUT", 111: "IDENTIFY_LONGFLAGS", 112: "IDENTIFY_TERMINFO",

	200: "COMMAND", 201: "DETACH", 202: "DETACHKILL", 203: "EXIT", 204: "EXITED", 205: "EXITING", 206: "LOCK", 207: "READY",
	208: "RESIZE", 209: "SHELL", 210: "SHUTDOWN", 211: "OLDSTDERR", 212: "OLDSTDIN", 213: "OLDSTDOUT", 214: "SUSPEND",
	215: "UNLOCK", 216: "WAKEUP", 217: "EXEC", 218: "FLAGS",

	300: "READ_OPEN", 301: "READ", 302: "READ_DONE", 303: "WRITE_OPEN", 304: "WRITE", 305: "WRITE_READY", 306: "WRITE_CLOSE",
	307: "READ_CANCEL", 308: "WRITE_DONE",
}

// TypeName returns the name that tmux gives a type of message, without its
// MSG_, for example "COMMAND" for 200, or "" for a type that is not known. It
// is safe for concurrent use.
func TypeName(typ uint32) string { return typeNames[typ] }

// header is that of every message of ours.
func header(typ uint32) imsg.Header {
	return imsg.Header{Type: typ, ID: protocolVersion, PID: -1}
}

// A tail is what follows the numbers at the front of a payload.
type tail uint8

const (
	noTail      tail = iota
	textTail         // a string and its NUL
	mayTextTail      // the same, or nothing
	bytesTail
)

// A layout is what the payload of one type of message looks like.
type layout struct {
	numbers int // of 32 bits, in front
	tail    tail
	empty   bool // may be empty instead
}

// layouts has the messages that a server sends and a client must understand.
var layouts = map[uint32]layout{
	msgVersion:    {},
	msgDetach:     {0, textTail, true},
	msgDetachKill: {0, textTail, true},
	msgExit:       {1, mayTextTail, true},
	msgExited:     {},
	msgReady:      {},
	msgShutdown:   {},
	msgSuspend:    {},
	msgFlags:      {2, noTail, false},
	msgReadOpen:   {2, textTail, false},
	msgWriteOpen:  {3, mayTextTail, false},
	msgWrite:      {1, bytesTail, false},
	msgWriteClose: {1, noTail, false},
	msgReadCancel: {1, noTail, false},
}

// sizes says which sizes of payload a layout has.
func (l layout) sizes() string {
	n := 4 * l.numbers
	s := fmt.Sprint(n)
	switch l.tail {
	case textTail:
		s = fmt.Sprintf("%d and a string with its NUL", n)
	case mayTextTail:
		s = fmt.Sprintf("%d, or %d and a string with its NUL", n, n)
	case bytesTail:
		s = fmt.Sprintf("at least %d", n)
	}
	if l.empty {
		s = "0, " + s
	}
	return s
}

// A message is a decoded payload. Its data aliases the payload.
type message struct {
	number [3]int32
	data   []byte // without the NUL of a string
}

// decode checks and decodes the payload p of a message of a type that layouts
// has; known is false for any other.
func decode(typ uint32, p []byte) (m message, known bool, err error) {
	l, known := layouts[typ]
	if !known || len(p) == 0 && l.empty {
		return m, known, nil
	}
	bad := &PayloadError{Type: typ, Size: len(p), Want: l.sizes()}
	if len(p) < 4*l.numbers {
		return m, true, bad
	}
	for i := range l.numbers {
		m.number[i] = int32(binary.NativeEndian.Uint32(p[4*i:]))
	}
	m.data = p[4*l.numbers:]
	switch n := len(m.data); {
	case l.tail == bytesTail, l.tail == mayTextTail && n == 0:
	case l.tail == noTail:
		if n > 0 {
			return message{}, true, bad
		}
	case n == 0 || m.data[n-1] != 0:
		return message{}, true, bad
	default:
		m.data = m.data[:n-1]
	}
	return m, true, nil
}

// encode puts fields one behind the other: numbers in host byte order, strings
// with their NUL, bytes as they are.
func encode(fields ...any) (p []byte) {
	for _, v := range fields {
		switch v := v.(type) {
		case string:
			p = append(append(p, v...), 0)
		case []byte:
			p = append(p, v...)
		case int32:
			p = binary.NativeEndian.AppendUint32(p, uint32(v))
		case uint64:
			p = binary.NativeEndian.AppendUint64(p, v)
		default:
			panic(fmt.Sprintf("tmux: encode %T", v))
		}
	}
	return p
}
