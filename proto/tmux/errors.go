package tmux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"example.org/imsg"
)

var (
	// ErrOutputTooLarge is returned when a command prints more than
	// Config.MaxOutput bytes to a caller who collects them.
	ErrOutputTooLarge = errors.New("too much output")

	// ErrNotConfirmed is returned by Paste when the pane shows no change after
	// the text was pasted and Enter was pressed. Both were written to the pane;
	// whether its program has read them is not known. A program that does not
	// echo its input, such as a password prompt, looks like that.
	ErrNotConfirmed = errors.New("the pane shows no change")

	// ErrExited is returned by the methods of a Control whose client has ended.
	ErrExited = errors.New("the control client has ended")
)

// An Error is a conversation with a server that failed. It unwraps to what
// went wrong.
type Error struct {
	Op      string // "dial", "run", "control", "paste", ...
	Socket  string // path of the server's socket
	Version string // the server's, such as "3.5a"; "" if it is not known
	Err     error
	Cure    string // what may help; "" if nothing is known
}

// Error returns for example "tmux: dial /tmp/tmux-0/default: ... connection
// refused (no server is running: start one with tmux new-session -d)".
func (e *Error) Error() string {
	s := "tmux: " + e.Op + " " + e.Socket
	if e.Version != "" {
		s += " (tmux " + e.Version + ")"
	}
	s += ": " + e.Err.Error()
	if e.Cure != "" {
		s += " (" + e.Cure + ")"
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// A PayloadError is a message whose payload has an impossible size or a string
// without its NUL.
type PayloadError struct {
	Type uint32
	Size int    // of the payload in bytes
	Want string // the sizes there are
}

// Error returns for example "tmux message WRITE (304) has 2 bytes, want at
// least 4".
func (e *PayloadError) Error() string {
	return fmt.Sprintf("tmux message %s (%d) has %d bytes, want %s", TypeName(e.Type), e.Type, e.Size, e.Want)
}

// A VersionError is a server that speaks another version of tmux's protocol.
type VersionError struct {
	Server uint8 // the server's version; this package speaks 8
}

// Error returns the two versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("protocol version mismatch (client %d, server %d)", protocolVersion, e.Server)
}

// A CommandError is a command that the server refused or could not carry out.
type CommandError struct {
	Args    []string
	Status  int
	Stderr  string // what tmux said, without the newline at its end
	Version string // of the server
}

// Error returns for example "tmux 3.5a: kill-pane: can't find pane: %9".
func (e *CommandError) Error() string {
	name := ""
	if len(e.Args) > 0 {
		name = e.Args[0]
	}
	return fmt.Sprintf("tmux %s: %s: %s", e.Version, name, e.Stderr)
}

// fail wraps an error of a conversation. It leaves one that is wrapped already
// as it is, and nil.
func (c *Client) fail(op string, err error) error {
	var done *Error
	var refused *CommandError
	if err == nil || errors.As(err, &done) || errors.As(err, &refused) {
		return err
	}
	e := &Error{Op: op, Socket: c.socket, Version: c.version, Err: err, Cure: cure(err)}
	if d := dialectOf(c.version); e.Cure != "" && c.version != "" && d != imsg.Auto && d != c.dialect {
		e.Cure = fmt.Sprintf("Config.Dialect says %v, but tmux %s speaks %v unless it was built with another imsg: leave it empty", c.dialect, c.version, d)
	}
	return e
}

// cure says what may help against an error.
func cure(err error) string {
	var version *VersionError
	var payload *PayloadError
	var header *imsg.HeaderError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return "no server is running there: start one with tmux new-session -d"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "the socket is another user's: run as that user"
	case errors.As(err, &version):
		return "the server is too old or too new: end it and start the installed tmux"
	case errors.As(err, &payload), errors.As(err, &header), errors.Is(err, errEcho):
		return "this is no tmux server, or one of an unknown version"
	case errors.Is(err, errDialect):
		return "set Config.Dialect: current for tmux 3.6 and later, legacy for earlier ones"
	case hungUp(err):
		return "the server ended, or refused the client: if it still runs, it speaks the other dialect or belongs to another user"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "the server does not answer: it is stopped, or busy, or no tmux server, or the command waits for something"
	}
	return ""
}

// errDialect is a version of tmux that may speak either dialect.
var errDialect = errors.New("a server of this version may speak either dialect")

// errEcho is a peer that sends back what it gets.
var errEcho = errors.New("a message came that only clients send")

// errSuspended is a control client that another client has suspended. It gets
// no output any more, and to wake it (MSG_WAKEUP) ends the server: tmux 3.3a to
// 3.8 start a terminal then that such a client does not have.
var errSuspended = errors.New("another client has suspended this one")

// hungUp reports whether err is how the end of the server is noticed.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// errno is how an error travels to the server.
func errno(err error) int32 {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return int32(e)
	}
	return int32(syscall.EIO)
}

// isGone reports whether err is a server or a pane that is no more.
func isGone(err error) bool {
	if refused, ok := errors.AsType[*CommandError](err); ok {
		return strings.Contains(refused.Stderr, "can't find")
	}
	return hungUp(err) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
