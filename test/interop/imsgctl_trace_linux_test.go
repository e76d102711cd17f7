package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"
)

// A traced message, as "imsgctl trace --json" shows it.
type tracedMessage struct {
	Wait    *int64
	Channel int
	Socket  string
	From    struct{ PID int }
	To      struct{ PID int }
	Type    int
	Name    string
	Dialect string
	Files   []struct {
		From, To   int
		Kind, Path string
		Lost       bool
	}
	Note string
}

func tracedMessages(t *testing.T, out io.Reader) (ms []tracedMessage) {
	t.Helper()
	for dec := json.NewDecoder(out); dec.More(); {
		var m tracedMessage
		testutil.Must(t, dec.Decode(&m))
		ms = append(ms, m)
	}
	return ms
}

// skipUntraceable skips where nobody may trace.
func skipUntraceable(t *testing.T, imsgctl string) {
	t.Helper()
	if out, err := exec.Command(imsgctl, "trace", "true").CombinedOutput(); err != nil {
		t.Skipf("tracing is not possible here: %s", out)
	}
}

// TestTraceTmux watches a client, and then the server.
func TestTraceTmux(t *testing.T) {
	imsgctl := build(t, "cmd/imsgctl")
	skipUntraceable(t, imsgctl)
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		list := []string{"-S", s.socket, "list-sessions", "-F", "#{session_name}"}
		check := func(ms []tracedMessage) {
			t.Helper()
			files, names := 0, map[string]int{}
			for _, m := range ms {
				files += len(m.Files)
				names[m.Name]++
				if m.Channel != 1 || m.Socket != s.socket {
					t.Errorf("%+v is not on channel 1, %s", m, s.socket)
				}
			}
			if files != 2 || names["COMMAND"] != 1 || names["IDENTIFY_DONE"] != 1 || names["EXIT"]+names["DETACH"] != 1 || names[""] > 0 {
				t.Errorf("%d files, messages %v", files, names)
			}
		}
		r := s.run(t, ctx, "", append(append([]string{imsgctl, "trace", "--json", "--profile", "tmux", "--"}, s.argv...), list...)...)
		if r.status != 0 || !strings.HasPrefix(r.stderr, "peer\nimsgctl: trace: ") || strings.Count(r.stderr, "\n") != 2 {
			t.Fatal(r)
		}
		check(tracedMessages(t, strings.NewReader(r.stdout)))

		attach := []string{"-S", s.socket, "-C", "attach-session", "-t", "peer"}
		r = s.run(t, ctx, "", append(append([]string{imsgctl, "trace", "--json", "--profile", "tmux", "--"}, s.argv...), attach...)...)
		if !strings.Contains(r.stderr, "%exit\n") {
			t.Fatal(r)
		}
		check(tracedMessages(t, strings.NewReader(r.stdout)))

		pid := strings.TrimSpace(s.tmux(t, ctx, "", "display-message", "-p", "#{pid}").stdout)
		trace := exec.CommandContext(ctx, imsgctl, "trace", "--json", "--profile", "tmux", "-p", pid)
		stdout, err := trace.StdoutPipe()
		testutil.Must(t, err)
		stderr, err := trace.StderrPipe()
		testutil.Must(t, err)
		testutil.Must(t, trace.Start())
		says := bufio.NewReader(stderr)
		if line, err := says.ReadString('\n'); !strings.Contains(line, "tracing ") {
			t.Fatalf("%q, %v", line, err)
		}
		if r := s.tmux(t, ctx, "", list[2:]...); r.stdout != "peer\n" {
			t.Error(r)
		}
		var out bytes.Buffer
		lines := bufio.NewReader(io.TeeReader(stdout, &out))
		for line := ""; !strings.Contains(line, `"EXIT"`); { // the client can be gone before the trace has come so far
			line, err = lines.ReadString('\n')
			testutil.Must(t, err)
		}
		testutil.Must(t, trace.Process.Signal(os.Interrupt))
		_, err = io.Copy(io.Discard, lines)
		testutil.Must(t, err)
		rest, _ := io.ReadAll(says)
		if err := trace.Wait(); err != nil || !strings.Contains(string(rest), "still there") {
			t.Errorf("%v: %s", err, rest)
		}
		check(tracedMessages(t, &out))
	})
}

