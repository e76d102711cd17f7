package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

// The test binary is the program too, built as the tests are: TestMain runs it
// if the environment says so, and its children come by here.
const programEnv = "EXAMPLE_PROGRAM"

// patience only bounds failures.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	split().RunChild()
	if os.Getenv(programEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A program is httpd, started by a test.
type program struct {
	cmd    *exec.Cmd
	status []string // what it says about its processes
	addr   string
	root   string // of the documents
	log    string // the file
	client *http.Client
}

// eachUser runs a test as the present user, and if that is root also as one
// that is not.
func eachUser(t *testing.T, test func(t *testing.T, uid int)) {
	uids := []int{os.Getuid()}
	if uids[0] == 0 {
		uids = append(uids, 65534)
	}
	for _, uid := range uids {
		t.Run(fmt.Sprintf("uid %d", uid), func(t *testing.T) { test(t, uid) })
	}
}

// start starts the program as a user, and ends it after the test with SIGTERM,
// which must do.
func start(t testing.TB, uid int, args ...string) *program {
	t.Helper()
	dir, err := os.MkdirTemp("", "httpd-test-")
	testutil.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &program{root: filepath.Join(dir, "root"), log: filepath.Join(dir, "log")}
	for _, d := range []string{dir, p.root} {
		testutil.Must(t, os.MkdirAll(d, 0o755))
	}
	testutil.Must(t, os.Chmod(dir, 0o755))
	p.write(t, "../log", nil)
	p.cmd = exec.Command("/proc/self/exe", append([]string{"-root", p.root, "-listen", "127.0.0.1:0", "-log", p.log}, args...)...)
	p.cmd.Env = append(os.Environ(), programEnv+"=1")
	p.cmd.Dir = "/"
	if os.Getuid() != uid {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		testutil.Must(t, os.Chown(p.log, uid, uid))
	}
	p.launch(t)
	return p
}

func (p *program) launch(t testing.TB) {
	t.Helper()
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	stdout, err := p.cmd.StdoutPipe()
	testutil.Must(t, err)
	testutil.Must(t, p.cmd.Start())
	bound := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	lines := bufio.NewScanner(stdout)
	for p.addr == "" && lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "listening on http://"); ok {
			p.addr = strings.TrimSuffix(addr, "/")
		} else {
			p.status = append(p.status, lines.Text())
		}
	}
	bound.Stop()
	if p.addr == "" {
		t.Fatalf("not listening: %v\n%s", p.cmd.Wait(), &stderr)
	}
	p.client = &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		p.cmd.Process.Signal(syscall.SIGTERM)
		bound.Reset(patience)
		io.Copy(io.Discard, stdout)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with %v\n%s", err, &stderr)
		}
		bound.Stop()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("the daemon said:\n%s", &stderr)
		}
	})
}

// write puts a file below the root.
func (p *program) write(t testing.TB, name string, data []byte) {
	t.Helper()
	name = filepath.Join(p.root, name)
	testutil.Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	testutil.Must(t, os.WriteFile(name, data, 0o644))
}

// get does a request and returns the answer with its body.
func (p *program) get(t testing.TB, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+p.addr+path, nil)
	testutil.Must(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := p.client.Do(req)
	testutil.Must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	testutil.Must(t, err)
	return res, string(body)
}

// dial connects, for what an honest client would not say.
func (p *program) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	testutil.Must(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}
