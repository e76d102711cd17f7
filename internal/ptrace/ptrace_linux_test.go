//go:build amd64 || arm64

package ptrace

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// The tracees are this test program in a role. The variable has how many such
// programs led to this one, the role's name, and its arguments.
const roleVar = "IMSG_PTRACE_ROLE"

// maxDepth keeps a role that starts itself from filling the machine.
const maxDepth = 4

func TestMain(m *testing.M) {
	depth, name, args := current()
	if name == "" {
		os.Exit(m.Run())
	}
	f := roles[name]
	if depth > maxDepth || f == nil {
		fmt.Fprintf(os.Stderr, "role %q, started by %d others\n", name, depth)
		os.Exit(4)
	}
	f(args)
	os.Exit(0)
}

// current returns the role of this process; none has depth 0 and no name.
func current() (depth int, name string, args []string) {
	fields := strings.Fields(os.Getenv(roleVar))
	if len(fields) == 0 {
		return 0, "", nil
	}
	if len(fields) == 1 {
		return maxDepth + 1, "?", nil
	}
	depth, err := strconv.Atoi(fields[0])
	if err != nil {
		depth = maxDepth + 1
	}
	return depth, fields[1], fields[2:]
}

// environ returns the environment for a role. It has each variable once: of two
// with the same name a program may see the older. With the race detector a
// program would sleep for a second before it ends.
func environ(role string) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, roleVar+"=") || strings.HasPrefix(s, "GORACE=")
	})
	depth, _, _ := current()
	return append(env, fmt.Sprintf("%s=%d %s", roleVar, depth+1, role), "GORACE=atexit_sleep_ms=0")
}

// role returns the command that is this program in a role, with files from
// descriptor 3 on.
func role(name string, files ...*os.File) *Command {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return &Command{Path: exe, Args: []string{exe}, Env: environ(name), Files: append([]*os.File{os.Stdin, os.Stdout, os.Stderr}, files...)}
}

// A said is a copy of a Call.
type said struct {
	Call
	pid  int
	data string
}

// A recorder keeps what a Config is told.
type recorder struct {
	mu    sync.Mutex
	calls []said
	warns []string
	execs []int // pids of Started
	ended map[int]Status

	closed int
}

func (r *recorder) config() *Config {
	r.ended = map[int]Status{}
	return &Config{
		Call: func(c *Call) {
			r.mu.Lock()
			defer r.mu.Unlock()
			s := said{*c, c.Process.PID, string(c.Data)}
			s.Files = slices.Clone(c.Files)
			r.calls = append(r.calls, s)
		},
		Started: func(p *Process) { r.locked(func() { r.execs = append(r.execs, p.PID) }) },
		Ended:   func(p *Process, how Status) { r.locked(func() { r.ended[p.PID] = how }) },
		Closed:  func(*Socket) { r.locked(func() { r.closed++ }) },
		Warn:    func(text string) { r.locked(func() { r.warns = append(r.warns, text) }) },
	}
}

