package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"example.org/imsg"
	"example.org/imsg/ibuf"
)

// An Error is a conversation with a daemon that failed. It unwraps to what went
// wrong.
type Error struct {
	Program string // "ntpd"
	Op      string // "dial", or the name of the request
	Path    string // of the daemon's socket
	Version string // of the daemon; "" if it is not known
	Err     error
	Cure    string // what may help; "" if nothing is known
}

// Error returns for example "ntpd: dial /run/openntpd/ntpd.sock: ... connection
// refused (no ntpd is running there)".
func (e *Error) Error() string {
	s := e.Program + ": " + e.Op + " " + e.Path
	if e.Version != "" {
		s += " (" + e.Program + " " + e.Version + ")"
	}
	s += ": " + e.Err.Error()
	if e.Cure != "" {
		s += " (" + e.Cure + ")"
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Fail makes an *Error of err, with the cure if one is known. It leaves nil, and
// what is an *Error already, as it is.
func (s *Socket) Fail(op string, err error) error {
	if _, ok := errors.AsType[*Error](err); err == nil || ok {
		return err
	}
	return &Error{Program: s.Program, Op: op, Path: s.Path, Version: s.Version, Err: err, Cure: s.cure(err)}
}

// cure says what may help against an error.
func (s *Socket) cure(err error) string {
	_, header := errors.AsType[*imsg.HeaderError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return "no " + s.Program + " is running there"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "the socket is another user's: run as that user, or as root"
	case header:
		return "this is no " + s.Program + ", or one that speaks the other dialect"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return s.Program + " ended, or refused the client"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return s.Program + " does not answer: it is stopped, busy, or does not know the request"
	}
	return ""
}

// A SizeError is a message whose payload has a size that no known version of the
// daemon gives it. It matches ibuf.ErrShort and syscall.EBADMSG, as
// payload.SizeError does.
type SizeError struct {
	Program string
	Type    uint32 // of the message
	Name    string // of the type
	Size    int    // of the payload in bytes
	Known   []int  // the sizes that are known
}

// Error returns for example "ntpd message CTL_SHOW_STATUS (10) has 57 bytes;
// known are 56 and 48".
func (e *SizeError) Error() string {
	var known strings.Builder
	for i, n := range e.Known {
		switch {
		case i > 0 && i == len(e.Known)-1:
			known.WriteString(" and ")
		case i > 0:
			known.WriteString(", ")
		}
		fmt.Fprint(&known, n)
	}
	verb := "are"
	if len(e.Known) == 1 {
		verb = "is"
	}
	return fmt.Sprintf("%s message %s (%d) has %d bytes; known %s %s", e.Program, e.Name, e.Type, e.Size, verb, &known)
}

// Is makes errors.Is(err, ibuf.ErrShort) and errors.Is(err, syscall.EBADMSG)
// true.
func (e *SizeError) Is(target error) bool {
	return target == ibuf.ErrShort || target == syscall.EBADMSG
}
