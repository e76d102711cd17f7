package privsep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
)

// A program that somebody else than its user starts.
var _ = register(Daemon{Name: "pose", Roles: []Role{{Name: "a", Run: witness, Setup: func(context.Context, *Proc) error {
	return os.WriteFile("/proc/self/fd/4", []byte("Setup ran"), 0)
}}}})

// TestPosing: nobody can pose as the parent of a program that has more rights than
// he has: it does not begin as a child. (The test is the starter: an ordinary user,
// in a process of its own.)
func TestPosing(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to make a set-user-ID program")
	}
	for _, mode := range []os.FileMode{0o755 | os.ModeSetuid, 0o755 | os.ModeSetgid, 0o755, 0} {
		var name string
		if mode == 0 {
			name = withCapability(t)
		} else {
			name = withMode(t, mode)
		}
		cmd := middle(t, "poser", "POSE="+name)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if want := mode != 0o755; want != strings.Contains(out.String(), ErrNotChild.Error()) {
			t.Errorf("%v: %v, printed %q", mode, err, out.String())
		}
		if mode != 0o755 && strings.Contains(out.String(), "greeted") {
			t.Errorf("%v: it takes anybody for its parent:\n%s", mode, out.String())
		}
	}
}

// poser starts a program as a child of its own, and says so if it listens.
var _ = registerMiddle("poser", func() int {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := exec.Command(os.Getenv("POSE"))
	cmd.Env = []string{envRole + "=pose/a/0"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fds[1]), "far")}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	unix.Close(fds[1])
	unix.Write(fds[0], fakeFrame(ctlHello, false, []byte("{}")))
	buf := make([]byte, 1<<10)
	if n, _ := unix.Read(fds[0], buf); n > 0 {
		fmt.Println("greeted")
	}
	cmd.Wait()
	return 0
})

// TestNotItsParent: a socket that another process has made is not the parent's.
func TestNotItsParent(t *testing.T) {
	defer leaveNothing(t)()
	cmd := middle(t, "stranger")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), ErrNotChild.Error()) {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

// stranger starts one that starts a child with the stranger's channel.
var _ = registerMiddle("stranger", func() int {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 1
	}
	cmd := exec.Command("/bin/sh", "-c", "/proc/"+strconv.Itoa(os.Getpid())+"/exe; :")
	cmd.Env = []string{envRole + "=pose/a/0"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fds[1]), "far")}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
	return 0
})

// TestForkBomb: a program that calls Run but not RunChild is no fork bomb.
func TestForkBomb(t *testing.T) {
	defer leaveNothing(t)()
	cmd := middle(t, "bomb")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "call RunChild before Run") {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

// bombDaemon's children run the daemon again, as main would that forgot RunChild.
var bombDaemon = Daemon{Name: "bomb", Grace: time.Second, Env: []string{envMiddle}, Roles: []Role{{Name: "a", Run: witness}}}

var _ = registerFake("bomb", func(role string, n int) int {
	os.Setenv(envRole, fmt.Sprintf("bomb/%s/%d", role, n))
	fmt.Fprintln(os.Stderr, bombDaemon.Run(context.Background()))
	return 1
})

var _ = registerMiddle("bomb", func() int {
	_ = bombDaemon.Run(context.Background()) // the child's words are in the log
	return 0
})

// lingerDaemon's children may use the network, and no files.
var lingerDaemon = &Daemon{Name: "linger", Grace: 2 * time.Second, Env: []string{"GORACE", "LINGER"}, Roles: []Role{
	fakeRole("passes on what cannot be closed", func(c *fakeChild) {
		c.readyGo()
		fd, err := fakeLinger()
		if err != nil {
			os.Exit(111)
		}
		// It keeps the parent busy, which is then the last to have the file.
		busy := []byte(`{"level":"INFO"` + strings.Repeat(`,"a":1`, 2000) + "}")
		c.raw(bytes.Repeat(fakeFrame(ctlLog, false, busy), 10))
		for range 3 { // marked and not
			_ = unix.Sendmsg(controlFD, fakeFrame(ctlLog, true, fakeRecord(64)), unix.UnixRights(fd), nil, unix.MSG_DONTWAIT)
			_ = unix.Sendmsg(controlFD, fakeFrame(ctlLog, false, fakeRecord(64)), unix.UnixRights(fd), nil, unix.MSG_DONTWAIT)
		}
		os.Exit(12)
	}),
	fakeRole("is there too", func(c *fakeChild) { c.readyGo(); c.linger() }),
}}

var _ = registerFake("linger", fakeMain)

// fakeLinger returns a TCP socket with data that its other end, which the test
// holds, does not read: close waits for an hour.
func fakeLinger() (int, error) {
	port, err := strconv.Atoi(os.Getenv("LINGER"))
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), unix.SetNonblock(fd, true))
	}
	for buf := make([]byte, 1<<16); err == nil; {
		_, err = unix.Write(fd, buf)
	}
	if !errors.Is(err, unix.EAGAIN) {
		return -1, err
	}
	return fd, errors.Join(unix.SetNonblock(fd, false), unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3600}))
}

