//go:build imsgfault

package unixmsg

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// This file is for tests of the whole library in a bad world: before every
// system call a hook is asked what shall become of it, and afterwards it is
// told what came of it. The build without the tag has none of this.

// A Hook decides about system calls. It is called on whatever goroutine makes
// the call, maybe on many at a time.
type Hook interface {
	Ask(Call) Fault
	Tell(Call, Fault, Result)
}

// A Call is a system call that is about to be made.
type Call struct {
	Name string // of the call, as in errors
	FD   int    // -1 if it is about none
	Size int    // the bytes that it may move; 0 if it moves none
	File bool   // a descriptor goes along
}

// A Fault says what becomes of a call; the zero Fault lets it be.
type Fault struct {
	Errno unix.Errno // not 0: the call is not made and fails with it
	Max   int        // not 0: at most so many bytes are moved
	Files Files
}

// Files says what becomes of the descriptors that arrive with a call.
type Files uint8

// What becomes of files.
const (
	KeepFiles  Files = iota
	LoseFiles        // none fits: MSG_CTRUNC where any came
	LoseButOne       // only the first fits: MSG_CTRUNC where any came
)

// A Result is what came of a call.
type Result struct {
	N       int // bytes moved
	Err     error
	Files   int // descriptors that arrived and fit
	Dropped int // descriptors that arrived and, because of the Fault, did not fit
	Lost    int // control messages of which, because of the Fault, nothing fit
}

var hook atomic.Pointer[Hook]

// SetHook makes h decide about every system call from now on; nil lets them be.
func SetHook(h Hook) {
	if h == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&h)
}

// intercept makes a call as the hook wants it; do makes it, with at most so many bytes.
func intercept(c Call, do func(most int, files Files) Result) Result {
	h := hook.Load()
	if h == nil {
		return do(c.Size, KeepFiles)
	}
	f := (*h).Ask(c)
	r := Result{Err: f.Errno}
	if f.Errno == 0 {
		most := c.Size
		if f.Max > 0 {
			most = min(most, f.Max)
		}
		r = do(most, f.Files)
	}
	(*h).Tell(c, f, r)
	return r
}

// interceptCall is intercept for a call that moves no bytes.
func interceptCall[T any](name string, fd int, do func() (T, error)) (v T, err error) {
	r := intercept(Call{Name: name, FD: fd}, func(int, Files) (r Result) {
		v, r.Err = do()
		return r
	})
	return v, r.Err
}
