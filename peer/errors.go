package peer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"example.org/imsg"
)

// ErrViolation is matched by what ends a peer whose other end broke the rules,
// as Serve and Err return it: every RuleError, and every error of a handler that
// wraps it. Calls that such an end interrupts return net.ErrClosed instead.
var ErrViolation = errors.New("rule broken")

// A RuleError says which rule the other end broke with which message. It
// matches ErrViolation.
type RuleError struct {
	Type   uint32 // of the message
	Reason string // for example "not in the table"
	kind   string // of message; "": a request
}

// Error returns "peer: KIND type TYPE: REASON", where KIND is "request",
// "answer", or "message" if it may have been meant as either.
func (e *RuleError) Error() string {
	return fmt.Sprintf("peer: %s type %d: %s", cmp.Or(e.kind, "request"), e.Type, e.Reason)
}

// Is makes errors.Is(err, ErrViolation) true.
func (e *RuleError) Is(target error) bool { return target == ErrViolation }

// A RemoteError is what the other end answered to a request that failed there:
// a message of Config.ErrorType.
type RemoteError struct {
	Type uint32 // of the request; 0 if it was sent with Send
	Text string // at most 1024 bytes, printable
}

// Error returns "peer: call type TYPE failed at the other end: TEXT".
func (e *RemoteError) Error() string {
	return fmt.Sprintf("peer: call type %d failed at the other end: %s", e.Type, e.Text)
}

func remoteError(typ uint32, m imsg.Message) *RemoteError {
	return &RemoteError{typ, cut(string(m.Bytes()[:min(m.Len(), 2*maxText)]))}
}

// A PanicError says that a handler, or the function Last of a Request, has
// panicked.
type PanicError struct {
	Type  uint32 // of the request
	Value any    // that it has panicked with
	Stack []byte // as runtime/debug.Stack has it
}

// Error returns "peer: request type TYPE: panic: VALUE".
func (e *PanicError) Error() string {
	return fmt.Sprintf("peer: request type %d: panic: %v", e.Type, e.Value)
}

func newPanicError(typ uint32, v any) *PanicError { return &PanicError{typ, v, debug.Stack()} }

// maxText bounds the text of an error, in both directions.
const maxText = 1024

// cut makes a text short and harmless to print, whoever wrote it.
func cut(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxText {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// opError says what could not be done with which type; nil stays nil, and a
// RemoteError tells the type itself.
func opError(op string, typ uint32, err error) error {
	if _, ok := errors.AsType[*RemoteError](err); ok || err == nil {
		return err
	}
	return fmt.Errorf("peer: %s type %d: %w", op, typ, err)
}

// A closedError says that the peer was ended for what is not the caller's doing.
// It matches net.ErrClosed and not what it tells of.
type closedError struct{ why error }

func (e *closedError) Error() string        { return "the peer was closed because of " + e.why.Error() }
func (e *closedError) Is(target error) bool { return target == net.ErrClosed }

// A goneError says that the other end is gone, whether the reader or a send
// noticed it first. It matches io.ErrUnexpectedEOF.
type goneError struct {
	p   *Peer
	err error
}

func (e *goneError) Error() string        { return "the other end is gone: " + e.err.Error() }
func (e *goneError) Unwrap() error        { return e.err }
func (e *goneError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// lost recognises the errors that a goneError is for.
func (p *Peer) lost(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return &goneError{p, err}
	}
	return err
}

// isLost reports whether err is that p's other end is gone.
func (p *Peer) isLost(err error) bool {
	var e *goneError
	return errors.As(err, &e) && e.p == p
}