// withoutPassRights is a kernel before 6.16 for this process and its children: one
// that cannot keep files from being sent.
func withoutPassRights() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_SETSOCKOPT},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + 2*8}, // its third argument
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SO_PASSRIGHTS},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.ENOPROTOOPT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
	}
	if err := loadFilter(filter); err != nil {
		return err
	}
	fd, far, err := unixmsg.Pair(true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	defer unix.Close(far)
	if unixmsg.SetPassRights(fd, false) == nil {
		return errors.New("SO_PASSRIGHTS could be set")
	}
	return nil
}

var _ = registerMiddle("linger", func() int {
	if os.Getenv("WITHOUT_PASSRIGHTS") != "" {
		if err := withoutPassRights(); err != nil {
			fmt.Println(err)
			return 77
		}
	}
	fmt.Println(lingerDaemon.Run(context.Background()))
	return 0
})

// TestLinger: a child's death is noticed, and the daemon ends, whatever it sent
// before: closing a file can take as long as who sent it likes. So it is also where
// the kernel passes files to whoever did not ask for them. (The parent may be left
// with some that it cannot close, and is another process.)
func TestLinger(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) }) // less than is sent
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"", "WITHOUT_PASSRIGHTS=1"} {
		t.Run(env, func(t *testing.T) {
			cmd := middle(t, "linger", fmt.Sprint("LINGER=", l.Addr().(*net.TCPAddr).Port), env)
			cmd.Stdout, cmd.Stderr = nil, nil
			timer := time.AfterFunc(limit, func() { cmd.Process.Kill() })
			defer timer.Stop()
			out, err := cmd.Output()
			switch {
			case cmd.ProcessState.ExitCode() == 77:
				t.Skipf("needs a filter on setsockopt: %s", out) // on 32 bits it is another call
			case err != nil || !strings.Contains(string(out), "passes on what cannot be closed") || strings.Contains(string(out), "111"):
				t.Errorf("%v, printed %q", err, out)
			}
		})
	}
}

// outputDaemon has a child that mistreats its standard output and error.
var outputDaemon = register(Daemon{Name: "output", Grace: 2 * time.Second, Roles: []Role{{Name: "a", Run: witness}}})

func init() {
	// spoil output does what it can to descriptors 1 and 2, and returns what there
	// was to read.
	acts["spoil output"] = func(*testimony, []string, *os.File) (any, error) {
		read := ""
		for fd := 1; fd <= 2; fd++ {
			unix.SetNonblock(fd, true)
			buf := make([]byte, 100)
			if n, _ := unix.Read(fd, buf); n > 0 {
				read += string(buf[:n])
			}
			unix.Shutdown(fd, unix.SHUT_RDWR)
			unix.Ftruncate(fd, 0)
		}
		return read, nil
	}
	acts["print"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		fmt.Println(args[0])
		fmt.Fprintln(os.Stderr, args[1])
		return nil, nil
	}
	acts["status file"] = func(*testimony, []string, *os.File) (any, error) {
		text, err := os.ReadFile("/proc/self/status")
		return string(text), err
	}
	acts["umask"] = func(*testimony, []string, *os.File) (any, error) { return syscall.Umask(0o777), nil }
	acts["open to write"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		f, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		return nil, err
	}
	acts["signal self"] = func(*testimony, []string, *os.File) (any, error) {
		return nil, syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}

// TestOutput: what a child writes is in the log under its name, made printable, and
// its descriptors are not the parent's.
func TestOutput(t *testing.T) {
	before := make([]unix.Stat_t, 3)
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Fstat(fd, &before[fd]); err != nil {
			t.Fatal(err)
		}
	}
	log := make(lines, 100)
	r := up(t, outputDaemon, func(d *Daemon) { d.Logger = log.logger() })
	q := r.Peer("a")
	for _, d := range ask[[]descriptor](t, q, "descriptors") {
		for fd := 1; fd <= 2 && d.FD <= 2; fd++ {
			if d.Dev == before[fd].Dev && d.Ino == before[fd].Ino && d.FD > 0 {
				t.Errorf("the child's descriptor %d is the parent's %d", d.FD, fd)
			}
		}
	}
	ask[any](t, q, "print", "to\x1b[2J stdout", "to stderr")
	for _, text := range []string{"to [2J stdout", "to stderr"} {
		if line := log.wait(t, text); !strings.Contains(line, `"role":"a"`) {
			t.Errorf("%s: %s", text, line)
		}
	}
	ask[any](t, q, "spoil output")
	t.Setenv("GOTRACEBACK", "single")
	tell(t, q, "panic")
	if line := log.wait(t, "panic: the test wants it"); !strings.Contains(line, `"role":"a"`) {
		t.Errorf("traceback: %s", line)
	}
	if err := r.wait(); err == nil {
		t.Error("no error")
	}
}

