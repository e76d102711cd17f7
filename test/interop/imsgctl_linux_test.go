package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/bgpd"
)

// A proxy is "imsgctl proxy --json --move SOCKET", at work.
type proxy struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    bytes.Buffer
	stderr *bufio.Reader
}

func startProxy(t *testing.T, imsgctl, socket string) *proxy {
	t.Helper()
	p := &proxy{t: t, cmd: exec.Command(imsgctl, "proxy", "--json", "--move", socket)}
	p.cmd.Stdout = &p.out
	errs, err := p.cmd.StderrPipe()
	testutil.Must(t, err)
	p.stderr = bufio.NewReader(errs)
	testutil.Must(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	if line, err := p.stderr.ReadString('\n'); !strings.Contains(line, "in the place of") {
		t.Fatalf("%q, %v", line, err)
	}
	return p
}

// end ends the proxy, which must have nothing to complain about, and returns the
// messages.
func (p *proxy) end() (ms []map[string]any) {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	rest, _ := io.ReadAll(p.stderr)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v: %s", err, rest)
	}
	for line := range strings.Lines(string(rest)) {
		if !strings.Contains(line, "given back") && !strings.Contains(line, " messages, ") {
			p.t.Errorf("the proxy says %q", line)
		}
	}
	dec := json.NewDecoder(&p.out)
	for dec.More() {
		m := make(map[string]any)
		testutil.Must(p.t, dec.Decode(&m))
		ms = append(ms, m)
	}
	return ms
}

// TestProxyTmux has a proxy between a server and its clients, real ones and
// ours, while a session is used.
func TestProxyTmux(t *testing.T) {
	imsgctl := build(t, "cmd/imsgctl")
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		p := startProxy(t, imsgctl, s.socket)
		must := func(stdin, want string, args ...string) {
			t.Helper()
			if r := s.tmux(t, ctx, stdin, args...); r.status != 0 || r.stdout != want {
				t.Errorf("%q: %v, want %.100q", args, r, want)
			}
		}
		big := strings.Repeat("0123456789abcde\n", 1<<16) // 1 MiB
		must("", "", "new-session", "-d", "-s", "two", "-n", "win", "cat")
		must("", "peer\ntwo\n", "list-sessions", "-F", "#{session_name}")
		must(big, "", "load-buffer", "-b", "big", "-")
		must("", big, "show-buffer", "-b", "big")
		if r := s.tmux(t, ctx, "", "-C", "attach-session", "-t", "two", ";", "detach-client"); r.status != 0 || !strings.HasSuffix(r.stdout, "%exit\n") {
			t.Errorf("attach: %v", r)
		}
		if r := s.tmux(t, ctx, "", "bogus"); r.status != 1 || !strings.Contains(r.stderr, "bogus") {
			t.Errorf("bogus: %v", r)
		}

		c := s.client(t, ctx)
		if c.Dialect() != s.dialect || c.Version() != s.version {
			t.Errorf("%s, %v, want %s, %v", c.Version(), c.Dialect(), s.version, s.dialect)
		}
		k, err := c.Control(ctx, "peer") // which works only if its files arrive
		testutil.Must(t, err)
		r, err := k.Run(ctx, "display-message", "-p", "through the proxy")
		if err != nil || string(r.Stdout) != "through the proxy\n" {
			t.Errorf("%q, %v", r.Stdout, err)
		}
		var got bytes.Buffer
		testutil.Must(t, c.LoadBuffer(ctx, "ours", strings.NewReader(big)))
		testutil.Must(t, c.SaveBuffer(ctx, "ours", &got))
		if got.String() != big {
			t.Errorf("%d bytes came back", got.Len())
		}
		pane := s.pane(t, ctx, "cat")
		testutil.Must(t, c.Paste(ctx, pane, []byte("typed through the proxy")))
		testutil.Must(t, k.Close())

		types, files := make(map[string]int), 0
		for _, m := range p.end() {
			name, _ := m["name"].(string)
			types[name]++
			if list, _ := m["files"].([]any); len(list) > 0 {
				files++
			}
			if d := m["dialect"]; d != s.dialect.String() && d != "either" {
				t.Errorf("a message in the %v dialect: %v", d, m)
			}
		}
		for _, name := range []string{"IDENTIFY_STDIN", "IDENTIFY_STDOUT", "COMMAND", "WRITE", "WRITE_READY", "READ", "EXIT", "EXITED"} {
			if types[name] == 0 {
				t.Errorf("no %s was shown: %v", name, types)
			}
		}
		if stdin := types["IDENTIFY_STDIN"] + types["IDENTIFY_STDOUT"]; files != stdin || files == 0 {
			t.Errorf("%d files, %d messages that have one", files, stdin)
		}
		s.alive(t, "without the proxy")
	})
}

