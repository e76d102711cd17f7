package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

// child returns the process that a role has now, or 0.
func (p *program) child(t testing.TB, role string) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	testutil.Must(t, err)
	for _, task := range tasks {
		list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", p.cmd.Process.Pid, task.Name()))
		testutil.Must(t, err)
		for pid := range strings.FieldsSeq(string(list)) {
			title, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if string(title) == "httpd: "+role+"\x00" {
				n, _ := strconv.Atoi(pid)
				return n
			}
		}
	}
	return 0
}

// descriptors counts those of the server, with one client, and of the files.
// Only root can see them.
func (p *program) descriptors(t testing.TB) [2]int {
	t.Helper()
	p.client.CloseIdleConnections()
	p.get(t, "/missing")
	if os.Getuid() != 0 {
		return [2]int{}
	}
	var n [2]int
	for i, role := range []string{"server", "files"} {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.child(t, role)))
		testutil.Must(t, err)
		n[i] = len(list)
	}
	return n
}

func (p *program) signal(t testing.TB, role string, sig syscall.Signal) {
	t.Helper()
	testutil.Must(t, syscall.Kill(p.child(t, role), sig))
}

// stop stops a role, and waits until all its threads have: a signal takes its time.
func (p *program) stop(t testing.TB, role string) {
	t.Helper()
	p.signal(t, role, syscall.SIGSTOP)
	for begin, running := time.Now(), true; running; {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.child(t, role)))
		if err != nil || time.Since(begin) > patience {
			t.Fatalf("%s was not stopped: %v", role, err)
		}
		running = false
		for _, name := range stats {
			stat, err := os.ReadFile(name)
			running = running || err != nil || !bytes.Contains(stat, []byte(") T "))
		}
	}
}

// What the daemon says of its processes is so, as far as it can be seen here.
func TestStatus(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid)
		p.write(t, "x.txt", []byte("served"))
		want := []string{`parent: `, `server: `, `files: `}
		if uid == 0 {
			want = []string{`parent: .* uid 0,`, `server: .* uid 65534,`, `files: .* uid 65534, .* chroot ` + regexp.QuoteMeta(p.root) + `,`}
		}
		if len(p.status) != len(want) {
			t.Fatalf("%d processes: %q", len(p.status), p.status)
		}
		for i, line := range p.status {
			if !regexp.MustCompile("^" + want[i]).MatchString(line) {
				t.Errorf("%s\ndoes not match %s", line, want[i])
			}
			if i > 0 && !regexp.MustCompile(`no_new_privs; seccomp: (\d+ calls|none, no list)`).MatchString(line) {
				t.Errorf("no seccomp: %s", line)
			}
			if i > 0 && uid != 0 && !strings.Contains(line, fmt.Sprintf("missing chroot: user %d is not root", uid)) {
				t.Errorf("a change of root: %s", line)
			}
		}
		for _, role := range []string{"server", "files"} {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.child(t, role)))
			testutil.Must(t, err)
			for _, line := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"} {
				if !strings.Contains(string(data), "\n"+line+"\n") {
					t.Errorf("%s: no %q", role, line)
				}
			}
		}
		if uid == 0 {
			roots(t, p)
		}
	})
}

// roots looks at what the children of root see as "/": nothing, and the documents.
func roots(t *testing.T, p *program) {
	for role, want := range map[string][]string{"server": nil, "files": {"x.txt"}} {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/", p.child(t, role)))
		if err != nil && (want != nil || !errors.Is(err, os.ErrNotExist)) { // an empty directory may be gone
			t.Fatal(err)
		}
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s sees %q, want %q", role, names, want)
		}
	}
}

// While the files do not answer, or are not there, the server says so, and goes
// on when they are back. What it has, it serves for a moment.
func TestFilesKilled(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid, "-timeout", "1s")
		status := func() int {
			res, _ := p.get(t, "/missing")
			return res.StatusCode
		}
		if got := status(); got != 404 {
			t.Fatalf("status %d", got)
		}
		p.stop(t, "files")
		res, _ := p.get(t, "/missing")
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
			t.Errorf("stopped: status %d, %v", res.StatusCode, res.Header)
		}
		p.signal(t, "files", syscall.SIGKILL)
		for begin, got := time.Now(), 0; got != 404; {
			if got = status(); got != 404 && got != 503 || time.Since(begin) > patience {
				t.Fatalf("killed: status %d", got)
			}
		}
	})
}

// The same with clients that do not stop asking: nothing but the two answers is
// ever seen, and no connection is lost.
func TestFilesKilledUnderLoad(t *testing.T) {
	p := start(t, os.Getuid())
	p.write(t, "x.txt", []byte("served"))
	var over atomic.Bool
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for !over.Load() {
				for path, want := range map[string]int{"/x.txt": 200, "/missing": 404} {
					res, err := p.client.Get("http://" + p.addr + path)
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode != want && res.StatusCode != 503 {
						t.Errorf("%s: status %d", path, res.StatusCode)
					}
				}
			}
		})
	}
	for range 3 {
		killed := p.child(t, "files")
		p.signal(t, "files", syscall.SIGKILL)
		for begin := time.Now(); ; {
			res, _ := p.get(t, "/missing")
			if res.StatusCode == 404 && p.child(t, "files") != killed {
				break
			}
			if time.Since(begin) > patience {
				t.Fatalf("status %d", res.StatusCode)
			}
		}
	}
	over.Store(true)
	running.Wait()
}

// The port is the parent's as well: who comes while there is no server waits
// for the next.
func TestServerKilled(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid)
		p.write(t, "x.txt", []byte("served"))
		for range 2 {
			c := p.dial(t)
			if _, err := io.WriteString(c, "GET /x.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, len("HTTP/1.1 200 OK"))); err != nil {
				t.Fatal(err)
			}
			p.signal(t, "server", syscall.SIGKILL)
			io.Copy(io.Discard, c) // until it is gone
			p.client.CloseIdleConnections()
			if res, body := p.get(t, "/x.txt"); res.StatusCode != http.StatusOK || body != "served" {
				t.Errorf("status %d, %q", res.StatusCode, body)
			}
		}
	})
}

// A start that fails says what is wrong, and leaves nobody behind: the test has
// all of the output only when the last process has closed it.
func TestBadStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	testutil.Must(t, err)
	defer taken.Close()
	dir := t.TempDir()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-root", dir + "/missing"}, "httpd: .*files: plan: chroot: .*no such file.*"},
		{[]string{"-root", "/proc/version"}, "httpd: .*files: plan: chroot /proc/version: not a directory"},
		{[]string{"-root", dir, "-listen", taken.Addr().String()}, "httpd: .*address already in use"},
		{[]string{"-root", dir, "-listen", "127.0.0.1:0", "-log", dir + "/missing/log"}, "httpd: .*missing/log: no such file.*"},
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", test.args...)
		cmd.Env = append(os.Environ(), programEnv+"=1")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !regexp.MustCompile("^"+test.want+"\n$").Match(out) {
			t.Errorf("%q: %v\n%swant %s", test.args, err, out, test.want)
		}
	}
}
