package imsg

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/unixmsg"
)

// A Direction is the way a message goes.
type Direction uint8

// The two directions of a channel.
const (
	Sent     Direction = iota // queued to be sent
	Received                  // taken by Get or Receive
)

// String returns "sent" or "received".
func (d Direction) String() string {
	if d == Received {
		return "received"
	}
	return "sent"
}

// An Event is what Config.Trace is told about one message.
type Event struct {
	Channel   uint64 // number of the Conn or Buf in this process, from 1 on
	Peer      int    // process at the other end, as PeerCred tells; 0 if unknown
	Direction Direction
	Header    Header
	TypeName  string    // of Header.Type in Config.TypeNames, or ""
	Payload   ibuf.View // valid during the call only
	HasFile   bool
	FileLost  bool // the header promised a file that did not arrive
}

// String returns a line without the payload, for example
// "channel 1 peer 4242: sent OPEN (7) id 3 pid 4241, 16 bytes, file".
func (e Event) String() string {
	file := ""
	switch {
	case e.FileLost:
		file = ", file lost"
	case e.HasFile:
		file = ", file"
	}
	return fmt.Sprintf("channel %d peer %d: %v %s id %d pid %d, %d bytes%s",
		e.Channel, e.Peer, e.Direction, typeText(e.Header.Type, e.TypeName), e.Header.ID, e.Header.PID, e.Payload.Len(), file)
}

// LogValue returns a group of everything but the payload, of which it has the
// length.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Uint64("channel", e.Channel), slog.Int("peer", e.Peer), slog.String("direction", e.Direction.String()),
		slog.Uint64("type", uint64(e.Header.Type)), slog.Uint64("id", uint64(e.Header.ID)), slog.Int64("pid", int64(e.Header.PID)),
		slog.Int("len", e.Payload.Len()), slog.Bool("file", e.HasFile),
	}
	if e.TypeName != "" {
		attrs = append(attrs, slog.String("name", e.TypeName))
	}
	if e.FileLost {
		attrs = append(attrs, slog.Bool("lost", true))
	}
	return slog.GroupValue(attrs...)
}

// typeText names a type in an error or a trace.
func typeText(typ uint32, name string) string {
	if name == "" {
		return "type " + strconv.FormatUint(uint64(typ), 10)
	}
	return name + " (" + strconv.FormatUint(uint64(typ), 10) + ")"
}

// PrintTrace returns a function for Config.Trace that writes each event as one
// line to w, Event.String and up to n bytes of the payload, quoted, behind it:
// a payload can hold secrets, and bytes that a peer chose to upset a terminal.
// It may be used by many channels; an error of w is ignored. It waits for w,
// and a channel waits meanwhile.
func PrintTrace(w io.Writer, n int) func(Event) {
	var mu sync.Mutex
	prefix := "imsg[" + strconv.Itoa(os.Getpid()) + "] "
	return func(e Event) {
		text := ""
		if p := e.Payload.Bytes(); n > 0 && len(p) > 0 {
			text = ": " + strconv.QuoteToASCII(string(p[:min(n, len(p))]))
			if len(p) > n {
				text += "..."
			}
		}
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(w, prefix+e.String()+text+"\n")
	}
}

// TraceVar is the environment variable that, set to 1, makes every channel of
// a program trace its messages to standard error, without payloads, whatever
// its Config says. A program that has more rights than who started it
// (set-user-ID, file capabilities) ignores it.
const TraceVar = "IMSG_TRACE"

// envTrace is what the environment asks for, or nil. The environment counts
// that is there when the first channel is made.
var envTrace = sync.OnceValue(func() func(Event) {
	if os.Getenv(TraceVar) != "1" || unixmsg.Secure() {
		return nil
	}
	return PrintTrace(os.Stderr, 0)
})

var channels atomic.Uint64 // made so far in this process

// trace tells of an event on the channel; Config.Trace is not nil.
func (s *settings) trace(e Event) {
	e.Channel, e.Peer, e.TypeName = s.number, s.peer, s.cfg.TypeNames[e.Header.Type]
	s.cfg.Trace(e)
}

// withEnvTrace adds what the environment asks for to a channel's own trace; nil
// if there is neither.
func withEnvTrace(own func(Event)) func(Event) {
	env := envTrace()
	switch {
	case env == nil:
		return own
	case own == nil:
		return env
	}
	return func(e Event) {
		env(e)
		own(e)
	}
}
