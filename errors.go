package imsg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"example.org/imsg/ibuf"
)

var (
	// ErrFileLost is what Message.FileErr returns for a message whose header
	// promises a file that did not arrive. The channel stays up.
	ErrFileLost = errors.New("file lost on the way")

	// ErrQueueFull says that a limit of Config is reached. Nothing was queued
	// or read: send, or take messages, and try again.
	ErrQueueFull = errors.New("queue full")

	// ErrNoFDPass says that a file was to be sent on a channel that was not
	// asked for file passing. Nothing was queued.
	ErrNoFDPass = errors.New("file passing is off (Config.AllowFDPass)")

	// ErrDialectUnknown says that Config.RequireDialect is set and the peer's
	// dialect is not known yet. Nothing was queued: receive what the peer
	// sends, or call SetDialect.
	ErrDialectUnknown = errors.New("dialect of the peer not known yet (SetDialect, or receive a file first)")

	// ErrFileNotSent says that the file of one message could not be sent: it
	// was closed too early, it is of a kind that the kernel does not pass, or
	// the peer refuses files. Nothing of that message was sent, and the channel
	// stays up. The system's reason is wrapped too.
	ErrFileNotSent = errors.New("file not sent")

	// ErrTooLarge says that a message would be longer than the channel's
	// maximum. It is ibuf.ErrTooLarge; errors.Is matches syscall.ERANGE too.
	ErrTooLarge = ibuf.ErrTooLarge
)

// errLength is ibuf.ErrShort for a payload that may just as well be too long.
var errLength error = lengthError{}

type lengthError struct{}

func (lengthError) Error() string        { return "wrong length" }
func (lengthError) Is(target error) bool { return target == ibuf.ErrShort || target == syscall.EBADMSG }

// An OpError tells which operation of a channel failed, and for a message to
// be sent which type it had. It is a net.Error.
type OpError struct {
	Op       string // "receive", "send", "compose", ...
	Type     uint32 // of the message to be sent; 0 otherwise
	TypeName string // of Type in Config.TypeNames, or ""
	Err      error
}

// Error returns "imsg: OP: ERR", with the type where one is known. An
// operation that ERR names itself ("dial unix /run/x.sock: ...") is said once.
func (e *OpError) Error() string {
	text := e.Err.Error()
	switch rest, same := strings.CutPrefix(text, e.Op); {
	case e.Type != 0 || e.TypeName != "":
		return "imsg: " + e.Op + " " + typeText(e.Type, e.TypeName) + ": " + text
	case same && strings.HasPrefix(strings.TrimLeft(rest, "0123456789"), ":"), same && strings.HasPrefix(rest, " "):
		return "imsg: " + text
	}
	return "imsg: " + e.Op + ": " + text
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether a deadline passed, the channel's or a context's.
func (e *OpError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Temporary reports whether the same call may succeed later: after a timeout,
// with a full queue, or where the system call's error says so (EMFILE in
// Accept).
func (e *OpError) Temporary() bool {
	var t interface{ Temporary() bool }
	return e.Timeout() || errors.Is(e.Err, ErrQueueFull) || errors.As(e.Err, &t) && t.Temporary()
}

// opError wraps err; nil stays nil and an error that is wrapped already, as a
// sticky one is, stays as it is.
func opError(op string, typ uint32, err error) error {
	return typeError(op, typ, "", err)
}

// opError is opError for a message that is to be sent.
func (s *settings) opError(op string, typ uint32, err error) error {
	if err == nil { // in line
		return nil
	}
	return typeError(op, typ, s.cfg.TypeNames[typ], err)
}

func typeError(op string, typ uint32, name string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*OpError)(nil); errors.As(err, &e) {
		return err
	}
	return &OpError{op, typ, name, err}
}

// receiveError wraps what ends the receiving direction; io.EOF stays bare.
func receiveError(err error) error {
	if err == io.EOF {
		return err
	}
	return opError("receive", 0, err)
}

// joinErrors is errors.Join, which leaves a single error as it is.
func joinErrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// fileNotSent is ErrFileNotSent with the system's reason.
func fileNotSent(err error) error {
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w: %w (the peer takes no files: its Config.AllowFDPass)", ErrFileNotSent, err)
	}
	return fmt.Errorf("%w: %w", ErrFileNotSent, err)
}

// isContextErr reports whether err ends one call only, and not its direction of
// the channel: a context or a deadline.
func isContextErr(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// A HeaderError is a header whose length is impossible: below HeaderSize, or
// above the channel's maximum. The stream cannot be read any further. It
// matches syscall.ERANGE, as C reports it.
type HeaderError struct {
	Len   int // length in the header, which counts the header
	Limit int // the channel's maximum, counted the same way

	other Dialect // in which the header would be valid
	n     int     // its length then; 0 if it would not
}

// newHeaderError makes the error for a header of which d reads the length n.
func newHeaderError(hdr []byte, d Dialect, n, limit int) *HeaderError {
	e := &HeaderError{Len: n, Limit: limit}
	for _, other := range []Dialect{Current, Legacy} {
		if d == Auto || d == other || other == Legacy && other.flags(hdr) > legacyMark {
			continue
		}
		if n, _ := other.parseLength(hdr); n >= HeaderSize && n <= limit {
			e.other, e.n = other, n
		}
	}
	return e
}

// Error returns for example "header length 7 below 16", and what may be wrong:
// the dialect, if the header is valid in the other one, or the maximum size.
func (e *HeaderError) Error() string {
	text, cure := fmt.Sprintf("header length %d below %d", e.Len, HeaderSize), ""
	if e.Len >= HeaderSize {
		text = fmt.Sprintf("header length %d above %d", e.Len, e.Limit)
		cure = " (see SetMaxSize, of both ends)"
	}
	if e.n != 0 {
		cure = fmt.Sprintf(" (as %v it is a message of %d bytes: see Config.Dialect)", e.other, e.n)
	}
	return text + cure
}

// Is makes errors.Is(err, ErrTooLarge) and errors.Is(err, syscall.ERANGE) true.
func (e *HeaderError) Is(target error) bool { return errors.Is(ErrTooLarge, target) }
