package imsg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
	ErrNoFDPass = errors.New("file passing is off")

	// ErrDialectUnknown says that Config.RequireDialect is set and the peer's
	// dialect is not known yet. Nothing was queued: receive what the peer
	// sends, or call SetDialect.
	ErrDialectUnknown = errors.New("dialect of the peer not known yet")

	// ErrFileNotSent says that the file of one message could not be sent: it
	// was closed too early, it is of a kind that the kernel does not pass, or
	// the peer refuses files. Nothing of that message was sent, and the channel
	// stays up. The system's reason is wrapped too.
	ErrFileNotSent = errors.New("file not sent")

	// ErrTooLarge says that a message would be longer than the channel's
	// maximum. It is ibuf.ErrTooLarge; errors.Is matches syscall.ERANGE too.
	ErrTooLarge = ibuf.ErrTooLarge
)

// An OpError tells which operation of a channel failed, and for a message to
// be sent which type it had.
type OpError struct {
	Op   string // "receive", "send", "compose", ...
	Type uint32 // of the message to be sent; 0 otherwise
	Err  error
}

// Error returns "imsg: OP: ERR", with the type where one is known.
func (e *OpError) Error() string {
	if e.Type != 0 {
		return fmt.Sprintf("imsg: %s type %d: %v", e.Op, e.Type, e.Err)
	}
	return fmt.Sprintf("imsg: %s: %v", e.Op, e.Err)
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether a deadline passed, the channel's or a context's.
func (e *OpError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// opError wraps err; nil stays nil and an error that is wrapped already, as a
// sticky one is, stays as it is.
func opError(op string, typ uint32, err error) error {
	if err == nil {
		return nil
	}
	if e := (*OpError)(nil); errors.As(err, &e) {
		return err
	}
	return &OpError{op, typ, err}
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
}

// Error returns for example "header length 7 below 16".
func (e *HeaderError) Error() string {
	if e.Len < HeaderSize {
		return fmt.Sprintf("header length %d below %d", e.Len, HeaderSize)
	}
	return fmt.Sprintf("header length %d above %d", e.Len, e.Limit)
}

// Is makes errors.Is(err, ErrTooLarge) and errors.Is(err, syscall.ERANGE) true.
func (e *HeaderError) Is(target error) bool { return errors.Is(ErrTooLarge, target) }
