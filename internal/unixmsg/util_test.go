//go:build unix && !aix

package unixmsg

import (
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

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
	p := make([]byte, len(text))
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
