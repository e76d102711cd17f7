//go:build imsgfault && linux

package fault_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// A world decides what becomes of every system call of a run, and keeps
// count of what they did. It is the hook that the build with the tag imsgfault
// asks.
type world struct {
	t      testing.TB
	choose func(index int, c unixmsg.Call) unixmsg.Fault // nil: plan
	plan   plan
	nudge  func(unixmsg.Call) // makes the event that ends an EAGAIN
	quiet  bool               // keep no events
	giveUp func()             // closes what a failed run has open

	mu     sync.Mutex
	calls  int
	events []callEvent
	ends   map[int]*stream // by descriptor
	hit    int             // faults that had a consequence
}

// A callEvent is one call and what came of it.
type callEvent struct {
	c    unixmsg.Call
	f    unixmsg.Fault
	r    unixmsg.Result
	told bool
}

// A stream is what went through one descriptor.
type stream struct {
	sent, received int // bytes
	lost           int // files that came and did not fit
	send, receive  ending
	late, maybe    ending // what recvmmsg said, if recvmsg worked behind it
}

// An ending is a failure that ends one direction: a call and what it said. Of
// recvmmsg only a reset is one, and it is heard when the stream ends: the kernel
// makes recvmmsg tell of it before what has arrived, and recvmsg behind it.
type ending struct {
	call  string
	errno unix.Errno
	real  bool // nobody invented it
}

// newWorld makes a world that lasts until the test ends.
func newWorld(t testing.TB) *world {
	w := &world{t: t, nudge: nudgeSocket}
	unixmsg.SetHook(w)
	t.Cleanup(func() { unixmsg.SetHook(nil) })
	return w
}

// begin starts another run.
func (w *world) begin(plan plan) {
	w.plan, w.calls, w.events, w.hit = plan, 0, w.events[:0], 0
	w.ends = make(map[int]*stream)
}

// let makes choose decide, instead of a plan.
func (w *world) let(choose func(index int, c unixmsg.Call) unixmsg.Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.choose = choose
}

// end returns the account of a descriptor. w.mu is held, or nothing runs.
func (w *world) end(fd int) *stream {
	e := w.ends[fd]
	if e == nil {
		e = new(stream)
		w.ends[fd] = e
	}
	return e
}

func (w *world) Ask(c unixmsg.Call) unixmsg.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	var f unixmsg.Fault
	if w.choose != nil {
		f = w.choose(w.calls, c)
	} else {
		f = w.plan.at(w.calls)
	}
	w.calls++
	if !w.quiet {
		w.events = append(w.events, callEvent{c: c, f: f})
	}
	if f.Errno == unix.EAGAIN && passes(c, f.Errno) {
		w.nudge(c)
	}
	return f
}

func (w *world) Tell(c unixmsg.Call, f unixmsg.Fault, r unixmsg.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.end(c.FD)
	if receives(c) {
		e.received += r.N
		e.lost += r.Lost
	} else {
		e.sent += r.N
	}
	e.stop(c, f, r)
	if f.Errno != 0 || f.Max > 0 && f.Max < c.Size && r.N == f.Max || f.Files != unixmsg.KeepFiles && r.Files+r.Dropped > 0 {
		w.hit++
	}
	for i := len(w.events) - 1; i >= 0; i-- {
		if e := &w.events[i]; e.c == c && !e.told {
			e.r, e.told = r, true
			break
		}
	}
}

// stop notes what ends a direction.
func (e *stream) stop(c unixmsg.Call, f unixmsg.Fault, r unixmsg.Result) {
	errno, _ := r.Err.(unix.Errno)
	stop := ending{c.Name, errno, f.Errno == 0}
	final := errno != 0 && !passes(c, errno)
	switch {
	case final && c.Name == "recvmmsg":
		e.maybe = stop
		return
	case final && receives(c):
		e.receive = stop
	case final && sends(c):
		e.send = stop
	case errno == 0 && receives(c) && e.maybe.errno != 0:
		e.late = e.maybe
	}
	if receives(c) && errno != unix.EINTR {
		e.maybe = ending{}
	}
}

func receives(c unixmsg.Call) bool { return c.Name == "read" || strings.HasPrefix(c.Name, "recv") }

func sends(c unixmsg.Call) bool {
	return strings.HasPrefix(c.Name, "write") || strings.HasPrefix(c.Name, "send")
}

// passes reports whether nobody must notice that a call failed with errno.
func passes(c unixmsg.Call, errno unix.Errno) bool {
	if c.Name == "recvmmsg" {
		return errno != unix.ECONNRESET // recvmsg is asked instead
	}
	switch errno {
	case unix.EINTR:
		return c.Name != "socketpair" && c.Name != "getsockopt" // they never wait
	case unix.EAGAIN:
		return receives(c) || sends(c) || c.Name == "accept" || c.Name == "poll"
	case unix.ENOBUFS, unix.ENOMEM, unix.ETOOMANYREFS, unix.EMFILE:
		return sends(c)
	case rare[c.Name]:
		return true
	}
	return c.Name == "setsockopt" // only a kindness to the peer
}

// nudgeSocket makes an event happen on a socket without a change to its
// stream: a larger send buffer wakes those who wait, and they look again.
//
// An EAGAIN that the kernel invents would be the end of every program: the
// runtime's poller hears of a change once, and nothing changes about a socket
// that is ready already. Real ones are always followed by the event that ends
// them. So must be ours: the world says that the socket is not ready, and then
// that it has become so, and this way an EAGAIN is possible at every index.
func nudgeSocket(c unixmsg.Call) {
	if size, err := unix.GetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil {
		unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
		unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, size/2) // the kernel doubles it
	}
}

// failed returns what failed last, not before event first.
func (w *world) failed(first int) ending {
	for i := len(w.events) - 1; i >= first; i-- {
		if e := w.events[i]; e.f.Errno != 0 && !passes(e.c, e.f.Errno) {
			return ending{e.c.Name, e.f.Errno, false}
		}
	}
	w.fatalf("nothing failed")
	return ending{}
}

// fatalf ends the test, which the plan and the events explain.
func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	unixmsg.SetHook(nil)
	if w.giveUp != nil {
		w.giveUp()
	}
	var b strings.Builder
	for i, e := range w.events {
		fmt.Fprintf(&b, "\n%3d %s(%d, %d bytes, file %v)", i, e.c.Name, e.c.FD, e.c.Size, e.c.File)
		if e.f != (unixmsg.Fault{}) {
			fmt.Fprintf(&b, " [%v]", outcome(e.f))
		}
		fmt.Fprintf(&b, " = %d, %v", e.r.N, e.r.Err)
		if e.r.Files+e.r.Dropped > 0 {
			fmt.Fprintf(&b, ", files: %d, dropped %d", e.r.Files, e.r.Dropped)
		}
	}
	only := "^" + strings.ReplaceAll(w.t.Name(), "/", "$/^") + "$"
	w.t.Fatalf("%s\ngo test -tags imsgfault -run '%s' -imsg.plan '%v' .%s", fmt.Sprintf(format, args...), only, w.plan, b.String())
}

// openFiles counts this process's descriptors.
func openFiles(w *world) int {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(names)
}