func (r *recorder) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// find returns the only call in one direction with the data.
func (r *recorder) find(t *testing.T, write bool, data string) said {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []said
	for _, c := range r.calls {
		if c.Write == write && c.data == data {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d calls (write: %v) with %q in %+v; want 1; warnings: %q", len(found), write, data, r.calls, r.warns)
	}
	return found[0]
}

// trace runs a role to its end, and skips the test where nobody may trace.
func trace(t *testing.T, c *Command) (*recorder, Status) {
	t.Helper()
	testutil.NoLeak(t)
	r := &recorder{}
	ctx := testutil.DeadlineCtx(t)
	status, err := Run(ctx, c, r.config())
	skipRefused(t, err)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("has not ended: started %v, ended %v", r.execs, r.ended)
		for _, pid := range r.execs {
			if _, ok := r.ended[pid]; !ok {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, status
}

func skipRefused(t *testing.T, err error) {
	t.Helper()
	if p := (*PermissionError)(nil); errors.As(err, &p) {
		t.Skipf("tracing is not allowed here: %v", err)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Getenv(roleVar), err)
		os.Exit(3)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// A pair of blocking stream sockets.
func pair() (a, b int) {
	fds := must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	return fds[0], fds[1]
}

// spawn starts this program in a role, with descriptors from 3 on.
func spawn(name string, fds ...int) *os.Process {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(must(unix.Dup(fd))), "passed"))
	}
	c := role(name, files[3:]...)
	p := must(os.StartProcess(c.Path, c.Args, &os.ProcAttr{Env: c.Env, Files: files}))
	for _, f := range files[3:] {
		f.Close()
	}
	return p
}

func wait(p *os.Process) {
	if s := must(p.Wait()); !s.Success() {
		check(fmt.Errorf("process %d: %v", p.Pid, s))
	}
}

func put(fd int, text string) { must(unix.Write(fd, []byte(text))) }

// get reads once and wants that text.
func get(fd int, want string) {
	p := make([]byte, 1<<16)
	if n := must(unix.Read(fd, p)); string(p[:n]) != want {
		check(fmt.Errorf("read %q, want %q", p[:n], want))
	}
}

var roles = map[string]func(args []string){
	"ways":     waysRole,
	"parent":   parentRole,
	"answer":   answerRole,
	"threads":  threadsRole,
	"execs":    execsRole,
	"stop":     stopRole,
	"signals":  signalsRole,
	"busy":     busyRole,
	"tracer":   tracerRole,
	"leave":    func([]string) { os.Exit(7) },
	"die":      func([]string) { unix.Kill(os.Getpid(), unix.SIGKILL); select {} },
	"quiet":    func([]string) {},
	"own-net":  ownNetRole,
	"many":     manyRole,
	"hidden":   hiddenRole,
	"large":    largeRole,
	"trips":    tripsRole,
	"echo":     echoRole,
	"named":    namedRole,
	"transfer": transferRole,
}

// waysRole moves something in each way there is.
func waysRole([]string) {
	a, b := pair()
	put(a, "write")
	get(b, "write")

	must(unix.Writev(a, [][]byte{[]byte("wri"), nil, []byte("tev")}))
	p := [][]byte{make([]byte, 1), make([]byte, 10)}
	must(unix.Readv(b, p))

	check(unix.Sendto(a, []byte("sendto"), unix.MSG_NOSIGNAL, nil))
	buf := make([]byte, 64)
	must2(unix.Recvfrom(b, buf, unix.MSG_PEEK))
	must2(unix.Recvfrom(b, buf, 0))

	f := must(os.OpenFile("/dev/null", os.O_WRONLY|os.O_APPEND, 0))
	must(unix.SendmsgN(a, []byte("sendmsg"), unix.UnixRights(int(f.Fd()), a), nil, 0))
	for _, peek := range []int{unix.MSG_PEEK, 0} {
		oob := make([]byte, 128)
		_, n, _, _, err := unix.RecvmsgBuffers(b, [][]byte{buf[:4], buf[4:7]}, oob, unix.MSG_CMSG_CLOEXEC|peek)
		check(err)
		for _, fd := range must(unix.ParseUnixRights(&must(unix.ParseSocketControlMessage(oob[:n]))[0])) {
			unix.Close(fd) // or the end would not come
		}
	}

	must(unix.SendmsgN(a, []byte("dropped"), unix.UnixRights(int(f.Fd())), nil, 0))
	must(unix.Read(b, buf)) // without room for it

	check(sendMany(a, "many", "of", "them"))
	check(recvMany(b, 4, 2, 4))
	unix.Close(a)
	get(b, "")
}

func must2[T, U any](v T, _ U, err error) T {
	check(err)
	return v
}

func TestWays(t *testing.T) {
	r, status := trace(t, role("ways"))
	if status != (Status{}) {
		t.Fatal(status)
	}
	for _, data := range []string{"write", "writev", "sendto", "sendmsg", "dropped", "many", "of", "them"} {
		w, g := r.find(t, true, data), r.find(t, false, data)
		if w.Socket.Peer != g.Socket.Inode || g.Socket.Peer != w.Socket.Inode || w.Socket.Inode == 0 {
			t.Errorf("%s: from %+v to %+v", data, w.Socket, g.Socket)
		}
		if w.Socket.Begun || g.Socket.Begun || w.pid != g.pid || w.N != len(data) || g.N != len(data) || w.Process.Exe != role("").Path {
			t.Errorf("%s: sent %+v, received %+v", data, w, g)
		}
		if w.Start.After(w.End) || w.Start.After(g.End) {
			t.Errorf("%s: sent from %v to %v, received at %v", data, w.Start, w.End, g.End)
		}
	}
	w, g := r.find(t, true, "sendmsg"), r.find(t, false, "sendmsg")
	if len(w.Files) != 2 || len(g.Files) != 2 {
		t.Fatalf("files %+v sent, %+v received", w.Files, g.Files)
	}
	for i, want := range []File{{Kind: "char", Path: "/dev/null", Flags: "wronly|append"}, {Kind: "socket", Path: fmt.Sprintf("socket:[%d] unix", w.Socket.Inode), Flags: "rdwr"}} {
		from, to := w.Files[i], g.Files[i]
		if from.Kind != want.Kind || from.Path != want.Path || !strings.HasPrefix(from.Flags, want.Flags) {
			t.Errorf("sent %+v, want %+v", from, want)
		}
		if to.Kind != want.Kind || to.Path != want.Path || to.Flags != want.Flags+"|cloexec" || to.FD == from.FD {
			t.Errorf("received %+v, want %+v", to, want)
		}
	}
	if d := r.find(t, false, "dropped"); !r.find(t, false, "them").Full || d.Full || len(r.find(t, true, "dropped").Files) != 1 {
		t.Errorf("%+v", d)
	}
	if end := r.find(t, false, ""); end.N != 0 {
		t.Errorf("the end: %+v", end)
	}
	if len(r.warns) > 0 {
		t.Errorf("warnings %q", r.warns)
	}
}

// parentRole talks with a child, which is started by a shell: it forks, where
// Go does vfork.
func parentRole([]string) {
	a, b := pair()
	exe := must(os.Executable())
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(uintptr(b), "passed")}
	p := must(os.StartProcess("/bin/sh", []string{"sh", "-c", `"$0"; exit $?`, exe}, &os.ProcAttr{Env: environ("answer"), Files: files}))
	files[3].Close()
	put(a, "question")
	get(a, "answer to question")
	unix.Close(a)
	wait(p)
}

