//go:build unix && !aix

package unixmsg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

func init() {
	children["full table"] = childFullTable
	children["too many refs"] = childTooManyRefs
}

func TestFullTable(t *testing.T) { runChild(t, "full table", nil) }

// childFullTable receives a file when no descriptor is free.
func childFullTable() error {
	a, b, err := Pair(true)
	if err != nil {
		return err
	}
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		return err
	}
	const limit = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	send := func() error {
		_, err := Send(a, [][]byte{[]byte("hello")}, p[1], 0)
		return err
	}
	// Two with a file, then one without.
	if err := errors.Join(send(), send()); err != nil {
		return err
	}
	if _, err := Send(a, [][]byte{[]byte("plain")}, -1, 0); err != nil {
		return err
	}
	before := len(openFDs())
	var fill []int
	for {
		fd, err := Dup(p[0])
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			return err
		}
		fill = append(fill, fd)
	}
	free := func() {
		for _, fd := range fill {
			unix.Close(fd)
		}
		fill = nil
	}

	buf := make([]byte, 5) // exactly one message
	n, file, lost, err := Recv(b, buf, 0)
	if err != nil || string(buf[:n]) != "hello" || file != -1 {
		return fmt.Errorf("full table: %q, file %d, lost %v, %v", buf[:n], file, lost, err)
	}
	if !lost && runtime.GOOS != "solaris" && runtime.GOOS != "illumos" {
		return errors.New("full table: the loss was not reported")
	}
	free()
	if after := len(openFDs()); after != before {
		return fmt.Errorf("%d descriptors before, %d after a lost file", before, after)
	}

	n, file, lost, err = Recv(b, buf, 0)
	if err != nil || string(buf[:n]) != "hello" || file < 0 || lost {
		return fmt.Errorf("table free again: %q, file %d, lost %v, %v", buf[:n], file, lost, err)
	}
	unix.Close(file)
	n, file, lost, err = Recv(b, buf, 0)
	if err != nil || string(buf[:n]) != "plain" || file != -1 || lost {
		return fmt.Errorf("without a file: %q, file %d, lost %v, %v", buf[:n], file, lost, err)
	}
	unix.Close(p[1])
	if n, err := unix.Read(p[0], buf); n != 0 || err != nil {
		return fmt.Errorf("the lost file is still open somewhere: %d, %v", n, err)
	}
	return nil
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

func TestTooManyRefs(t *testing.T) {
	runChild(t, "too many refs", func(cmd *exec.Cmd) {
		if syscall.Getuid() != 0 {
			return
		}
		// The limit is not for the privileged, and it counts what all processes
		// of a user have under way: take a user nobody else is. The way to the
		// test binary may be closed to others, the binary itself is not.
		id := uint32(60000 + os.Getpid()%5000)
		if runtime.GOOS == "linux" {
			cmd.Path = "/proc/self/exe"
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	})
}

// childTooManyRefs sends files until the system says that too many are under
// way, lets the receiver take one, and goes on.
func childTooManyRefs() error {
	const limit = 32
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	a, b, err := Pair(true)
	if err != nil {
		return err
	}
	sent := 0
	for ; sent < 4*limit; sent++ {
		if _, err = Send(a, [][]byte{{byte(sent)}}, a, 0); err != nil {
			break
		}
	}
	if err == nil || err == syscall.EAGAIN {
		return errSkip(fmt.Sprintf("no limit on files in flight: %d sent with RLIMIT_NOFILE %d as user %d, then %v",
			sent, limit, syscall.Getuid(), err))
	}
	if !errors.Is(err, syscall.ETOOMANYREFS) || sent == 0 {
		return fmt.Errorf("after %d files: %v, want ETOOMANYREFS", sent, err)
	}
	if _, err := Send(a, [][]byte{{byte(sent)}}, -1, 0); err != nil {
		return fmt.Errorf("bytes without a file after ETOOMANYREFS: %v", err)
	}
	buf := make([]byte, 1)
	for i := range sent {
		n, file, lost, err := Recv(b, buf, 0)
		if n != 1 || buf[0] != byte(i) || file < 0 || lost || err != nil {
			return fmt.Errorf("message %d of %d: %d bytes, %#x, file %d, lost %v, %v", i, sent, n, buf[0], file, lost, err)
		}
		unix.Close(file)
	}
	if _, err := Send(a, [][]byte{{1}}, a, 0); err != nil {
		return fmt.Errorf("send after the receiver has read: %w", err)
	}
	return nil
}
