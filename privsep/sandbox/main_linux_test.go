package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// Whatever cannot be taken back runs in a process of its own: this test binary
// again, told by the environment which of the children it is.
const (
	childEnv  = "SANDBOX_TEST_CHILD"
	policyEnv = "SANDBOX_TEST_POLICY"
)

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	var p Policy
	if err := json.Unmarshal([]byte(os.Getenv(policyEnv)), &p); err != nil {
		fmt.Println("policy:", err)
		os.Exit(1)
	}
	child := children()[name]
	if child == nil {
		fmt.Println("no such child:", name)
		os.Exit(1)
	}
	if err := child(p); err != nil {
		fmt.Println("child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// children are the bodies of the processes that the tests start. What they
// write to standard output is what the test sees.
func children() map[string]func(Policy) error {
	return map[string]func(Policy) error{
		"probe":    probeChild,
		"workload": workloadChild,
		"threads":  threadsChild,
		"landlock": landlockChild,
		"kernel":   kernelChild,
		"limits":   limitsChild,
		"enter":    enterChild,
		"program":  programChild,
		"chroot":   chrootChild,
		"cost":     costChild,
		"ports":    portsChild,
	}
}

// users are the ids to run a child as: as root also one that is not root.
func users() map[string]*syscall.Credential {
	m := map[string]*syscall.Credential{"self": nil}
	if os.Geteuid() == 0 {
		m["nobody"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return m
}

// asUsers runs f once for each of them.
func asUsers(t *testing.T, f func(t *testing.T, cred *syscall.Credential)) {
	for name, cred := range users() {
		t.Run(name, func(t *testing.T) { f(t, cred) })
	}
}

// command prepares the child name in the directory dir.
func command(t testing.TB, name string, p Policy, cred *syscall.Credential, dir string) *exec.Cmd {
	t.Helper()
	policy, err := json.Marshal(p)
	testutil.Must(t, err)
	// This path works even if the binary lies where nobody may look.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+name, policyEnv+"="+string(policy), "TMPDIR=/tmp",
		"GORACE=atexit_sleep_ms=0") // a second for each child otherwise
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs the child to its end and returns what it wrote and how it ended.
func run(t *testing.T, name string, p Policy, cred *syscall.Credential, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := command(t, name, p, cred, dir)
	cmd.Args = append(cmd.Args, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// tempDir is a directory that every user may use.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sandbox-test-")
	testutil.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	testutil.Must(t, os.Chmod(dir, 0o777))
	return dir
}

// killed reports whether err says that seccomp ended the process.
func killed(err error) bool {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return false
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGSYS
}

// needLandlock skips a test that wants more than this kernel has.
func needLandlock(t *testing.T, abi int) {
	t.Helper()
	if k := thisLandlock(); k.abi < abi {
		t.Skipf("needs Landlock ABI %d; here: %d %s", abi, k.abi, k.why)
	}
}

// enterChild does nothing but enter.
func enterChild(p Policy) error {
	status, err := Enter(p)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(status)
}

// Costs are those of Enter, and before and after it of two calls: one that is allowed
// whatever its arguments, and one whose arguments the filter looks at. In nanoseconds.
type costs [5]float64

// costChild writes them.
func costChild(p Policy) error {
	call := func(number, a, b uintptr) float64 {
		const times = 20000
		start := time.Now()
		for range times {
			_, _, _ = syscall.RawSyscall(number, a, b, 0)
		}
		return float64(time.Since(start).Nanoseconds()) / times
	}
	calls := func() (float64, float64) { return call(unix.SYS_GETPPID, 0, 0), call(unix.SYS_FCNTL, 0, unix.F_GETFD) }
	var c costs
	c[1], c[2] = calls()
	start := time.Now()
	if _, err := Enter(p); err != nil {
		return err
	}
	c[0] = float64(time.Since(start).Nanoseconds())
	c[3], c[4] = calls()
	return json.NewEncoder(os.Stdout).Encode(c)
}

// BenchmarkEnter measures Enter alone, and what its filter adds to each call, in
// processes that do it once. All of it is the least of many.
func BenchmarkEnter(b *testing.B) {
	for name, p := range map[string]Policy{
		"stdio": {Promises: "stdio"},
		"paths": {Paths: []Path{{"/tmp", "r"}}},
		"many":  {Promises: "stdio rpath wpath cpath inet unix proc exec", Paths: []Path{{"/tmp", "rwc"}, {"/usr", "rx"}}},
	} {
		b.Run(name, func(b *testing.B) {
			var least costs
			for b.Loop() {
				out, err := command(b, "cost", p, nil, "/").Output()
				testutil.Must(b, err)
				var c costs
				testutil.Must(b, json.Unmarshal(out, &c))
				for i := range c {
					if least[i] == 0 || c[i] < least[i] {
						least[i] = c[i]
					}
				}
			}
			b.ReportMetric(least[0]/1e6, "ms/enter")
			b.ReportMetric(least[3]-least[1], "ns/call")
			b.ReportMetric(least[4]-least[2], "ns/ruled-call")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// readLine reads up to a newline, byte by byte, so that nothing is buffered.
func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(r, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}