// answerRole answers until the other end is closed.
func answerRole([]string) {
	p := make([]byte, 1<<16)
	for {
		n := must(unix.Read(3, p))
		if n == 0 {
			return
		}
		put(3, "answer to "+string(p[:n]))
	}
}

func TestProcesses(t *testing.T) {
	r, status := trace(t, role("parent"))
	if status != (Status{}) {
		t.Fatal(status)
	}
	q, got := r.find(t, true, "question"), r.find(t, false, "question")
	if q.pid == got.pid || q.Socket.Peer != got.Socket.Inode || got.FD != 3 {
		t.Errorf("sent %+v, received %+v", q, got)
	}
	if a := r.find(t, false, "answer to question"); a.pid != q.pid {
		t.Errorf("received %+v", a)
	}
	for _, pid := range r.execs {
		if r.ended[pid] != (Status{}) || len(r.ended) < 3 {
			t.Errorf("process %d: %v; started %v, ended %v", pid, r.ended[pid], r.execs, r.ended)
		}
	}
}

// threadsRole has pairs of threads that talk all at once.
func threadsRole([]string) {
	var wg sync.WaitGroup
	for i := range 4 {
		a, b := pair()
		wg.Go(func() {
			for k := range 50 {
				put(a, fmt.Sprintf("ping %d.%d", i, k))
				get(a, fmt.Sprintf("pong %d.%d", i, k))
			}
		})
		wg.Go(func() {
			for k := range 50 {
				get(b, fmt.Sprintf("ping %d.%d", i, k))
				put(b, fmt.Sprintf("pong %d.%d", i, k))
			}
		})
	}
	wg.Wait()
}

