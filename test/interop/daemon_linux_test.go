package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.org/imsg"
)

// A daemon is one that needs root, a user of its own and paths that are compiled
// in. It gets its own root directory, made of an unpacked package, in its own
// mount, network and PID namespaces: there is no network but lo, and no way to set
// the clock; no process is left when it ends. Its sockets are in run, which the
// test sees, too.
type daemon struct {
	isolation
	t   testing.TB
	ctx context.Context
	run string
	cmd *exec.Cmd
	log lockedBuffer
}

// An isolation says how to make the root directory, and what to start there.
type isolation struct {
	Packages string            // the directory in which they are unpacked
	Root     string            // where to mount it
	User     string            // of the daemon, to be made
	Run      string            // the directory for sockets, outside
	RunAt    string            // the same inside
	Files    map[string]string // to be made inside, with mode 0600
	Dirs     []string          // to be made inside
	Argv     []string
	Beside   int // a process whose network it shares; 0: it has its own
}

// isolationVar makes this test program start an isolated daemon, and become it.
const isolationVar = "IMSG_INTEROP_ISOLATION"

func init() {
	if text := os.Getenv(isolationVar); text != "" {
		runtime.LockOSThread()
		var i isolation
		err := json.Unmarshal([]byte(text), &i)
		if err == nil {
			err = i.become()
		}
		fmt.Fprintln(os.Stderr, "isolate:", err)
		os.Exit(125)
	}
}

// become makes the root directory and executes the daemon.
func (i *isolation) become() error {
	in := func(path string) string { return filepath.Join(i.Root, path) }
	if err := i.network(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := unix.Mount("interop", i.Root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	for _, dir := range []string{"usr", "lib", "lib64", "bin", "sbin"} {
		from := filepath.Join(i.Packages, dir)
		if _, err := os.Stat(from); err != nil {
			os.Symlink("usr/"+dir, in(dir))
		} else if err := bind(from, in(dir)); err != nil {
			return err
		}
	}
	if err := bind(i.Run, in(i.RunAt)); err != nil {
		return err
	}
	if err := bind("/dev", in("dev")); err != nil {
		return err
	}
	for _, dir := range append(i.Dirs, "etc", "tmp", "proc") {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", in("proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	files := map[string]string{
		"etc/passwd":        "root:x:0:0::/:/bin/sh\n" + i.User + ":x:999:999::" + i.RunAt + ":/bin/false\n",
		"etc/group":         "root:x:0:\n" + i.User + ":x:999:\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\n",
		"etc/services":      "ntp 123/udp\nbgp 179/tcp\nhttps 443/tcp\n",
	}
	for name, text := range files {
		if err := os.WriteFile(in(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for name, text := range i.Files {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_TIME, 0, 0, 0); err != nil {
		return fmt.Errorf("drop CAP_SYS_TIME: %w", err)
	}
	if err := unix.Chroot(i.Root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return syscall.Exec(i.Argv[0], i.Argv, []string{"PATH=/usr/sbin:/usr/bin"})
}

func bind(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", from, err)
	}
	return nil
}

// network makes lo usable in the new network namespace, or goes to another one.
func (i *isolation) network() error {
	if i.Beside != 0 {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", i.Beside), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("network of %d: %w", i.Beside, err)
		}
		defer unix.Close(fd)
		return unix.Setns(fd, unix.CLONE_NEWNET)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// startDaemon starts a daemon whose packages are unpacked in the directory that
// env names, and waits until it has made its socket. It is gone when the test
// ends.
func startDaemon(t testing.TB, env, suite string, i isolation, socket string) *daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	i.Packages = os.Getenv(env)
	if i.Packages == "" {
		missing(t, "%s is not set: see the README for %s", env, suite)
	}
	dir, err := os.MkdirTemp("", "imsg") // t.TempDir's can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	i.Root, i.Run = filepath.Join(dir, "root"), filepath.Join(dir, "run")
	for _, d := range []string{i.Root, i.Run} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{isolation: i, t: t, ctx: bounded(t), run: i.Run}
	text, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(self)
	d.cmd.Env = []string{isolationVar + "=" + string(text)}
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{ // if this process is killed, so is the daemon
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	d.cmd.WaitDelay = 10 * time.Second
	if err := d.cmd.Start(); errors.Is(err, syscall.EPERM) {
		os.RemoveAll(dir)
		t.Skipf("namespaces are not permitted here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		d.cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(limit):
			d.cmd.Process.Kill()
			<-ended
			t.Errorf("%s did not end on SIGTERM", i.Argv[0])
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", i.Argv[0], &d.log)
		}
		os.RemoveAll(dir)
	})
	for {
		c, err := imsg.Dial(d.ctx, filepath.Join(i.Run, socket), nil)
		if err == nil {
			c.Close()
			return d
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", i.Argv[0], &d.log)
		case <-d.ctx.Done():
			t.Fatalf("%s: %v", i.Argv[0], err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// socket returns the path of a socket of the daemon.
func (d *daemon) socket(name string) string { return filepath.Join(d.run, name) }

// control runs the daemon's own control program where the daemon runs.
func (d *daemon) control(argv ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: fmt.Sprintf("/proc/%d/root", d.cmd.Process.Pid)}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, &stderr)
	}
	return stdout.String()
}

// A lockedBuffer is a buffer that one writes while others read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
