package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"

	"example.org/imsg"
)

// A Socket is where a daemon listens, and how to talk to it. Its methods may be
// called by many goroutines at a time, while nobody changes its fields.
type Socket struct {
	Program string // "ntpd": for errors
	Path    string
	Version string // of the daemon, for errors; "" if it is not known
	Dialect imsg.Dialect
	MaxSize int // of a payload in bytes; 0 means that of package imsg

	TypeName func(typ uint32) string // for errors; nil if there is none
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// Dialects returns the dialects to try, best first, for the word that a user has
// chosen: "current", "legacy", or "" and "auto" for either. Without files, and
// below 64 KiB, a little-endian machine needs to try one only, since the two are
// the same.
func Dialects(word string) ([]imsg.Dialect, error) {
	switch word {
	case "current":
		return []imsg.Dialect{imsg.Current}, nil
	case "legacy":
		return []imsg.Dialect{imsg.Legacy}, nil
	case "", "auto":
		if bigEndian {
			return []imsg.Dialect{imsg.Current, imsg.Legacy}, nil
		}
		return []imsg.Dialect{imsg.Current}, nil
	}
	return nil, fmt.Errorf("unknown dialect %q", word)
}

// batch is how many messages are taken at a time.
const batch = 64

// pidLimit is above every process ID there is. A daemon may sort its answers by
// the PID of the request's header (bgpd does), so each request gets one of its
// own, which is no other program's.
const pidLimit = 1 << 22

// Ask sends a request and returns the answers as an iterator. The loop's body
// ends it when it has seen the last one; each message is valid until the body
// ends. An error is an *Error, and the last thing the loop sees: that of the
// connection, ctx.Err(), or io.ErrUnexpectedEOF if the daemon hangs up before
// the body has ended the loop. A daemon that does not know a request may answer
// nothing at all: ctx is what ends the wait.
func (s *Socket) Ask(ctx context.Context, typ uint32, data []byte) iter.Seq2[imsg.Message, error] {
	return func(yield func(imsg.Message, error) bool) {
		if done, err := s.ask(ctx, typ, data, yield); err != nil && !done {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			yield(imsg.Message{}, s.Fail(s.name(typ), err))
		}
	}
}

func (s *Socket) ask(ctx context.Context, typ uint32, data []byte, yield func(imsg.Message, error) bool) (done bool, err error) {
	c, err := imsg.Dial(ctx, s.Path, &imsg.Config{Dialect: s.Dialect})
	if err != nil {
		return false, err
	}
	defer c.Close()
	if s.MaxSize != 0 {
		if err := c.SetMaxSize(s.MaxSize); err != nil {
			return false, err
		}
	}
	h := imsg.Header{Type: typ, PID: pidLimit + rand.Int32N(1<<31-1-pidLimit)}
	if err := c.Send(ctx, h, nil, data); err != nil {
		return false, err
	}
	messages := make([]imsg.Message, batch)
	for {
		n, err := c.ReceiveBatch(ctx, messages)
		if err != nil {
			return false, err
		}
		if done := lend(messages[:n], yield); done {
			return true, nil
		}
	}
}

// lend passes messages to the loop's body, and closes them, even if it panics.
func lend(messages []imsg.Message, yield func(imsg.Message, error) bool) (done bool) {
	defer imsg.CloseAll(messages)
	for _, m := range messages {
		if !yield(m, nil) {
			return true
		}
	}
	return false
}

// name returns how errors call a type of message.
func (s *Socket) name(typ uint32) string {
	if s.TypeName != nil {
		if name := s.TypeName(typ); name != "" {
			return name
		}
	}
	return fmt.Sprintf("type %d", typ)
}

// Unexpected returns an error for a message whose type is none of those that
// may answer the request asked.
func (s *Socket) Unexpected(asked uint32, m imsg.Message) error {
	return s.Fail(s.name(asked), fmt.Errorf("unexpected answer %s (%d) of %d bytes", s.name(m.Type()), m.Type(), m.Len()))
}

// TooMany returns an error for more answers than limit.
func (s *Socket) TooMany(asked uint32, limit int) error {
	return s.Fail(s.name(asked), fmt.Errorf("more than %d answers", limit))
}
