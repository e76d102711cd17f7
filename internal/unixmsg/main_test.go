//go:build unix && !aix

package unixmsg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// childEnv names the function of children that a re-executed test binary runs.
const childEnv = "UNIXMSG_TEST_CHILD"

// children are the parts of tests that change their process for good. What one
// returns is the verdict of the test: nil passes, errSkip(...) skips.
var children = map[string]func() error{}

// skipPrefix marks the output of a child that found an ability missing.
const skipPrefix = "skip: "

type errSkip string

func (e errSkip) Error() string { return skipPrefix + string(e) }

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Make the runtime open what its poller needs, then count.
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r.Close()
	w.Close()
	before := openFDs()
	code := m.Run()
	if after := openFDs(); len(after) > len(before) && code == 0 {
		fmt.Printf("descriptors leaked: %v before the tests, %v after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// runChild runs children[name] in a process of its own.
func runChild(t *testing.T, name string, change func(*exec.Cmd)) {
	t.Helper()
	exe, err := os.Executable()
	check.Must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = []string{childEnv + "=" + name}
	if change != nil {
		change(cmd)
	}
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the kernel cannot execute this test binary itself (an emulator runs it)")
	}
	if err != nil && strings.HasPrefix(text, skipPrefix) {
		t.Skip(strings.TrimPrefix(text, skipPrefix))
	}
	if err != nil {
		t.Fatalf("child %s: %v\n%s", name, err, text)
	}
}

// openFDs returns the open descriptors below 1024. It needs none itself.
func openFDs() []int {
	var fds []int
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

// noLeak fails the test if it ends with more descriptors than it has now. Call
// it first: the cleanups of what is opened later run before its own.
func noLeak(t *testing.T) {
	t.Helper()
	before := openFDs()
	t.Cleanup(func() {
		if after := openFDs(); len(after) > len(before) {
			t.Errorf("descriptors leaked: %v before, %v after", before, after)
		}
	})
}

func pair(t testing.TB, nonblock bool) (a, b int) {
	t.Helper()
	a, b, err := Pair(nonblock)
	check.Must(t, err)
	closeLater(t, a)
	closeLater(t, b)
	return a, b
}

// pipe returns a non-blocking pipe whose write end gets passed and closed by the
// tests.
func pipe(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	check.Must(t, unix.Pipe(p[:]))
	for _, fd := range p {
		unix.CloseOnExec(fd)
		check.Must(t, unix.SetNonblock(fd, true))
	}
	closeLater(t, p[0])
	return p[0], p[1]
}

// mustSend sends bytes, with a file or -1.
func mustSend(t testing.TB, fd int, text string, file int) {
	t.Helper()
	n, err := Send(fd, [][]byte{[]byte(text)}, file, 0)
	check.Must(t, err)
	check.Equal(t, "bytes sent", n, len(text))
}

// mustRecv receives text with a file, which it returns.
func mustRecv(t testing.TB, fd int, text string) (file int) {
	t.Helper()
	p := make([]byte, len(text)+1)
	n, file, lost, err := Recv(fd, p, 0)
	if err != nil || string(p[:n]) != text || file < 0 || lost {
		t.Fatalf("received %q, file %d, lost %v, %v", p[:n], file, lost, err)
	}
	return file
}

func closeLater(t testing.TB, fd int) { t.Cleanup(func() { unix.Close(fd) }) }

// mustClose fails the test if fd was not open: someone else closed it.
func mustClose(t testing.TB, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Fatalf("close %d: %v", fd, err)
	}
}

// wantClosed fails the test if a write end of the pipe r is left.
func wantClosed(t testing.TB, what string, r int) {
	t.Helper()
	if !allClosed(t, r) {
		t.Errorf("%s: a copy is open", what)
	}
}

// allClosed reports whether no write end of the pipe r is left in the world.
func allClosed(t testing.TB, r int) bool {
	t.Helper()
	n, err := unix.Read(r, make([]byte, 1))
	switch {
	case n == 0 && err == nil:
		return true
	case err == syscall.EAGAIN:
		return false
	}
	t.Fatalf("read from the pipe: %d, %v", n, err)
	return false
}
