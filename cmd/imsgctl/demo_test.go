package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

// runVar makes the test binary the command.
const runVar = "IMSG_TEST_RUN"

// How the worker misbehaves, if TMPDIR has one of these names in it.
const (
	workerFails = "worker-fails"
	workerHangs = "worker-hangs"
)

func TestMain(m *testing.M) {
	root, isWorker := os.LookupEnv(roleVar)
	switch {
	case isWorker && strings.Contains(root, workerFails):
		os.Exit(3)
	case isWorker && strings.Contains(root, workerHangs):
		r, w, _ := os.Pipe()
		fmt.Fprintf(os.Stderr, "%d\n", os.Getpid())
		r.Read(make([]byte, 1)) // for ever: the channel is not even looked at
		w.Close()
	case isWorker || os.Getenv(runVar) != "":
		main()
	}
	testscript.Main(leakCheck{m}, programs)
}

type leakCheck struct{ *testing.M }

func (l leakCheck) Run() int { return imsgtest.Run(l.M) }

// command returns the command line "imsgctl args". Its TMPDIR, which is also
// returned, is new and has the given name.
func command(t *testing.T, name string, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	exe, err := os.Executable()
	testutil.Must(t, err)
	tmp = filepath.Join(t.TempDir(), name)
	testutil.Must(t, os.Mkdir(tmp, 0o755))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), runVar+"=1", "TMPDIR="+tmp)
	return cmd, tmp
}

// execute runs cmd, which must exit with status.
func execute(t *testing.T, cmd *exec.Cmd, status int) (stdout, stderr string) {
	t.Helper()
	var errout, out bytes.Buffer
	cmd.Stderr = &errout
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	err := cmd.Run()
	if cmd.SysProcAttr != nil && (errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EINVAL)) {
		t.Skip("cannot run a program as another user: ", err)
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("exit status %d, want %d\n%s%s", got, status, out.String(), errout.String())
	}
	return out.String(), errout.String()
}

// empty fails if anything is left in dir.
func empty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in TMPDIR: %v, %v", left, err)
	}
}

// gone fails if the process still exists.
func gone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d is left: %v", pid, err)
	}
}

// story is the demo's rows: direction, type, id, file and the beginning of the
// text.
func story(root bool) []string {
	rights, open := `KEPT 0 - "runs with the same rights, uid `, `CAN %d - "opened it by name as well"`
	if root {
		rights, open = `DROPPED 0 - "uid 65534, gid 65534, in an empty root directory"`, `CANNOT %d - "open by name: `
	}
	const p, w = "parent -> worker ", "worker -> parent "
	return []string{
		w + rights,
		p + `READ 1 - "/`,
		w + fmt.Sprintf(open, 1),
		w + `OPEN 1 - "/`,
		p + `FILE 1 notes "/`,
		w + `RESULT 1 - "35 bytes, sha256 `,
		p + `READ 2 - "/`,
		w + fmt.Sprintf(open, 2),
		w + `OPEN 2 - "/`,
		p + `DENIED 2 - "not allowed: key"`,
		w + `RESULT 2 - "denied: `,
		p + `BLOCK 3 - "as large as `,
		w + `RESULT 3 - "16368 bytes, sha256 `,
		p + `JOB 1 - "1"`,
		p + `... 298 more`,
		p + `JOB 300 - "300"`,
		w + `DONE 1 - "1"`,
		w + `... 298 more`,
		w + `DONE 300 - "90000"`,
	}
}

var (
	rowRE  = regexp.MustCompile(`^ *(\d+\.\d{3})  (\w+ -> \w+)  (\w+) +(\d+) +(\d+) +(\d+)  (\S+) +(".*"(?:\.\.\.)?)$`)
	moreRE = regexp.MustCompile(`^ +(\w+ -> \w+)  (\.\.\. \d+ more)$`)
	sumRE  = regexp.MustCompile(`(?m)^(parent -> worker|worker -> parent) +(\d+) +(\d+) +(\d+) +(\d+)$`)
)

