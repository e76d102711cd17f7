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
)

// buildExample builds examples/tmux.
func buildExample(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		missing(t, "no go command to build the example with")
	}
	path := filepath.Join(t.TempDir(), "tmux")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "example.org/imsg/examples/tmux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// The example does what the real client does: the same output, the same
// errors, the same exit status.
func TestTmuxExample(t *testing.T) {
	exe := buildExample(t)
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
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	outW.Close()
	defer cmd.Wait()
	defer inW.Close()
	r := bufio.NewReader(outR)
	out := readUntil(t, r, "%session-changed")
	io.WriteString(inW, "display-message -p hello-over-passed-fd\n")
	out += readUntil(t, r, "%end")
	io.WriteString(inW, "\n")
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	return result{times.ReplaceAllString(out+string(rest), "$1 T N"), stderr.String(), cmd.ProcessState.ExitCode()}
}

// crossed makes the example speak the legacy dialect to a current server: it is
// dropped, see TestTmuxCrossedDialects.
func crossed(t *testing.T, ctx context.Context, s *tmuxServer, exe string) {
	t.Run("crossed dialects", func(t *testing.T) {
		got := s.run(t, ctx, "", exe, "-timeout", limit.String(), "-S", s.socket, "-C", "-dialect", "legacy", "attach-session")
		if got.stdout != "" || got.status != 1 || !strings.HasPrefix(got.stderr, "server exited unexpectedly") || !strings.Contains(got.stderr, "dialect") {
			t.Errorf("%v", got)
		}
	})
}

// noServer compares what is said where no server is.
func noServer(t *testing.T, ctx context.Context, s *tmuxServer, exe string) {
	t.Run("no server", func(t *testing.T) {
		dead := filepath.Join(s.dir, "dead")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
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
