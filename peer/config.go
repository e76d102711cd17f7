package peer

import (
	"os"
	"time"

	"example.org/imsg/internal/flow"
)

// Match says how an answer is recognised as the answer to one of our requests,
// and with it whether ids mean anything on the channel.
type Match uint8

const (
	// ByID gives every request an id of its own, which its answers carry. It
	// is what Incoming.Reply does on the other side. A message with id 0
	// expects no answer.
	ByID Match = iota

	// ByPID is InOrder with one call at a time, for servers that route answers
	// by the pid of the request, as bgpd does. The pid of an answer is not
	// looked at: OpenBGPD 7.7 writes its own into some.
	ByPID

	// InOrder is for servers whose answers carry nothing of the request, as
	// ntpd's: they come in the order of the requests. Servers that answer two
	// requests at a time with the messages of both mixed want MaxCalls 1.
	InOrder
)

// DefaultErrorType is the type of the message that answers a request which
// failed, unless Config says otherwise. It is the largest there is: programs
// count theirs from 0.
const DefaultErrorType uint32 = 1<<32 - 1

// A Config says how a peer behaves. The zero Config, which nil stands for, is
// for two ends that both use this package.
type Config struct {
	Match Match
	ID    uint32 // the id of our requests with ByPID and InOrder
	PID   int32  // the pid of our requests; 0: this process's

	// ErrorType is the type of a message that answers any request with a text
	// that says what failed. 0: DefaultErrorType.
	ErrorType uint32

	// NoErrorType is for other ends that know no such message: none is sent
	// or recognised, and a handler's error ends the peer.
	NoErrorType bool

	// CancelType is the type of a message that tells the other end that nobody
	// waits for the answer to the request whose id it carries. It is sent when
	// a call is given up, and ends the context of the handler when it comes.
	// 0: there is none. It needs ByID, and both ends must have the same.
	CancelType uint32

	// MaxCalls is how many calls may be under way at once; more wait. 0: 64.
	// With ByID, a handler's call with the context that it was given is not
	// counted, one at a time for each handler.
	MaxCalls int

	// MaxRequests is how many requests may wait for a handler before reading
	// pauses, and four times as many while somebody here waits for the other
	// end. 0: 64.
	MaxRequests int

	// Workers is how many handlers run at once. With 1, which 0 stands for,
	// requests are handled one after the other in the order in which they
	// came. With more, a handler that waits for an answer of the same peer is
	// not counted, so that ends that call each other back always go on.
	Workers int

	// WriteTimeout is how long Incoming.Reply waits for an other end that does
	// not read. 0: 30 seconds; negative: for ever.
	WriteTimeout time.Duration

	// Directories lets directories be sent. Who holds one can open what lies
	// below and, with "..", beside it: past its own chroot. Without it a
	// directory is refused with syscall.EISDIR.
	Directories bool

	// Report, if not nil, gets the errors that reach no caller: the
	// *PanicError of a handler, after which the peer goes on, and the
	// *RemoteError of a message sent with Send. It may be called by several
	// goroutines, should return soon and must not wait for the peer.
	Report func(error)
}

// hardFactor is how much more than its bound a queue may hold while somebody
// here waits for what comes behind.
const hardFactor = 4

// maxItems is how many messages a call holds before reading pauses.
const maxItems = 64

// withDefaults returns the configuration with what zero values stand for.
func (c Config) withDefaults() Config {
	c.MaxCalls = orElse(c.MaxCalls, 64)
	c.MaxRequests = orElse(c.MaxRequests, 64)
	c.Workers = orElse(c.Workers, 1)
	if c.Match == ByPID {
		c.MaxCalls = 1
	}
	if c.Match != ByID {
		c.CancelType = 0
	}
	if c.PID == 0 {
		c.PID = int32(os.Getpid())
	}
	if c.ErrorType == 0 {
		c.ErrorType = DefaultErrorType
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	return c
}

// limits are what the flow of messages is decided by.
func (c *Config) limits() flow.Limits {
	return flow.Limits{
		Workers: c.Workers, Requests: c.MaxRequests, Most: hardFactor*c.MaxRequests + c.Workers,
		Items: maxItems, HardItems: hardFactor * maxItems,
	}
}

// isError reports whether typ is that of messages that say what failed.
func (c *Config) isError(typ uint32) bool { return typ == c.ErrorType && !c.NoErrorType }

// isCancel reports whether typ is that of messages that give a request up.
func (c *Config) isCancel(typ uint32) bool { return typ == c.CancelType && c.CancelType != 0 }

func orElse(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}
