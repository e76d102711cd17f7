package privsep

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode"
)

var (
	// ErrNotChild is the error of a process whose environment says that it is a
	// child, but that no parent of the same program has started.
	ErrNotChild = errors.New("not started by its parent")

	// ErrBuild is returned when parent and child are not the same build of the
	// program.
	ErrBuild = errors.New("parent and child are different builds")

	// ErrProtocol is returned for a control message that is unknown, or not
	// allowed in the present state.
	ErrProtocol = errors.New("a message that is not allowed")

	// ErrUnprivileged is returned when the daemon must be started by root, see
	// Daemon.Privileged.
	ErrUnprivileged = errors.New("must be started by root")
)

// A ChildError says which child failed, at which step, and why.
type ChildError struct {
	Role     string // or Parent, or "starter": see Daemon.ParentSandbox
	Instance int

	// Step is "plan" (in the parent, before anything was started), "start"
	// (the process could not be started, or died before it was ready), a step
	// of the child's start, "hello", "peers", "setup", "chroot", "groups",
	// "ids", "dumpable", "parent", "proof", "sandbox", "ready", or "run".
	Step string

	// Err is what the child said, or how its process ended. An error number
	// of the child's is found by errors.Is.
	Err error
}

// Error returns for example "privsep: worker[1]: chroot: no such file or directory".
func (e *ChildError) Error() string {
	who := e.Role
	if e.Instance > 0 {
		who = fmt.Sprintf("%s[%d]", who, e.Instance)
	}
	return fmt.Sprintf("privsep: %s: %s: %v", who, e.Step, e.Err)
}

// Unwrap returns Err.
func (e *ChildError) Unwrap() error { return e.Err }

// failure is an error on its way to the parent.
type failure struct {
	Step  string
	Text  string
	Errno int  `json:",omitempty"`
	Build bool `json:",omitempty"`
}

const maxText = 4096

func newFailure(step string, err error) failure {
	f := failure{Step: step, Text: err.Error(), Build: errors.Is(err, ErrBuild)}
	switch {
	case f.Text == "":
		f.Text = fmt.Sprintf("%T", err)
	case len(f.Text) > maxText:
		f.Text = f.Text[:maxText]
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		f.Errno = int(errno)
	}
	return f
}

// err is what the parent makes of it: the text comes from a process that is
// not trusted any more.
func (f failure) err() error {
	e := &childText{text: printable(f.Text[:min(len(f.Text), maxText)])}
	switch {
	case f.Build:
		e.is = ErrBuild
	case f.Errno != 0:
		e.is = syscall.Errno(f.Errno)
	}
	return e
}

// printable makes a text of another process fit for a terminal or a log.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
}

// childText is an error of another process: its text, and what it is.
type childText struct {
	text string
	is   error
}

func (e *childText) Error() string { return e.text }
func (e *childText) Unwrap() error { return e.is }