func TestThreads(t *testing.T) {
	r, status := trace(t, role("threads"))
	if status != (Status{}) {
		t.Fatal(status)
	}
	if len(r.calls) != 4*50*4 {
		t.Fatalf("%d calls, want %d", len(r.calls), 4*50*4)
	}
	r.find(t, false, "pong 3.49")
}

// execsRole executes another role on a thread that is not the first.
func execsRole([]string) {
	ended := make(chan bool)
	onOtherThread(func() {
		a, b := pair()
		put(a, "before")
		must(unix.FcntlInt(uintptr(b), unix.F_SETFD, 0))
		check(unix.Dup3(b, 3, 0))
		must(unix.FcntlInt(uintptr(a), unix.F_SETFD, 0))
		exe := must(os.Executable())
		check(unix.Exec(exe, []string{exe}, environ(fmt.Sprint("transfer ", a))))
	})
	<-ended
}

// transferRole takes "before" from descriptor 3 and sends "after" on the named one.
func transferRole(args []string) {
	var a int
	must(fmt.Sscan(args[0], &a))
	get(3, "before")
	put(a, "after")
	get(3, "after")
}

func TestExecByThread(t *testing.T) {
	r, status := trace(t, role("execs"))
	if status != (Status{}) {
		t.Fatal(status)
	}
	before, after := r.find(t, true, "before"), r.find(t, false, "after")
	if before.pid != after.pid || before.TID == before.pid || after.FD != 3 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if len(r.execs) != 2 || len(r.ended) != 1 {
		t.Errorf("executed by %v, ended %v", r.execs, r.ended)
	}
}

// stopRole has a child that stops. While it is stopped, it must not answer,
// however much else happens.
func stopRole([]string) {
	a, b := pair()
	c, d := pair()
	p, q := spawn("answer", b), spawn("answer", d)
	unix.Close(b)
	unix.Close(d)
	put(a, "1")
	get(a, "answer to 1")
	check(p.Signal(unix.SIGSTOP))
	var ws unix.WaitStatus
	must(unix.Wait4(p.Pid, &ws, unix.WUNTRACED, nil))
	if !ws.Stopped() || ws.StopSignal() != unix.SIGSTOP {
		check(fmt.Errorf("status %x, want stopped", ws))
	}
	put(a, "2")
	for i := range 20 {
		put(c, fmt.Sprint("other ", i))
		get(c, fmt.Sprint("answer to other ", i))
	}
	fds := []unix.PollFd{{Fd: int32(a), Events: unix.POLLIN}}
	if must(unix.Poll(fds, 0)) != 0 {
		check(errors.New("the stopped process goes on"))
	}
	check(p.Signal(unix.SIGCONT))
	get(a, "answer to 2")
	unix.Close(a)
	unix.Close(c)
	wait(p)
	wait(q)
}

func TestStopped(t *testing.T) {
	r, status := trace(t, role("stop"))
	if status != (Status{}) {
		t.Fatal(status)
	}
	r.find(t, false, "answer to 2")
}

func TestEnds(t *testing.T) {
	if _, status := trace(t, role("leave")); status != (Status{Code: 7}) {
		t.Errorf("%v, want exit status 7", status)
	}
	if _, status := trace(t, role("die")); status != (Status{Code: -1, Signal: unix.SIGKILL}) {
		t.Errorf("%v, want killed", status)
	}
}

func TestNotExecuted(t *testing.T) {
	testutil.NoLeak(t)
	name := t.TempDir() + "/none"
	_, err := Run(testutil.DeadlineCtx(t), &Command{Path: name, Args: []string{name}}, &Config{})
	skipRefused(t, err)
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), name) {
		t.Errorf("error %v, want that there is no %s", err, name)
	}
}

func signalsRole([]string) {
	s := newSignals(unix.SIGUSR1)
	for range 100 {
		s.raise()
	}
}

func TestSignals(t *testing.T) {
	if _, status := trace(t, role("signals")); status != (Status{}) {
		t.Error(status)
	}
}
