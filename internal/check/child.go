package check

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ChildEnv is set in the environment of a child of InChild.
const ChildEnv = "IMSG_TEST_CHILD"

// InChild runs the calling test again in a process of its own, for it does
// what cannot be undone, and is true there.
func InChild(t *testing.T, change func(*exec.Cmd)) bool {
	t.Helper()
	if os.Getenv(ChildEnv) == t.Name() {
		return true
	}
	exe, err := os.Executable()
	Must(t, err)
	cmd := exec.Command(exe, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), ChildEnv+"="+t.Name())
	if change != nil {
		change(cmd)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		NeedExec(t, err)
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	return false
}

// NeedExec skips the test if err is that this binary cannot be executed.
func NeedExec(t *testing.T, err error) {
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the kernel cannot execute this test binary itself (an emulator runs it)")
	}
}

// AsOrdinaryUser gives a privileged process's child the rights of a user that
// nobody else is: the kernel counts files in flight for each.
func AsOrdinaryUser(cmd *exec.Cmd) {
	if os.Getuid() != 0 {
		return
	}
	if runtime.GOOS == "linux" {
		cmd.Path = "/proc/self/exe" // the way to the binary may be closed to others
	}
	id := uint32(50000 + os.Getpid()%5000)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
}

// SetMaxFiles makes the descriptor table of this process one of n.
func SetMaxFiles(t *testing.T, n int) {
	t.Helper()
	var l syscall.Rlimit
	Must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	setCur(&l.Cur, n)
	Must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l))
}

// setCur exists because a limit is signed on some systems.
func setCur[T int64 | uint64](cur *T, n int) { *cur = T(n) }

// FillTable opens descriptors until none is left, and returns how to close them.
func FillTable(t *testing.T) (free func()) {
	t.Helper()
	var fds []int
	for {
		fd, err := unix.Dup(0)
		if err == unix.EMFILE {
			return func() {
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
		}
		Must(t, err)
		fds = append(fds, fd)
	}
}
