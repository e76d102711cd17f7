package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"example.org/imsg/privsep/sandbox"
)

const pinned = 16

// pin makes threads that go on to the end of the process.
func pin(ctx context.Context, _ *Proc) error {
	started := make(chan struct{})
	for range pinned {
		go func() {
			runtime.LockOSThread()
			started <- struct{}{}
			<-ctx.Done()
		}()
	}
	for range pinned {
		<-started
	}
	return nil
}

var threadsDaemon = register(Daemon{Name: "threads", User: "nobody", Roles: []Role{
	{Name: "bare", Run: witness, Setup: pin},
	{Name: "root", Run: witness, Setup: pin, User: NoUser, Sandbox: sandbox.Policy{Promises: "stdio"}},
	{Name: "wheel", Run: witness, Setup: pin, User: NoUser, Group: "daemon"},
	{Name: "caged", Run: witness, Setup: pin, User: "daemon", Chroot: EmptyDir, Sandbox: sandbox.Policy{Promises: "stdio"}},
	{Name: "group", Run: witness, Setup: pin, Group: "daemon", Instances: 2,
		Sandbox: sandbox.Policy{Promises: "stdio rpath recvfd sendfd", Paths: []sandbox.Path{{Name: "/usr", Perm: "r"}}}},
}})

// facts are lines of a status file.
func facts(t testing.TB, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		all[key] = strings.Join(strings.Fields(value), " ")
	}
	return all
}

// TestThreads reads what the kernel says of every thread of every child.
func TestThreads(t *testing.T) {
	r := up(t, threadsDaemon)
	own := facts(t, "/proc/self/status")
	for _, c := range []struct {
		role     string
		uid, gid int // -1: the parent's
		sandbox  bool
	}{
		{"bare", 65534, 65534, false},
		{"root", -1, -1, true},
		{"wheel", -1, 1, false},
		{"caged", 1, 1, true},
		{"group", 65534, 1, true},
	} {
		want := map[string]string{"NoNewPrivs": "1", "Seccomp": own["Seccomp"]}
		for _, key := range []string{"Uid", "Gid", "Groups", "CapEff", "CapPrm"} {
			want[key] = own[key]
		}
		if isRoot() && c.uid >= 0 {
			want["Uid"] = strings.TrimSpace(strings.Repeat(fmt.Sprint(c.uid, " "), 4))
			want["CapEff"], want["CapPrm"] = "0000000000000000", "0000000000000000"
		}
		if isRoot() && c.gid >= 0 {
			want["Gid"] = strings.TrimSpace(strings.Repeat(fmt.Sprint(c.gid, " "), 4))
			want["Groups"] = fmt.Sprint(c.gid)
		}
		if c.sandbox {
			want["Seccomp"] = "2"
		}
		for i := range r.Peers(c.role) {
			s := r.status(c.role, i)
			tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.PID))
			if err != nil || len(tasks) < pinned || s.Threads < pinned {
				t.Fatalf("%s: %d threads, status says %d: %v", c.role, len(tasks), s.Threads, err)
			}
			for _, task := range tasks {
				got := facts(t, task)
				for key, value := range want {
					if got != nil && got[key] != value {
						t.Errorf("%s: %s: %s is %q instead of %q", c.role, task, key, got[key], value)
					}
				}
			}
			uid, gid := c.uid, c.gid
			if !isRoot() || uid < 0 {
				uid = os.Getuid()
			}
			if !isRoot() || gid < 0 {
				gid = os.Getgid()
			}
			if s.UID != uid || s.GID != gid || s.Dumpable {
				t.Errorf("%s: status %v", c.role, s)
			}
		}
	}
}

func init() {
	// regain tries to become root again, and returns what each try came to.
	acts["regain"] = func(*testimony, []string, *os.File) (any, error) {
		return map[string]string{
			"setuid":    fmt.Sprint(syscall.Setuid(0)),
			"setreuid":  fmt.Sprint(syscall.Setreuid(0, 0)),
			"setresuid": fmt.Sprint(syscall.Setresuid(0, 0, 0)),
			"saved uid": fmt.Sprint(syscall.Setresuid(-1, -1, 0)),
			"setgid":    fmt.Sprint(syscall.Setgid(0)),
			"setresgid": fmt.Sprint(syscall.Setresgid(0, 0, 0)),
			"saved gid": fmt.Sprint(syscall.Setresgid(-1, -1, 0)),
			"setgroups": fmt.Sprint(syscall.Setgroups([]int{0})),
			"no groups": fmt.Sprint(syscall.Setgroups(nil)),
			"chroot":    fmt.Sprint(syscall.Chroot("/")),
			"one thread": fmt.Sprint(func() error {
				_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
				return errno
			}()),
			"mknod":    fmt.Sprint(ifAbsent(unix.Mknod("/privsep-test-null", unix.S_IFCHR|0o666, 1<<8|3))),
			"hostname": fmt.Sprint(unix.Sethostname([]byte("privsep-test"))),
		}, nil
	}
}

// ifAbsent takes the other errors of a path that is refused for one.
func ifAbsent(err error) error {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
		return unix.EPERM
	}
	return err
}

// TestNoWayBack: who was root cannot be again, with and without a filter.
func TestNoWayBack(t *testing.T) {
	r := up(t, threadsDaemon)
	for _, role := range []string{"bare", "caged", "group"} {
		for what, got := range ask[map[string]string](t, r.Peer(role), "regain") {
			if got != unix.EPERM.Error() {
				t.Errorf("%s: %s: %s", role, what, got)
			}
		}
	}
}
