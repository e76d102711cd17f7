package privsep

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/imsgtest"
)

// limit bounds what fails by never ending.
const limit = 10 * time.Second

// envMiddle names the middle that this process is to be: a process between the
// test and the children of a daemon.
const envMiddle = "PRIVSEP_TEST_MIDDLE"

// What this program can be beside the tests, by name. All of it is declared at
// package level, so that the processes started again know it too.
var (
	daemons = map[string]*Daemon{}
	fakes   = map[string]func(role string, instance int) int{} // by daemon: children that misbehave
	middles = map[string]func() int{}
)

// register declares a daemon.
func register(d Daemon) *Daemon {
	if daemons[d.Name] != nil || fakes[d.Name] != nil {
		panic("two daemons " + d.Name)
	}
	daemons[d.Name] = &d
	return &d
}

// registerFake declares what runs instead of the children of a daemon: it
// returns the exit status, and finds its channel on descriptor 3.
func registerFake(daemon string, f func(role string, instance int) int) bool {
	fakes[daemon] = f
	return true
}

// registerMiddle declares a process that middle starts.
func registerMiddle(name string, f func() int) bool {
	middles[name] = f
	return true
}

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(envMiddle); ok {
		os.Unsetenv(envMiddle)
		os.Exit(middles[name]())
	}
	if text, ok := os.LookupEnv(envRole); ok {
		name, rest, _ := strings.Cut(text, "/")
		role, instance, _ := strings.Cut(rest, "/")
		if f := fakes[name]; f != nil {
			n, _ := strconv.Atoi(instance)
			os.Unsetenv(envRole)
			os.Exit(f(role, n))
		}
		for _, d := range daemons {
			d.RunChild()
		}
		fmt.Fprintf(os.Stderr, "no test daemon for %q\n", text)
		os.Exit(1)
	}
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each child otherwise
	}
	imsgtest.Main(m)
}

// again prepares this program as another process, whose output goes to that of
// the tests, with this environment and nothing else.
func again(t testing.TB, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append([]string{"GORACE=" + os.Getenv("GORACE")}, env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = limit
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// middle prepares a middle process.
func middle(t testing.TB, name string, env ...string) *exec.Cmd {
	return again(t, append([]string{envMiddle + "=" + name}, env...)...)
}

// isRoot says whether children change ids and root.
func isRoot() bool { return os.Geteuid() == 0 }