// stuckLog is a log that nobody reads.
type stuckLog struct{ release chan struct{} }

func (l stuckLog) Write(p []byte) (int, error) { <-l.release; return len(p), nil }

// TestStuckLog: a log that is not read stops nobody; what was lost is counted.
func TestStuckLog(t *testing.T) {
	log := stuckLog{make(chan struct{})}
	defer close(log.release)
	r := up(t, outputDaemon, func(d *Daemon) {
		d.Logger = slog.New(slog.NewTextHandler(log, nil))
		d.Grace = 2 * time.Second
	})
	for range 10 {
		r.Logger().Info("not read")
		ask[any](t, r.Peer("a"), "print", "not read", "not read")
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}

	var text records
	q := newLogQueue(1)
	l := q.logger(text.logger(slog.LevelInfo))
	for range 5 {
		l.Info("record")
	}
	go q.run()
	until(t, "room", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.records) == 0
	})
	l.Info("last")
	q.close(limit)
	if got := text.String(); strings.Count(got, `"msg":"record"`) != 1 || !strings.Contains(got, `"lost":4`) {
		t.Errorf("log %s", got)
	}
}

// TestBareRole: what no child needs is taken from one without a sandbox too.
func TestBareRole(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	r := up(t, outputDaemon, func(d *Daemon) { d.User = "nobody" })
	q := r.Peer("a")
	status := ask[string](t, q, "status file")
	want := []string{"NoNewPrivs:\t1", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000"}
	for _, line := range want {
		if !strings.Contains(status, line+"\n") {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
	if got := ask[int](t, q, "umask"); got&0o022 != 0o022 {
		t.Errorf("umask %#o", got)
	}
	if _, err := try[any](t.Context(), q, nil, "open to write", fmt.Sprintf("/proc/%d/mem", os.Getpid())); !refused(err, syscall.EACCES, syscall.EPERM) && !(hidesProcesses() && refused(err, syscall.ENOENT)) {
		t.Errorf("the parent's memory: %v", err)
	}
	if r.status(Parent, 0).Dumpable {
		t.Error("the parent is dumpable")
	}
}

// TestLateDescriptors: what the parent opens in Prepare, or later, without
// close-on-exec, reaches no child.
func TestLateDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	secret := func() unix.Stat_t {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	var st unix.Stat_t
	check := func(list []descriptor) {
		t.Helper()
		for _, d := range list {
			if d.Dev == st.Dev && d.Ino == st.Ino {
				t.Errorf("descriptor %d is the parent's secret", d.FD)
			}
		}
	}
	st = secret()
	r := up(t, restartDaemon, patient, func(d *Daemon) {
		d.Prepare = func(context.Context, *Proc) error { secret(); return nil }
	})
	q := r.Peer("mortal")
	check(ask[[]descriptor](t, q, "descriptors"))
	secret()
	kill(t, q, "kill")
	check(ask[[]descriptor](t, r.next("mortal", 0, q), "descriptors"))
	r.cancel()
	<-r.done
	r.once.Do(func() {})
}

// TestInheritedClosed: a child closes what was not closed for it.
func TestInheritedClosed(t *testing.T) {
	near, far := imsgtest.Pair(t, nil)
	f, err := far.File()
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	held, end := deathPipe(t)
	cmd := again(t, envRole+"=fostered/open/0")
	cmd.ExtraFiles = []*os.File{f, end}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	end.Close()
	if n, err := held.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the child holds what it was not given: %v", err)
	}
	near.Close()
	cmd.Wait()
}

// TestReplacedRoot: who owns a directory on the way to a root has no say in it.
func TestReplacedRoot(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to change root")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"users", "users/jail", "good", "good/jail"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(at("users"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for _, link := range [][2]string{{at("users/jail"), "to-users"}, {"good/jail", "to-good"}, {"loop", "loop"}, {"/" + strings.Repeat("../", 20) + at("good"), "up"}} {
		if err := os.Symlink(link[0], at(link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("good", at("foreign")); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(at("foreign"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"good/jail": nil, "to-good": nil, "up/jail": nil, "good/../good/./jail/": nil,
		"users/jail": fs.ErrPermission, "to-users": fs.ErrPermission, "foreign/jail": fs.ErrPermission, "loop": syscall.ELOOP, "good/none": fs.ErrNotExist,
	} {
		f, err := openRoot(at(name), true)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v instead of %v", name, err, want)
		}
		if err == nil {
			is, _ := f.Stat()
			if jail, _ := os.Stat(at("good/jail")); !os.SameFile(is, jail) {
				t.Errorf("%s: another directory", name)
			}
			f.Close()
		}
	}

	// What was looked at is looked at again before a restart.
	r := up(t, fragileDaemon, patient, func(d *Daemon) {
		d.Chroot = at("good/jail")
		d.Prepare = func(_ context.Context, p *Proc) error {
			f, err := os.CreateTemp(dir, "state")
			if err == nil {
				_, err = f.WriteString("good")
			}
			p.AddFile("fragile", "state", f)
			return err
		}
	})
	if err := errors.Join(os.Rename(at("good/jail"), at("good/old")), os.Symlink("/", at("good/jail")), os.Chown(at("good"), 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	q := r.Peer("fragile")
	tell(t, q, "kill")
	until(t, "refusal", func() bool { return strings.Contains(r.log.String(), "belongs to user 65534") })
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// TestStoppedChild: a parent that is killed takes its children along, even those
// that are stopped.
func TestStoppedChild(t *testing.T) {
	defer leaveNothing(t)()
	alive, held := deathPipe(t)
	said, events := deathPipe(t)
	cmd := middle(t, "stops")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = events, held, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	held.Close()
	events.Close()
	var pid int
	if _, err := fmt.Fscan(said, &pid); err != nil {
		t.Fatal(err)
	}
	until(t, "stop", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return strings.Contains(string(text), "State:\tT")
	})
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := alive.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the stopped child lives")
		syscall.Kill(pid, syscall.SIGKILL)
	}
	alive.Close()
	said.Close()
}

// stopsDaemon has a child that stops itself.
var stopsDaemon = register(Daemon{Name: "stops", User: "nobody", Roles: []Role{{Name: "a", Run: func(ctx context.Context, p *Proc) error {
	fmt.Fprintln(p.File("events"), os.Getpid())
	p.File("events").Close()
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	<-ctx.Done() // it is stopped soon
	return nil
}}}})

var _ = registerMiddle("stops", func() int {
	d := copyOf(stopsDaemon, nil)
	deathGive(d, map[string]*os.File{"events": os.Stdin, "alive": os.Stdout})
	give := d.Prepare
	d.Prepare = func(ctx context.Context, p *Proc) error {
		defer os.Stdin.Close()
		return give(ctx, p)
	}
	if err := d.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
})

func init() {
	// leave starts programs that do not end by themselves, and hold the file open:
	// one in the child's session and, if it can be told by something else, one in another.
	acts["leave"] = func(_ *testimony, args []string, f *os.File) (any, error) {
		for _, setsid := range []bool{false, args[0] == "two sessions"} {
			cmd := exec.Command("/bin/sleep", "1000")
			cmd.Stdout = f
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: setsid}
			if err := cmd.Start(); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	// zombies makes processes that end at once, of which the parent is the parent.
	acts["zombies"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		n, err := strconv.Atoi(args[0])
		for range n {
			pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, unix.CLONE_PARENT|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
			if errno != 0 {
				return nil, errno
			}
			if pid == 0 {
				syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
		return nil, err
	}
	// threads makes processes without end until there is no room, and has those threads
	// that it needs to say so.
	acts["threads"] = func(*testimony, []string, *os.File) (any, error) {
		makeThreads(runtime.GOMAXPROCS(0) + spareThreads)
		for n := 0; ; n++ {
			pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
			if errno != 0 {
				return n, nil
			}
			if pid == 0 {
				for {
					syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
				}
			}
		}
	}
}

// TestStrays: what a child leaves behind ends with the daemon.
func TestStrays(t *testing.T) {
	none, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"nobody", ""} { // the parent's user is told by less
		sessions := "two sessions"
		if none == 1 && (user == "" || !isRoot()) {
			sessions = "one session"
		}
		alive, held := deathPipe(t)
		r := up(t, outputDaemon, func(d *Daemon) { d.User = user })
		if _, err := try[any](t.Context(), r.Peer("a"), held, "leave", sessions); err != nil {
			t.Fatal(err)
		}
		tell(t, r.Peer("a"), "return")
		if err := r.wait(); err != nil {
			t.Error(err)
		}
		held.Close()
		if _, err := alive.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("user %q: a process that a child started lives", user)
		}
		alive.Close()
	}
}

// TestOwnProgram: what the parent's own code starts is not taken for a stray.
func TestOwnProgram(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "1000")
	r := up(t, outputDaemon, func(d *Daemon) {
		d.Prepare = func(context.Context, *Proc) error {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			return cmd.Start()
		}
	})
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	r.once.Do(func() {})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("its end: %v", err)
	}
}

// TestZombies: dead processes that a child makes its parent's are reaped.
func TestZombies(t *testing.T) {
	r := up(t, outputDaemon)
	before := len(children())
	ask[any](t, r.Peer("a"), "zombies", "100")
	until(t, "end of the zombies", func() bool { return len(children()) <= before })
}

// TestSetupTimeout: a Setup that does not end fails, at the start and after.
func TestSetupTimeout(t *testing.T) {
	start := func(d *Daemon) { d.StartTimeout = 50 * time.Millisecond }
	err := fails(t, scriptDaemon, configured("hang inside"), start)
	deathCheck(t, err, "script", "setup", "it has not ended within 50ms")
}

// TestManyPaths: no policy that is declared is too large.
func TestManyPaths(t *testing.T) {
	r := up(t, pathsDaemon, func(d *Daemon) {
		d.Chroot = rootDir(t)
		for range 2000 {
			d.Roles[0].Sandbox.Paths = append(d.Roles[0].Sandbox.Paths, sandbox.Path{Name: "/sub/b", Perm: "r"})
		}
	})
	if got := ask[string](t, r.Peer("caged"), "open", ask[string](t, r.Peer("caged"), "path", "/sub/b")); got != "contents of sub/b" {
		t.Errorf("sub/b is %q", got)
	}
}

// TestTimeZone: children have the daemon's.
func TestTimeZone(t *testing.T) {
	t.Setenv("TZ", "Europe/Berlin")
	r := up(t, outputDaemon)
	if env := ask[[]string](t, r.Peer("a"), "env"); !slices.Contains(env, "TZ=Europe/Berlin") {
		t.Errorf("environment %q", env)
	}
}

// TestProcessLimit: a child that makes as many processes as it may does not end its
// parent, which has the threads that it needs.
func TestProcessLimit(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to make a cgroup")
	}
	dir, err := os.MkdirTemp("/sys/fs/cgroup/pids", "privsep-")
	if err != nil {
		if dir, err = os.MkdirTemp("/sys/fs/cgroup", "privsep-"); err != nil {
			t.Skip("needs a cgroup: ", err)
		}
	}
	defer os.Remove(dir)
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte("100"), 0); err != nil {
		t.Skip("needs a cgroup with a limit of processes: ", err)
	}
	cmd := middle(t, "limited", "CGROUP="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || !strings.HasPrefix(out.String(), "it has made ") {
		t.Errorf("%v, printed\n%s", err, out.String())
	}
	until(t, "end of its processes", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		return err == nil && len(text) == 0
	})
}

var _ = registerMiddle("limited", func() int {
	if err := os.WriteFile(filepath.Join(os.Getenv("CGROUP"), "cgroup.procs"), []byte("0"), 0); err != nil {
		fmt.Println(err)
		return 1
	}
	d := copyOf(outputDaemon, nil)
	d.User, d.Logger = "nobody", slog.New(slog.DiscardHandler)
	d.Parent = func(ctx context.Context, p *Proc) error {
		n, err := try[int](ctx, p.Peer("a"), nil, "threads")
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		for range 6 { // system calls that block a thread each
			all.Go(func() { unix.Nanosleep(&unix.Timespec{Nsec: 1e7}, nil) })
		}
		runtime.GC()
		all.Wait()
		fmt.Println("it has made", n, "processes")
		return nil
	}
	if err := d.Run(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
})