// TestProxyTmuxKilled kills a proxy in the middle of a session.
func TestProxyTmuxKilled(t *testing.T) {
	imsgctl := build(t, "cmd/imsgctl")
	s := startTmux(t, tmuxProgram(t, "", "")...)
	ctx := bounded(t)
	p := startProxy(t, imsgctl, s.socket)
	k, err := s.client(t, ctx).Control(ctx, "peer")
	testutil.Must(t, err)
	p.cmd.Process.Kill()
	p.cmd.Wait()
	for range k.Events() { // until the connection is gone
	}
	k.Close()
	if r := s.tmux(t, ctx, "", "ls"); r.status == 0 {
		t.Errorf("the socket of a killed proxy answers: %v", r)
	}
	if r := s.run(t, ctx, "", imsgctl, "doctor", "--fix", s.socket); !strings.Contains(r.stdout, "put the daemon's socket back") || r.status != 0 {
		t.Errorf("doctor: %v", r)
	}
	s.alive(t, "after doctor --fix")
	p = startProxy(t, imsgctl, s.socket)
	s.alive(t, "with another proxy")
	p.end()
	s.alive(t, "afterwards")
}

// TestDoctorTmux tells each server's version, and when the installed client
// speaks another dialect.
func TestDoctorTmux(t *testing.T) {
	imsgctl := build(t, "cmd/imsgctl")
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		r := s.run(t, ctx, "", imsgctl, "doctor", "--json", s.socket)
		var d struct {
			Program, Dialect string
			Listener         struct {
				PID  int
				Name string
			}
			Findings []struct {
				Warning           bool
				Topic, Text, Cure string
			}
		}
		if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		if d.Program != "tmux "+s.version || d.Dialect != s.dialect.String() || d.Listener.Name != "tmux" || d.Listener.PID == 0 {
			t.Errorf("%+v, want tmux %s, %v", d, s.version, s.dialect)
		}
		found := make(map[string]string)
		for _, f := range d.Findings {
			if f.Warning && f.Topic != "dialect" {
				t.Errorf("warning: %+v", f)
			}
			found[f.Topic] = f.Cure
		}
		if _, ok := found["tmux"]; ok != beforeControlFix(s.version) {
			t.Errorf("tmux %s: %+v", s.version, found)
		}
		want := installedTmux(t, ctx, s)
		cure, ok := found["dialect"]
		if ok != (want != imsg.Auto && want != s.dialect) || ok && !strings.Contains(cure, "/exe attach") || ok != (r.status == 1) {
			t.Errorf("server %v, client %v: %+v, status %d", s.dialect, want, found, r.status)
		}
		s.alive(t, "after doctor")

		testutil.Must(t, syscall.Kill(d.Listener.PID, syscall.SIGSTOP))
		r = s.run(t, ctx, "", imsgctl, "doctor", s.socket)
		testutil.Must(t, syscall.Kill(d.Listener.PID, syscall.SIGCONT))
		if r.status != 1 || !strings.Contains(r.stdout, "is stopped: clients wait") || !strings.Contains(r.stdout, "cannot be asked") {
			t.Errorf("a server that is stopped: %v", r)
		}
		s.alive(t, "after it was stopped")
	})
}

// installedTmux returns the dialect of the client that is found first.
func installedTmux(t *testing.T, ctx context.Context, s *tmuxServer) imsg.Dialect {
	if _, err := exec.LookPath("/usr/bin/tmux"); err != nil {
		return imsg.Auto
	}
	r := s.run(t, ctx, "", "/usr/bin/tmux", "-V")
	if version, ok := strings.CutPrefix(r.stdout, "tmux 3."); ok && version[0] >= '0' && version[0] < '6' {
		return imsg.Legacy
	}
	return imsg.Current
}

func beforeControlFix(version string) bool {
	return strings.HasPrefix(version, "3.") && version[2] < '7'
}

// TestProxyBGPD asks OpenBGPD for 3003 routes, through a proxy and without.
func TestProxyBGPD(t *testing.T) {
	imsgctl := build(t, "cmd/imsgctl")
	for _, p := range bgpdPrograms {
		t.Run(p.name, func(t *testing.T) {
			d := startBGPD(t, p.env, p.suite, manyNetworks(), 0)
			c := dialBGPD(t, d, "bgpd.sock")
			routes := func() (all []bgpd.Route) {
				for r, err := range c.RIB(d.ctx, bgpd.Filter{}) {
					testutil.Must(t, err)
					r := r.Clone()
					r.LastChange = time.Time{} // which is made of an age in seconds
					all = append(all, r)
				}
				return all
			}
			waitFor(t, d, "3003 routes", func() bool { return len(routes()) == 3003 })
			want := routes()
			begin := time.Now()
			routes()
			direct := time.Since(begin)
			proxy := startProxy(t, imsgctl, d.socket("bgpd.sock"))
			begin = time.Now()
			got := routes()
			t.Logf("3003 routes: %v, through the proxy %v", direct, time.Since(begin))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%d routes that are others than the %d without the proxy", len(got), len(want))
			}
			if rib := bgpctl(t, d, "show", "rib")["rib"].([]any); len(rib) != 3003 {
				t.Errorf("bgpctl shows %d routes", len(rib))
			}
			names := make(map[any]int)
			for _, m := range proxy.end() {
				names[m["name"]]++
			}
			if names["IMSG_CTL_SHOW_RIB"]+names["CTL_SHOW_RIB"] < 2*3003 {
				t.Errorf("shown: %v", names)
			}
			if n := len(routes()); n != 3003 {
				t.Errorf("%d routes afterwards", n)
			}
		})
	}
}
