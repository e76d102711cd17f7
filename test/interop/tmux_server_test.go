package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
)

// A tmuxServer is a real server with one session, "peer", of one window.
type tmuxServer struct {
	argv    []string // the program
	version string
	dialect imsg.Dialect
	dir     string
	socket  string
}

// tmuxPrograms are the versions of tmux to test with: the installed one, and
// those of other suites, each below the directory that a variable names (or the
// program itself).
var tmuxPrograms = []struct{ name, env, suite string }{
	{"installed", "", ""},
	{"legacy", "IMSG_TMUX_LEGACY", "trixie"}, // 3.5a: legacy, but files in a batch as current servers
	{"current", "IMSG_TMUX_CURRENT", "forky"},
	{"newest", "IMSG_TMUX_NEWEST", "sid"},
}

// tmuxServers calls test with a server of each version of tmux there is.
func tmuxServers(t *testing.T, test func(t *testing.T, s *tmuxServer)) {
	for _, p := range tmuxPrograms {
		t.Run(p.name, func(t *testing.T) { test(t, startTmux(t, tmuxProgram(t, p.env, p.suite)...)) })
	}
}

func tmuxProgram(t testing.TB, env, suite string) []string {
	if env == "" {
		path, err := exec.LookPath("tmux")
		if err != nil {
			missing(t, "tmux is not installed")
		}
		return []string{path}
	}
	path := os.Getenv(env)
	if path == "" {
		missing(t, "%s is not set: run .ci/fetch-debs DIR %s tmux, and set it to DIR", env, suite)
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return []string{path}
	}
	return unpacked(t, env, "usr/bin/tmux")
}

// startTmux starts a server that shares nothing with others: it has its own
// directory, no configuration and no environment. It is gone when the test ends.
func startTmux(t testing.TB, argv ...string) *tmuxServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "imsg") // t.TempDir's can be too long for a socket
	testutil.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &tmuxServer{argv: argv, dir: dir, socket: filepath.Join(dir, "s")}
	ctx := bounded(t)
	r := s.run(t, ctx, "", slices.Concat(argv, []string{"-V"})...)
	var major, minor int
	if _, err := fmt.Sscanf(r.stdout, "tmux %d.%d", &major, &minor); err != nil {
		t.Fatalf("%v -V: %v", argv, r)
	}
	s.version = strings.TrimSpace(strings.TrimPrefix(r.stdout, "tmux "))
	if major < 3 || major == 3 && minor < 6 {
		s.dialect = imsg.Legacy
	}
	s.start(t, ctx)
	// A window with a name of its own: another would be renamed at any time.
	r = s.tmux(t, ctx, "", "new-session", "-d", "-s", "peer", "-n", "win", "-x", "80", "-y", "24", "cat")
	if r.status != 0 {
		t.Fatalf("new-session: %v", r)
	}
	t.Logf("tmux %s, %v", s.version, s.dialect)
	return s
}

// start starts the server as our child, not as a daemon, and waits until it
// listens.
func (s *tmuxServer) start(t testing.TB, ctx context.Context) {
	t.Helper()
	server := s.command(ctx, slices.Concat(s.argv, []string{"-D", "-f", os.DevNull, "-S", s.socket})...)
	testutil.Must(t, server.Start())
	t.Cleanup(func() {
		r := s.tmux(t, context.Background(), "", "kill-server")
		if r.status != 0 {
			server.Process.Kill()
		}
		if err := server.Wait(); err != nil {
			t.Errorf("server: %v; kill-server: %v", err, r)
		}
	})
	for {
		c, err := net.Dial("unix", s.socket)
		if err == nil {
			c.Close()
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// A result is what a program left behind.
type result struct {
	stdout, stderr string
	status         int
}

func (r result) String() string {
	return fmt.Sprintf("%.500q, errors %.500q, status %d", r.stdout, r.stderr, r.status)
}

// tmux runs the real client.
func (s *tmuxServer) tmux(t testing.TB, ctx context.Context, stdin string, args ...string) result {
	t.Helper()
	return s.run(t, ctx, stdin, slices.Concat(s.argv, []string{"-S", s.socket}, args)...)
}

// command is a program with the server's directory and environment, and no
// other.
func (s *tmuxServer) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + s.dir, "PWD=" + s.dir, "SHELL=/bin/sh", "LANG=C.UTF-8", "TERM=xterm"}
	return cmd
}

// run runs a program to its end.
func (s *tmuxServer) run(t testing.TB, ctx context.Context, stdin string, argv ...string) result {
	t.Helper()
	cmd := s.command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