// checkDemo checks what a demo has printed that went well.
func checkDemo(t *testing.T, out string, root bool) {
	t.Helper()
	rows, summary, _ := strings.Cut(out, "\n\n")
	lines := strings.Split(rows, "\n")[1:]
	want := story(root)
	if len(lines) != len(want) {
		t.Fatalf("%d rows, want %d:\n%s", len(lines), len(want), out)
	}
	last, sizes := 0.0, []string(nil)
	for i, line := range lines {
		got := ""
		if m := rowRE.FindStringSubmatch(line); m != nil {
			got = strings.Join([]string{m[2], m[3], m[4], m[7], m[8]}, " ")
			at, _ := strconv.ParseFloat(m[1], 64)
			if at < last {
				t.Errorf("row goes back in time: %s", line)
			}
			last = at
			sizes = append(sizes, m[6])
			if m[2] == "worker -> parent" {
				pid, _ := strconv.Atoi(m[5])
				gone(t, pid)
			}
		} else if m := moreRE.FindStringSubmatch(line); m != nil {
			got = m[1] + " " + m[2]
		}
		if !strings.HasPrefix(got, want[i]) {
			t.Errorf("row %d is\n%s\nnot\n%s", i+1, line, want[i])
		}
	}
	if !slices.Contains(sizes, strconv.Itoa(imsg.DefaultMaxSize)) {
		t.Errorf("no message has the maximum size: %v", sizes)
	}
	sums := sumRE.FindAllStringSubmatch(summary, -1)
	if len(sums) != 2 {
		t.Fatalf("%d lines of counters, want 2:\n%s", len(sums), summary)
	}
	for i, want := range []struct{ messages, files int }{{305, 1}, {308, 0}} {
		var n [4]int // messages, bytes, files, calls
		for j := range n {
			n[j], _ = strconv.Atoi(sums[i][2+j])
		}
		if n[0] != want.messages || n[1] < n[0]*imsg.HeaderSize || n[2] != want.files || n[3] == 0 || n[3] >= burst {
			t.Errorf("%d messages with %d files and far fewer calls wanted: %s", want.messages, want.files, sums[i][0])
		}
	}
	if !strings.Contains(summary, "system calls: 1 to send") || !strings.HasSuffix(summary, "\nok\n") {
		t.Errorf("summary:\n%s", summary)
	}
}

func TestDemo(t *testing.T) {
	cmd, tmp := command(t, "tmp", "demo")
	stdout, stderr := execute(t, cmd, 0)
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	// Root need not be allowed to change its user: the worker then says so.
	root := os.Geteuid() == 0
	if _, why, kept := strings.Cut(stdout, "could not drop its rights: "); kept {
		why, _, _ = strings.Cut(why, "\n")
		t.Skip("root without the rights of root: ", why)
	}
	checkDemo(t, stdout, root)
	empty(t, tmp)
}

func TestDemoAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: TestDemo was an ordinary user's")
	}
	// A directory that this user can get at, with the program in it.
	dir, err := os.MkdirTemp("", "imsg-test-")
	testutil.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe, tmp := filepath.Join(dir, "imsgctl"), filepath.Join(dir, "tmp")
	cmd, _ := command(t, "tmp", "demo")
	if err := errors.Join(copyFile(exe, cmd.Path), os.Mkdir(tmp, 0o755), os.Chown(tmp, nobody, nobody),
		os.Chmod(exe, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Skip("no directory for an ordinary user: ", err)
	}
	cmd.Path, cmd.Dir, cmd.Env = exe, dir, []string{runVar + "=1", "TMPDIR=" + tmp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	stdout, _ := execute(t, cmd, 0)
	checkDemo(t, stdout, false)
	empty(t, tmp)
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func TestDemoFails(t *testing.T) {
	t.Run("no directory for the files", func(t *testing.T) {
		cmd, tmp := command(t, "tmp", "demo")
		cmd.Env = append(cmd.Env, "TMPDIR="+filepath.Join(tmp, "missing"))
		_, stderr := execute(t, cmd, 1)
		wantLine(t, stderr, `^imsgctl: demo: step 1, make files: .*no such file or directory$`)
		empty(t, tmp)
	})
	t.Run("worker fails", func(t *testing.T) {
		cmd, tmp := command(t, workerFails, "demo")
		_, stderr := execute(t, cmd, 1)
		wantLine(t, stderr, `^imsgctl: demo: step 3, drop the worker's rights: .* \(worker with pid \d+: exit status 3\)$`)
		empty(t, tmp)
	})
	t.Run("nobody reads", func(t *testing.T) {
		cmd, tmp := command(t, "tmp", "demo")
		r, w, err := os.Pipe()
		testutil.Must(t, err)
		defer w.Close()
		r.Close()
		cmd.Stdout = w
		if _, stderr := execute(t, cmd, 0); stderr != "" {
			t.Errorf("stderr: %s", stderr)
		}
		empty(t, tmp)
	})
}

// TestDemoInterrupted ends a demo whose worker does not do anything, not even
// end when the channel is closed.
func TestDemoInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skipf("takes %v", workerGrace)
	}
	cmd, tmp := command(t, workerHangs, "demo")
	stderr, err := cmd.StderrPipe()
	testutil.Must(t, err)
	testutil.Must(t, cmd.Start())
	pid := 0
	if _, err := fmt.Fscanln(stderr, &pid); err != nil {
		t.Error(err)
	}
	testutil.Check(t, cmd.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(stderr)
	testutil.Check(t, err)
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	wantLine(t, string(rest), `^imsgctl: demo: step 3, .*terminated signal received \(worker with pid \d+: signal: killed\)$`)
	gone(t, pid)
	empty(t, tmp)
}

// wantLine fails if s is not one line that matches re.
func wantLine(t *testing.T, s, re string) {
	t.Helper()
	if s, ok := strings.CutSuffix(s, "\n"); !ok || strings.Contains(s, "\n") || !regexp.MustCompile(re).MatchString(s) {
		t.Errorf("%q does not match %s", s, re)
	}
}

func TestWorkerWithoutChannel(t *testing.T) {
	file, err := os.Open(os.DevNull)
	testutil.Must(t, err)
	defer file.Close()
	for _, tt := range []struct {
		name  string
		files []*os.File
		want  string
	}{
		{"no descriptor", nil, `^imsgctl: demo: worker: descriptor 3 must be the channel's socket: `},
		{"not a socket", []*os.File{file}, `^imsgctl: demo: worker: descriptor 3 must be the channel's socket: .*socket`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, tmp := command(t, "tmp", "demo")
			cmd.Env = append(cmd.Env, roleVar+"="+tmp)
			cmd.ExtraFiles = tt.files
			stdout, stderr := execute(t, cmd, 1)
			wantLine(t, stderr, tt.want)
			if stdout != "" {
				t.Errorf("stdout: %s", stdout)
			}
		})
	}
}

// TestWorkerEndsWithChannel starts a worker as a parent does, and lets it see
// nothing but the end of the channel, or what it does not expect.
func TestWorkerEndsWithChannel(t *testing.T) {
	for _, tt := range []struct {
		name   string
		typ    uint32 // to be sent, if not 0
		status int
		want   string
	}{
		{"closed", 0, 0, ``},
		{"unknown type", 99, 1, `^imsgctl: demo: worker: message of type 99 was not expected$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := imsgtest.Pair(t, nil)
			f, err := b.File()
			testutil.Must(t, err)
			defer f.Close()
			b.Close()
			cmd, tmp := command(t, "tmp", "demo")
			cmd.Env = append(cmd.Env, roleVar+"="+tmp)
			cmd.ExtraFiles = []*os.File{f}
			if tt.typ == 0 { // half closed, so that what the worker says still arrives
				closeWrite(t, a)
			} else if err := a.Send(t.Context(), imsg.Header{Type: tt.typ}, nil); err != nil {
				t.Fatal(err)
			}
			_, stderr := execute(t, cmd, tt.status)
			if stderr != "" || tt.want != "" {
				wantLine(t, stderr, tt.want)
			}
			m, err := a.Receive(t.Context())
			if err != nil || m.Type() != msgDropped && m.Type() != msgKept {
				t.Errorf("first message has type %d, %v", m.Type(), err)
			}
			m.Close()
		})
	}
}

func closeWrite(t *testing.T, c *imsg.Conn) {
	t.Helper()
	f, err := c.File()
	testutil.Must(t, err)
	defer f.Close()
	raw, err := f.SyscallConn()
	testutil.Must(t, err)
	if cerr := raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}
