// Package imsgtest helps to test programs that pass messages and files: pairs
// of channels, delivery in chosen pieces, and a check that no descriptor and
// no goroutine is left behind.
//
//	func TestMain(m *testing.M) { imsgtest.Main(m) }
//
//	func TestServer(t *testing.T) {
//		server, client := imsgtest.Pair(t, nil)
//		...
//	}
//
// # Ownership
//
// Pair and Sockets close what they return when the test ends; closing it before
// is no error. Descriptors given to [Socket.Write] stay the caller's.
//
// # Limits
//
// The check sees descriptors below 1024.
//
// # Errors
//
// What fails ends the test, with t.Fatal.
//
// # Concurrency
//
// A Conn may be used by many goroutines at a time, a Socket by one: that of the
// test, as it may end it.
package imsgtest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// maxFD is the highest descriptor the leak check looks at.
const maxFD = 1024

// Main runs the tests of a package and exits; call it from TestMain. If a
// descriptor or a goroutine is left that was not there before, it says which
// and the exit status is 1.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is as Main, and returns the exit status, for a TestMain that has
// something to do at the end, or has another package between.
func Run(m interface{ Run() int }) int {
	before := OpenFDs()
	code := m.Run()
	if code == 0 {
		if s := leaks(before); s != "" {
			fmt.Fprintf(os.Stderr, "imsgtest: left behind after all tests:\n%s", s)
			code = 1
		}
	}
	return code
}

// settle is how long goroutines may take to end after the last test: they have
// been told to, but nobody waits for them.
const settle = 2 * time.Second

// leaks describes what is open or running beyond before.
func leaks(before map[int]string) string {
	deadline := time.Now().Add(settle)
	for {
		var s strings.Builder
		for fd, name := range OpenFDs() {
			if _, ok := before[fd]; !ok {
				fmt.Fprintf(&s, "descriptor %d %s\n", fd, name)
			}
		}
		s.WriteString(goroutines())
		if s.String() == "" || time.Now().After(deadline) {
			return s.String()
		}
		time.Sleep(time.Millisecond)
	}
}

// goroutines returns the stacks of all goroutines that are not the runtime's
// or package testing's own.
func goroutines() string {
	buf := make([]byte, 1<<20)
	var s strings.Builder
	for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i == 0 || strings.Contains(g, "testing.(*") || strings.Contains(g, "testing.tRunner") ||
			strings.Contains(g, "os/signal.") || strings.Contains(g, "runtime.ensureSigM") {
			continue
		}
		s.WriteString("goroutine " + g + "\n")
	}
	return s.String()
}

// OpenFDs returns this process's open descriptors and, where the system tells,
// what they are.
func OpenFDs() map[int]string {
	// The runtime opens descriptors of its own for the poller, once.
	if r, w, err := os.Pipe(); err == nil {
		r.SetDeadline(time.Now())
		r.Close()
		w.Close()
	}
	fds := make(map[int]string)
	for fd := range maxFD {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			fds[fd] = name
		}
	}
	return fds
}
