package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/ptrace"
	"example.org/imsg/internal/testutil"
)

// echoVar makes the test program send back what comes on descriptor 3.
const echoVar = "IMSG_TEST_ECHO"

func init() {
	if os.Getenv(echoVar) == "" {
		return
	}
	c, err := imsg.NewConn(3, nil)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	for m, err := range c.All(ctx) {
		if err != nil {
			os.Exit(1)
		}
		if err := c.Send(ctx, m.Header(), nil, m.Bytes()); err != nil {
			os.Exit(1)
		}
		m.Close()
	}
	os.Exit(0)
}

// canTrace is why nobody may trace here, or nil.
var canTrace = sync.OnceValue(func() error {
	path, err := exec.LookPath("true")
	if err == nil {
		_, err = ptrace.Run(context.Background(), &ptrace.Command{Path: path, Args: []string{"true"}}, &ptrace.Config{})
	}
	return err
})

// An echo is a program that answers.
type echo struct {
	*exec.Cmd
	*imsg.Conn
}

func newEcho(t *testing.T) *echo {
	ours, theirs, err := imsg.Pair(nil)
	testutil.Must(t, err)
	f, err := theirs.File()
	testutil.Must(t, err)
	theirs.Close()
	exe, err := os.Executable()
	testutil.Must(t, err)
	cmd := exec.Command(exe) // without a context, whose end would kill it before its channel ends
	cmd.Env = append(os.Environ(), echoVar+"=1")
	cmd.ExtraFiles = []*os.File{f}
	testutil.Must(t, cmd.Start())
	f.Close()
	t.Cleanup(func() {
		ours.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("the traced program: ", err)
		}
	})
	return &echo{cmd, ours}
}

// ask makes a round trip.
func (e *echo) ask(t *testing.T, typ uint32) {
	t.Helper()
	ctx := testutil.DeadlineCtx(t)
	testutil.Must(t, e.Send(ctx, imsg.Header{Type: typ}, nil, []byte("text")))
	m, err := e.Receive(ctx)
	if err != nil || m.Header().Type != typ {
		t.Fatalf("answer to %d: %+v, %v", typ, m, err)
	}
	m.Close()
}

// attach starts "imsgctl trace -p" and waits until it has begun. lines gives what
// it shows.
func attach(t *testing.T, pid int) (cmd *exec.Cmd, lines *bufio.Reader, messages func() string) {
	t.Helper()
	cmd, _ = command(t, "trace", "trace", "-p", fmt.Sprint(pid))
	stdout, err := cmd.StdoutPipe()
	testutil.Must(t, err)
	stderr, err := cmd.StderrPipe()
	testutil.Must(t, err)
	testutil.Must(t, cmd.Start())
	errs := bufio.NewReader(stderr)
	if line, err := errs.ReadString('\n'); !strings.Contains(line, "tracing 1 process; ") {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("%s%v", line, err)
	}
	return cmd, bufio.NewReader(stdout), func() string {
		text, _ := io.ReadAll(errs)
		return string(text)
	}
}

func TestTraceAttached(t *testing.T) {
	if err := canTrace(); err != nil {
		t.Skip("tracing is not possible here: ", err)
	}
	e := newEcho(t)
	e.ask(t, 1)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		cmd, lines, messages := attach(t, e.Process.Pid)
		for typ := uint32(2); typ < 5; typ++ {
			e.ask(t, typ)
			for _, arrow := range []string{" -> imsgctl.test[", "] -> "} {
				line, err := lines.ReadString('\n')
				if err != nil || !strings.Contains(line, arrow) || !strings.Contains(line, fmt.Sprintf(" %d id 0 pid ", typ)) || !strings.Contains(line, `"text"`) {
					t.Fatalf("%q, %v", line, err)
				}
			}
		}
		testutil.Must(t, cmd.Process.Signal(sig))
		text := messages()
		err := cmd.Wait()
		if sig != syscall.SIGKILL {
			if err != nil {
				t.Error(err)
			}
			want := fmt.Sprintf("imsgctl: trace: 6 messages, 0 files on 1 channel\nimsgctl: trace: still there, and not traced any more: %d\n", e.Process.Pid)
			if text != want {
				t.Errorf("got\n%swant\n%s", text, want)
			}
		}
		e.ask(t, 9)
	}
}

// TestTraceTwice wants a program that is traced already.
func TestTraceTwice(t *testing.T) {
	if err := canTrace(); err != nil {
		t.Skip("tracing is not possible here: ", err)
	}
	e := newEcho(t)
	first, _, messages := attach(t, e.Process.Pid)
	second, _ := command(t, "second", "trace", "-p", fmt.Sprint(e.Process.Pid))
	_, stderr := execute(t, second, 1)
	wantLine(t, stderr, fmt.Sprintf(`imsgctl: trace: process %d is traced by process %d \(.*\) already, and only one can: end that one first`, e.Process.Pid, first.Process.Pid))
	testutil.Must(t, first.Process.Signal(os.Interrupt))
	messages()
	testutil.Must(t, first.Wait())
	e.ask(t, 1)
}

// TestTraceWays has a socket that is passed on, and becomes another's.
func TestTraceWays(t *testing.T) {
	end := func(pid int) capture.Endpoint { return capture.Endpoint{PID: pid, Exe: "/bin/p"} }
	socket := func(from, to int, text string) []capture.File {
		return []capture.File{{From: from, To: to, Kind: "socket", Path: "socket:[7]" + text, Flags: "rdwr|cloexec"}}
	}
	w := &ways{ways: map[string]*way{}}
	for _, r := range []capture.Record{
		{Channel: 1, From: end(1), To: end(2), Files: socket(3, 4, " tcp")},
		{Channel: 2, From: end(2), To: end(3), Files: socket(4, 5, " tcp 127.0.0.1:80")},
		{Channel: 1, From: end(1), To: end(2), Files: []capture.File{{From: 3, To: -1, Kind: "file", Path: "/a b", Flags: "rdonly", Lost: true}}},
		{Channel: 4, From: end(1), To: end(4), Files: socket(3, -1, " tcp")},
	} {
		w.add(&r)
	}
	var got []string
	w.tell(func(s string) { got = append(got, s) })
	want := []string{
		`socket "socket:[7] tcp" rdwr: p[1] 3 -#1-> p[2] 4 -#2-> p[3] 5; p[1] 3 -#4-> p[4] ?`,
		`file "/a b" rdonly: p[1] 3 -#1-> lost`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTraceOutputFails cannot write what it shows or records: it ends, and the
// traced program goes on.
func TestTraceOutputFails(t *testing.T) {
	if err := canTrace(); err != nil {
		t.Skip("tracing is not possible here: ", err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 0, "still there, and not traced any more: "}, // standard output is closed
		{[]string{"-w", "/dev/full"}, 1, "recording /dev/full: write /dev/full: no space left on device"},
	} {
		e := newEcho(t)
		cmd, _ := command(t, "fails", append([]string{"trace", "-p", fmt.Sprint(e.Process.Pid)}, tt.args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if tt.status == 0 {
			r, w, err := os.Pipe()
			testutil.Must(t, err)
			r.Close()
			defer w.Close()
			cmd.Stdout = w
		}
		testutil.Must(t, cmd.Start())
		done := make(chan error)
		go func() { done <- cmd.Wait() }()
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
				e.ask(t, 1)
			}
		}
		if got := cmd.ProcessState.ExitCode(); got != tt.status || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("exit status %d, %s", got, &stderr)
		}
		e.ask(t, 2)
	}
}
