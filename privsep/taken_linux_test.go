package privsep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpoiledOutput: what a child does to its standard output and error does nothing
// to the parent's, which may be a terminal, a log file or a log's socket; nor does it
// matter to the daemon that nobody reads them any more.
func TestSpoiledOutput(t *testing.T) {
	for _, gone := range []bool{false, true} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
		defer near.Close()
		defer far.Close()
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		log.WriteString("before\n")
		near.WriteString("typed")
		if gone {
			near.Close()
		}
		cmd := middle(t, "spoiled")
		cmd.Stdout, cmd.Stderr = log, far
		if err := cmd.Run(); err != nil {
			t.Errorf("nobody reads %t: %v", gone, err)
		}
		if text, _ := os.ReadFile(log.Name()); string(text) != "before\nthe child has read \"\"\n<nil>\n" {
			t.Errorf("nobody reads %t: the log file has %q", gone, text)
		}
		if flags, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("standard error has the mode %#x, %v", flags, err)
		}
		if gone {
			continue
		}
		buf := make([]byte, 10)
		if n, err := far.Read(buf); string(buf[:n]) != "typed" {
			t.Errorf("of what was typed there is %q left, %v", buf[:n], err)
		}
		far.Close()
		if text, err := io.ReadAll(near); err != nil || strings.Count(string(text), "of the parent") != 2 {
			t.Errorf("records %q, %v", text, err)
		}
	}
}

var _ = registerMiddle("spoiled", func() int {
	d := copyOf(outputDaemon, nil)
	d.User, d.Logger = "nobody", slog.New(slog.NewTextHandler(os.Stderr, nil))
	d.Parent = func(ctx context.Context, p *Proc) error {
		read, err := try[string](ctx, p.Peer("a"), nil, "spoil output")
		for range 2 {
			p.Logger().Info("of the parent")
		}
		fmt.Printf("the child has read %q\n", read)
		return err
	}
	err := d.Run(context.Background())
	fmt.Println(err)
	if err != nil {
		return 1
	}
	return 0
})

// withMode makes a copy of this program with a mode, in a directory for everybody.
func withMode(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "privsep-mode-") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(name, program, 0o755), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestHelper: a set-user-ID program gives a child without a sandbox no more rights.
func TestHelper(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to make a set-user-ID program")
	}
	r := up(t, outputDaemon, func(d *Daemon) { d.User = "nobody" })
	if got := ask[string](t, r.Peer("a"), "help", withMode(t, 0o755|os.ModeSetuid)); got != "65534" {
		t.Errorf("it runs as user %s", got)
	}
}

var _ = registerMiddle("whoami", func() int { fmt.Print(os.Geteuid()); return 0 })

func init() {
	acts["help"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		cmd := exec.Command(args[0])
		cmd.Env = []string{envMiddle + "=whoami"}
		out, err := cmd.Output()
		return string(out), err
	}
	acts["most processes"] = func(*testimony, []string, *os.File) (any, error) {
		var most unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_NPROC, &most)
		return most.Max, err
	}
	acts["add key"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		return unix.AddKey("user", args[0], []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	}
	acts["find key"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", args[0], 0)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, 100)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
		return string(buf[:max(n, 0)]), err
	}
}

// TestKeys: the keys of who started the daemon, and of a child, are no other child's.
func TestKeys(t *testing.T) {
	cmd := middle(t, "keys")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skip("needs keys: ", out.String())
	}
	if n := strings.Count(out.String(), unix.ENOKEY.Error()); err != nil || n != 2 {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

// keys has a key in its session keyring, and becomes a program that starts a daemon.
var _ = registerMiddle("keys", func() int {
	runtime.LockOSThread() // a thread has keyrings
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err == nil {
		_, err = unix.AddKey("user", "privsep-test", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	}
	if err != nil {
		fmt.Println(err)
		return 77
	}
	fmt.Println(syscall.Exec(self, []string{"keys"}, append(os.Environ(), envMiddle+"=keyless")))
	return 1
})

var _ = registerMiddle("keyless", func() int {
	d := copyOf(pairDaemon, nil)
	d.User = "nobody"
	d.Parent = func(ctx context.Context, p *Proc) error {
		_, err := try[int](ctx, p.Peer("a"), nil, "add key", "privsep-test-sibling")
		for _, name := range []string{"privsep-test", "privsep-test-sibling"} {
			got, ferr := try[string](ctx, p.Peer("b"), nil, "find key", name)
			fmt.Println("a child has found", name, got, ferr)
		}
		return err
	}
	if err := d.Run(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
})

// TestProcesses: a role that has a user of its own may not start processes without
// end. (A test that does would be felt by others.)
func TestProcesses(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to change ids")
	}
	r := up(t, outputDaemon, func(d *Daemon) { d.User = "61234" })
	if n := ask[uint64](t, r.Peer("a"), "most processes"); n > maxProcesses {
		t.Errorf("it may start %d", n)
	}
}

// TestStarterSays: who starts a program that has more rights than he has tells its
// parent nothing: neither to whom to report, nor what to listen on, nor a directory,
// nor what its children's environment is.
func TestStarterSays(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to make a set-user-ID program")
	}
	name := withMode(t, 0o755|os.ModeSetuid)
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(filepath.Dir(name), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := os.Chmod(manager.LocalAddr().String(), 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, name)
	cmd.Env = []string{envMiddle + "=controlled", "GORACE=" + os.Getenv("GORACE"), "LISTEN_FDS=1", "TMPDIR=/none", "TZ=/none",
		"NOTIFY_SOCKET=" + manager.LocalAddr().String()}
	cmd.ExtraFiles = []*os.File{os.Stdin}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if want := "0 listeners, environment [], <nil>\n"; err != nil || string(out) != want {
		t.Errorf("%v, printed %q; want %q", err, out, want)
	}
	raw, err := manager.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	raw.Control(func(fd uintptr) {
		if n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT); err == nil {
			t.Errorf("it reports %q", buf[:n])
		}
	})
}

// controlled is such a program, which makes root its user, as such programs do.
var _ = registerMiddle("controlled", func() int {
	if err := syscall.Setresuid(0, 0, 0); err != nil {
		fmt.Println(err)
		return 1
	}
	d := copyOf(placedDaemon, nil)
	var env []string
	listeners := 0
	d.Parent = func(ctx context.Context, p *Proc) (err error) {
		listeners = len(p.Listeners())
		env, err = try[[]string](ctx, p.Peer("a"), nil, "env")
		return err
	}
	err := d.Run(context.Background())
	fmt.Printf("%d listeners, environment %q, %v\n", listeners, env, err)
	return 0
})
