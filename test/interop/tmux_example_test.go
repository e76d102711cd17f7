package interop

import (
	"bufio"
	"context"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
)

// build builds a program of this repository.
func build(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		missing(t, "no go command to build %s with", name)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".")
	cmd.Dir = filepath.Join("../..", name) // which may be a module of its own
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// The example does what the real client does: the same output, the same
// errors, the same exit status.
func TestTmuxExample(t *testing.T) {
	exe := build(t, "examples/tmux")
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		example := func(stdin string, args ...string) result {
			return s.run(t, ctx, stdin, slices.Concat([]string{exe, "-timeout", limit.String(), "-S", s.socket}, args)...)
		}
		big := strings.Repeat("0123456789abcdef\n", 6000) // some messages of the largest size

		for _, tt := range []struct {
			name  string
			stdin string
			args  []string
			want  string // in standard output
		}{
			{"ls", "", []string{"ls"}, "peer: 1 windows"},
			{"version", "", []string{"display-message", "-p", "#{version}"}, s.version + "\n"},
			{"utf-8", "", []string{"display-message", "-p", "gr\u00fc\u00dfe, #{session_name}"}, "gr\u00fc\u00dfe, peer\n"},
			{"list-windows", "", []string{"list-windows", "-t", "peer"}, "0: win*"},
			{"unknown command", "", []string{"bogus-cmd"}, ""},
			{"unknown session", "", []string{"has-session", "-t", "nobody"}, ""},
			{"load-buffer", big, []string{"load-buffer", "-b", "big", "-"}, ""},
			{"show-buffer", "", []string{"show-buffer", "-b", "big"}, big},
			{"save-buffer", "", []string{"save-buffer", "-b", "big", "copy"}, ""},
			{"load-buffer from a file", "", []string{"load-buffer", "-b", "two", "copy"}, ""},
			{"show the second buffer", "", []string{"show-buffer", "-b", "two"}, big},
			{"load-buffer from nowhere", "", []string{"load-buffer", "-b", "x", "none/x"}, ""},
			{"save-buffer to nowhere", "", []string{"save-buffer", "-b", "big", "none/x"}, ""},
			{"attach without a terminal", "", []string{"attach-session"}, ""},
		} {
			t.Run(tt.name, func(t *testing.T) {
				want, got := s.tmux(t, ctx, tt.stdin, tt.args...), example(tt.stdin, tt.args...)
				if got != want {
					t.Errorf("the example says %v,\nthe real client  %v", got, want)
				}
				if !strings.Contains(got.stdout, tt.want) {
					t.Errorf("standard output %.500q, want %.500q in it", got.stdout, tt.want)
				}
			})
		}
		t.Run("control mode", func(t *testing.T) {
			want := s.control(t, ctx, slices.Concat(s.argv, []string{"-S", s.socket, "-C", "attach-session"})...)
			got := s.control(t, ctx, exe, "-timeout", limit.String(), "-S", s.socket, "-C", "attach-session")
			if got != want {
				t.Errorf("the example says %v,\nthe real client  %v", got, want)
			}
		})
		if s.dialect == imsg.Current {
			crossed(t, ctx, s, exe)
		}
		noServer(t, ctx, s, exe)
	})
}

// times are what differs from one control client to the next.
var times = regexp.MustCompile(`(?m)^(%begin|%end) \d+ \d+`)

// control lets a control client print a message and detach.
func (s *tmuxServer) control(t *testing.T, ctx context.Context, argv ...string) result {
	t.Helper()
	cmd := s.command(ctx, argv...)
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	outR.SetReadDeadline(time.Now().Add(limit))
	var stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, &stderr
	testutil.Must(t, cmd.Start())
	outW.Close()
	defer cmd.Wait()
	defer inW.Close()
	r := bufio.NewReader(outR)
	out := readUntil(t, r, "%session-changed")
	io.WriteString(inW, "display-message -p hello-over-passed-fd\n")
	out += readUntil(t, r, "%end")
	io.WriteString(inW, "\n")
	rest, err := io.ReadAll(r)
	testutil.Must(t, err)
	cmd.Wait()
	return result{times.ReplaceAllString(out+string(rest), "$1 T N"), stderr.String(), cmd.ProcessState.ExitCode()}
}

// crossed makes the example speak the legacy dialect to a current server: it is
// dropped, see TestTmuxCrossedDialects.
func crossed(t *testing.T, ctx context.Context, s *tmuxServer, exe string) {
	t.Run("crossed dialects", func(t *testing.T) {
		got := s.run(t, ctx, "", exe, "-timeout", limit.String(), "-S", s.socket, "-C", "-dialect", "legacy", "attach-session")
		if got.stdout != "" || got.status != 1 || !strings.HasPrefix(got.stderr, "server exited unexpectedly") || !strings.Contains(got.stderr, "Dialect") {
			t.Errorf("%v", got)
		}
	})
}

