// Package ptrace watches what programs say over their unix stream sockets: a
// command and every process that comes of it, or programs that run already.
//
// # What it does to them
//
// They are stopped at the beginning and the end of each system call, which
// costs time and nothing else. Signals, job control, exec and sandboxes work as
// before, except that a set-user-ID program that is started by a traced one
// keeps its caller's rights, unless the tracer has CAP_SYS_PTRACE.
//
// Whatever ends the tracing, kill -9 included, the programs go on: the kernel
// lets go of the threads that a dead tracer has stopped. That rules out what
// makes strace --seccomp-bpf fast, a filter that stops the calls of interest
// only: a filter cannot be taken away, and without a tracer the calls that it
// names fail with ENOSYS for the rest of the program's life. It also needs
// PTRACE_O_TRACESYSGOOD, without which a stopped thread would get a SIGTRAP,
// and stops that are looked at but not consumed (WNOWAIT), since a signal that
// a dead tracer had taken note of would be lost.
//
// # What it does not see
//
// Calls of 32-bit programs, and what io_uring, sendfile and splice move.
package ptrace

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// A Config says whom to tell what. All functions are called on one goroutine,
// while the thread that they are about is stopped: they must not wait for it.
type Config struct {
	// Call gets each call that moved bytes over a unix stream socket, or read
	// its end. The Call and its Data are valid until the function returns.
	Call func(*Call)
	// Closed, if set, is told of sockets that nobody has any more; not at once.
	Closed func(*Socket)
	// Attached, if set, is called by Attach when everything that the processes
	// do from then on is seen.
	Attached func()
	// Started, if set, is told of each process, and again when it executes
	// another program.
	Started func(*Process)
	// Ended, if set, is told of each process that is no more.
	Ended func(p *Process, how Status)
	// Warn, if set, gets a sentence about what cannot be seen, and why.
	Warn func(text string)
}

// A Process is one that is traced.
type Process struct {
	PID int
	Exe string // path of its program, as /proc/PID/exe shows it

	fds  int          // /proc/PID/fd, or -1
	told map[int]bool // warnings that were given, by kind
}

// A Socket is one end of a channel.
type Socket struct {
	Inode uint64 // names it while it exists
	Peer  uint64 // inode of the other end; 0 if it is closed, not accepted yet, or not known
	// Path is the name of the listening socket, if it has one; an abstract one
	// begins with @.
	Path     string
	Accepted bool // the end that the program which listens has
	Begun    bool // it existed when the tracing began: something may have been moved before

	stream bool // it is a unix stream socket
	diag   int  // netlink socket of its network namespace, or -1
}

// A Call is what one system call moved.
type Call struct {
	Start, End time.Time // when the program made the call, and when it was done
	Process    *Process
	TID        int // of the thread
	FD         int
	Socket     *Socket
	Write      bool
	N          int    // bytes moved; 0 is the end of the stream
	Data       []byte // these bytes; fewer if the rest could not be read
	Files      []File // that went along, with their numbers in this process
	Lost       bool   // the kernel dropped files for which there was no room (MSG_CTRUNC)
	Full       bool   // a receive that had no room for more bytes
}

// A File describes an open descriptor.
type File struct {
	FD    int
	Kind  string // "file", "dir", "pipe", "socket", "char", "block", "anon", or "" if it cannot be seen
	Path  string // as /proc/PID/fd shows it; of a socket: what it is, and its addresses
	Flags string // of open(2), such as "rdwr|append"
}

// A Status is how a process ended.
type Status struct {
	Code   int       // exit status, or -1 if a signal ended it
	Signal os.Signal // or nil
}

// String says it in words.
func (s Status) String() string {
	if s.Signal != nil {
		return "ended by signal " + s.Signal.String()
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// A Command is a program to be started.
type Command struct {
	Path  string   // of the program: not looked up
	Args  []string // the first is its name
	Env   []string
	Dir   string
	Files []*os.File // its descriptors from 0 on; they stay the caller's
}

// ErrNotSupported is returned on systems and machines without an engine.
var ErrNotSupported = errors.New("no tracing on this system")

// A PermissionError is returned if a process may not be traced.
type PermissionError struct {
	PID    int
	Tracer int    // pid of who traces it already, or 0
	Name   string // of that program
	Cure   string // what to do, a sentence without a full stop
	Err    error
}

func (e *PermissionError) Error() string {
	if e.Tracer != 0 {
		return fmt.Sprintf("process %d is traced by process %d (%s) already, and only one can: %s", e.PID, e.Tracer, e.Name, e.Cure)
	}
	return fmt.Sprintf("process %d may not be traced: %v: %s", e.PID, e.Err, e.Cure)
}

// Unwrap returns the kernel's error.
func (e *PermissionError) Unwrap() error { return e.Err }
