//go:build unix && !aix

package unixmsg

import (
	"errors"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
)

// TestFullTable receives a file when no descriptor is free.
func TestFullTable(t *testing.T) {
	if !check.InChild(t, nil) {
		return
	}
	a, b := pair(t, true)
	r, w := pipe(t)
	check.SetMaxFiles(t, 64)
	mustSend(t, a, "hello", w)
	mustSend(t, a, "hello", w)
	mustSend(t, a, "plain", -1)
	before := len(openFDs())
	free := check.FillTable(t)
	buf := make([]byte, 5) // exactly one message
	n, file, lost, err := Recv(b, buf, 0)
	free()
	if err != nil || string(buf[:n]) != "hello" || file != -1 {
		t.Errorf("full table: %q, file %d, lost %v, %v", buf[:n], file, lost, err)
	}
	if !lost && runtime.GOOS != "solaris" && runtime.GOOS != "illumos" {
		t.Error("full table: the loss was not reported")
	}
	check.Equal(t, "descriptors after a lost file", len(openFDs()), before)

	n, file, lost, err = Recv(b, buf, 0)
	if err != nil || string(buf[:n]) != "hello" || file < 0 || lost {
		t.Fatalf("table free again: %q, file %d, lost %v, %v", buf[:n], file, lost, err)
	}
	mustClose(t, file)
	n, err = readers["Recv"](b, buf)
	if err != nil || string(buf[:n]) != "plain" {
		t.Errorf("without a file: %q, %v", buf[:n], err)
	}
	mustClose(t, w)
	wantClosed(t, "the lost file", r)
}

// TestNoDescriptor makes what needs a descriptor when there is none.
func TestNoDescriptor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	var old syscall.Rlimit
	check.Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	check.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: old.Max}))
	_, _, pairErr := Pair(true)
	_, bindErr := Bind(path)
	bound, boundErr := Bound(path)
	pollErr := Poll(0, true, 0) // of more than may be open
	check.Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old))
	for _, err := range []error{pairErr, bindErr, boundErr} {
		if !isSyscall(err, syscall.EMFILE) {
			t.Errorf("%v, want EMFILE", err)
		}
	}
	if !bound {
		t.Error("what cannot be known is no")
	}
	if runtime.GOOS == "linux" && !isSyscall(pollErr, syscall.EINVAL) {
		t.Errorf("poll: %v, want EINVAL", pollErr)
	}
}

// TestTooManyRefs sends files until the system says that too many are under
// way, lets the receiver take them, and goes on. The limit is not for the
// privileged, and it counts what all processes of a user have under way.
func TestTooManyRefs(t *testing.T) {
	if !check.InChild(t, check.AsOrdinaryUser) {
		return
	}
	const limit = 32
	check.SetMaxFiles(t, limit)
	a, b := pair(t, true)
	sent := 0
	var err error
	for ; sent < 4*limit; sent++ {
		if _, err = Send(a, [][]byte{{byte(sent)}}, a, 0); err != nil {
			break
		}
	}
	if err == nil || err == syscall.EAGAIN {
		t.Skipf("no limit on files in flight: %d sent with RLIMIT_NOFILE %d as user %d, then %v", sent, limit, syscall.Getuid(), err)
	}
	if !errors.Is(err, syscall.ETOOMANYREFS) || sent == 0 {
		t.Fatalf("after %d files: %v, want ETOOMANYREFS", sent, err)
	}
	mustSend(t, a, "!", -1)
	for i := range sent {
		mustClose(t, mustRecv(t, b, string([]byte{byte(i)})))
	}
	mustSend(t, a, "!", a)
}