// noServer compares what is said where no server is.
func noServer(t *testing.T, ctx context.Context, s *tmuxServer, exe string) {
	t.Run("no server", func(t *testing.T) {
		dead := filepath.Join(s.dir, "dead")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
		testutil.Must(t, err)
		l.SetUnlinkOnClose(false)
		l.Close()
		for _, socket := range []string{dead, filepath.Join(s.dir, "none")} {
			want := s.run(t, ctx, "", slices.Concat(s.argv, []string{"-S", socket, "ls"})...)
			got := s.run(t, ctx, "", exe, "-S", socket, "ls")
			if got.status != want.status || got.stdout != want.stdout || !strings.EqualFold(got.stderr, want.stderr) {
				t.Errorf("the example says %v,\nthe real client  %v", got, want)
			}
		}
	})
}

// Commands of the example that tmux does not have.
func TestTmuxExampleOwn(t *testing.T) {
	exe := build(t, "examples/tmux")
	if r := (&tmuxServer{}).run(t, bounded(t), "", exe, "-h"); r.status != 0 || !strings.Contains(r.stderr, "batch") || !strings.Contains(r.stderr, "submit PANE") {
		t.Errorf("-h: %v", r)
	}
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		example := func(stdin string, args ...string) result {
			return s.run(t, ctx, stdin, slices.Concat([]string{exe, "-timeout", limit.String(), "-S", s.socket}, args)...)
		}
		if got, want := example("", "version"), (result{"tmux " + s.version + ", " + s.dialect.String() + "\n", "", 0}); got != want {
			t.Errorf("version: %v, want %v", got, want)
		}
		got := example("display-message -p 'a b'\n\nlist-windows -F '#{window_name}'\nkill-session -t nobody\nkill-server\n", "batch")
		if want := (result{"a b\nwin\n", "can't find session: nobody\n1 commands were not run\n", 1}); got != want {
			t.Errorf("batch: %v, want %v", got, want)
		}
		pane := s.pane(t, ctx, "read line; tmux -V >/dev/null; echo \"got $line\"; cat")
		if r := example("hello\n", "submit", pane); r.status != 0 || !strings.Contains(r.stdout, "submitted 5 bytes") {
			t.Errorf("submit: %v", r)
		}
		for r := (result{}); !strings.Contains(r.stdout, "got hello"); {
			if r = example("", "capture-pane", "-p", "-t", pane); r.status != 0 {
				t.Fatalf("capture: %v", r)
			}
		}
		// It is told of the end of the server; what comes before depends on the version.
		cmd := s.command(ctx, exe, "-S", s.socket, "watch", "peer")
		outR, outW := pipe(t)
		outR.SetReadDeadline(time.Now().Add(limit))
		cmd.Stdout = outW
		testutil.Must(t, cmd.Start())
		outW.Close()
		r := bufio.NewReader(outR)
		readUntil(t, r, "SessionChanged")
		s.tmux(t, ctx, "", "rename-window", "-t", "peer:", "renamed")
		if out := readUntil(t, r, "WindowRenamed"); !strings.Contains(out, "renamed") {
			t.Errorf("watch: %q", out)
		}
		s.tmux(t, ctx, "", "kill-session", "-t", "peer")
		if out := readUntil(t, r, "Exit"); out == "" {
			t.Error("watch: no end")
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("watch: %v", err)
		}
		s.tmux(t, ctx, "", "new-session", "-d", "-s", "peer", "cat")
	})
}

// tmuxrun waits for the end of what it runs and reports its output and status.
func TestTmuxRunExample(t *testing.T) {
	exe := build(t, "examples/tmuxrun")
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		for _, tt := range []struct {
			command, stdout, stderr string
			status                  int
		}{
			{"echo out; echo err >&2; exit 7", "out\nerr\n", "exit status 7", 7},
			{"true", "", "exit status 0", 0},
			{"kill -9 $$", "*", "exit status 137", 137}, // the shell around it says something
			{"seq 1 100 | tail -n 60 | head -n 1; printf 'no newline'", "41\nno newline\n", "exit status 0", 0},
		} {
			r := s.run(t, ctx, "", exe, "-S", s.socket, "-t", "peer", tt.command)
			if tt.stdout != "*" && r.stdout != tt.stdout || !strings.Contains(r.stderr, tt.stderr) || r.status != tt.status {
				t.Errorf("%q: %v", tt.command, r)
			}
		}
		r := s.run(t, ctx, "", exe, "-S", s.socket, "-t", "peer", "-timeout", "200ms", "echo begun; sleep 1000")
		if !strings.Contains(r.stderr, "not finished") || r.status != 125 {
			t.Errorf("timeout: %v", r)
		}
		if r := s.run(t, ctx, "", exe, "-S", s.socket, "-t", "nobody", "true"); !strings.Contains(r.stderr, "nobody") || r.status != 125 {
			t.Errorf("no session: %v", r)
		}
		if r := s.tmux(t, ctx, "", "list-windows", "-t", "peer", "-F", "#{window_name}"); r.stdout != "win\n" {
			t.Errorf("windows are left: %v", r)
		}
	})
}