// TestTraceBGPD watches a daemon of four processes from its start to its end, in
// namespaces of its own: every descriptor is seen leaving and arriving, and no
// byte is left over.
func TestTraceBGPD(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	imsgctl := build(t, "cmd/imsgctl")
	skipUntraceable(t, imsgctl)
	dir, err := os.MkdirTemp("", "imsg") // t.TempDir's can be too long for a socket
	testutil.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	i := isolation{
		Packages: os.Getenv("IMSG_BGPD_LEGACY"), Root: filepath.Join(dir, "root"), User: "_openbgpd",
		Run: filepath.Join(dir, "run"), RunAt: "/run/openbgpd",
		Files: map[string]string{"etc/bgpd.conf": "AS 65001\nrouter-id 127.0.0.1\nfib-update no\n" +
			"socket \"/run/openbgpd/s\"\nlisten on 127.0.0.1\nnetwork 192.0.2.0/24\nneighbor 127.0.0.2 {\nremote-as 65002\npassive\n}\n"},
		Argv: []string{"/usr/sbin/bgpd", "-d", "-f", "/etc/bgpd.conf"},
	}
	if i.Packages == "" {
		missing(t, "IMSG_BGPD_LEGACY is not set: see the README for bookworm")
	}
	testutil.Must(t, errors.Join(os.Mkdir(i.Root, 0o755), os.Mkdir(i.Run, 0o755)))
	text, err := json.Marshal(i)
	testutil.Must(t, err)
	self, err := os.Executable()
	testutil.Must(t, err)
	cmd := exec.CommandContext(bounded(t), imsgctl, "trace", "--json", "--", "unshare", "-m", "-n", "-p", "--fork", "--kill-child", self)
	cmd.Env = []string{"PATH=/usr/bin:/bin", isolationVar + "=" + string(text)}
	stdout, err := cmd.StdoutPipe()
	testutil.Must(t, err)
	var stderr lockedBuffer
	cmd.Stderr, cmd.WaitDelay = &stderr, limit/6
	testutil.Must(t, cmd.Start())
	// The parent with three, the session engine with the decision engine, and that
	// with the RTR engine: the last one is used when all have started.
	const all = 5
	first, started := make(chan int, 1), make(chan bool)
	got := make(chan []tracedMessage, 1)
	go func() {
		var ms []tracedMessage
		channels := map[int]bool{}
		dec := json.NewDecoder(stdout)
		for m := (tracedMessage{}); dec.Decode(&m) == nil; m = (tracedMessage{}) {
			if ms = append(ms, m); len(ms) == 1 {
				first <- m.From.PID
			}
			if !channels[m.Channel] && len(channels) == all-1 {
				close(started)
			}
			channels[m.Channel] = true
		}
		close(first)
		got <- ms
	}()
	if pid := <-first; pid > 0 {
		select {
		case <-started:
			syscall.Kill(pid, syscall.SIGTERM)
		case <-bounded(t).Done():
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	ms := <-got
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	files, channels := 0, map[int]bool{}
	for _, m := range ms {
		channels[m.Channel] = true
		if m.From.PID == 0 || m.To.PID == 0 || m.From.PID == m.To.PID {
			t.Errorf("%+v: who has sent it to whom?", m)
		}
		for _, f := range m.Files {
			files++
			// On a machine that is very slow a message is shown before it is received.
			if f.From < 3 || f.To < 3 && m.Wait != nil || f.Kind != "socket" || !strings.HasPrefix(f.Path, "socket:[") || f.Lost {
				t.Errorf("%+v in %+v", f, m)
			}
		}
	}
	if len(ms) < 25 || files < 8 || len(channels) != all {
		t.Errorf("%d messages, %d files, %d channels", len(ms), files, len(channels))
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.HasPrefix(line, "imsgctl: ") && !strings.Contains(line, fmt.Sprintf(": %d messages, ", len(ms))) && !strings.Contains(line, "not shown: ") {
			t.Error(line)
		}
	}
	t.Logf("%d messages, %d files, %d channels", len(ms), files, len(channels))
}
