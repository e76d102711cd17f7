// Package start_test measures how long a daemon takes to start, and what its
// children need, in a program that is nothing else:
//
//	CGO_ENABLED=0 go test -run '^$' -bench . ./test/start
package start_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg/privsep"
	"example.org/imsg/privsep/sandbox"
)

var oneDaemon = privsep.Daemon{Name: "one", User: "nobody", Chroot: privsep.EmptyDir, Roles: []privsep.Role{
	{Name: "worker", Run: idle, Sandbox: sandbox.Policy{Promises: "stdio recvfd"}},
}}

var fourDaemon = privsep.Daemon{Name: "four", User: "nobody", Chroot: privsep.EmptyDir, Roles: []privsep.Role{
	{Name: "worker", Run: idle, Peers: []string{"logger", "engine"}, Sandbox: sandbox.Policy{Promises: "stdio recvfd"}},
	{Name: "engine", Run: idle, Peers: []string{"logger"}, Sandbox: sandbox.Policy{Promises: "stdio"}},
	{Name: "opener", Run: idle, Chroot: privsep.NoChroot, Sandbox: sandbox.Policy{
		Promises: "stdio rpath sendfd", Paths: []sandbox.Path{{Name: "/usr", Perm: "r"}}}},
	{Name: "logger", Run: idle, Sandbox: sandbox.Policy{Promises: "stdio"}},
}}

// idle has its channels served, as every real role does.
func idle(ctx context.Context, p *privsep.Proc) error { return p.Serve(ctx) }

// emptyEnv has this program do nothing.
const emptyEnv = "START_TEST_EMPTY"

func TestMain(m *testing.M) {
	if os.Getenv(emptyEnv) != "" {
		return
	}
	oneDaemon.RunChild()
	fourDaemon.RunChild()
	m.Run()
}

// TestStart: it is a daemon that starts.
func TestStart(t *testing.T) {
	if err := run(t.Context(), fourDaemon, func([]privsep.Status) {}); err != nil {
		t.Error(err)
	}
}

func BenchmarkStart1(b *testing.B) { benchmarkStart(b, oneDaemon) }
func BenchmarkStart4(b *testing.B) { benchmarkStart(b, fourDaemon) }

// BenchmarkEmpty measures this program when it does nothing, from start to end: the least
// that any start can take.
func BenchmarkEmpty(b *testing.B) {
	t := times{}
	for b.Loop() {
		t.add("empty", command(b, "/proc/self/exe"))
		t.add("true", command(b, "/bin/true"))
	}
	t.report(b)
}

// command returns how long a command takes.
func command(b *testing.B, name string) time.Duration {
	cmd := exec.Command(name)
	cmd.Env = []string{emptyEnv + "=1"}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// times are what was measured, by name.
type times map[string][]time.Duration

func (t times) add(name string, d time.Duration) { t[name] = append(t[name], d) }

// report shows the middle and the least: other processes are in the way of the others.
func (t times) report(b *testing.B) {
	for name, list := range t {
		slices.Sort(list)
		b.ReportMetric(list[0].Seconds()*1000, name+"-least-ms")
		b.ReportMetric(list[len(list)/2].Seconds()*1000, name+"-ms")
	}
	b.ReportMetric(0, "ns/op") // with the end it says nothing
}

// run starts a daemon, which ends when its children run, and up was called.
func run(ctx context.Context, d privsep.Daemon, up func([]privsep.Status)) error {
	d.Parent = func(_ context.Context, p *privsep.Proc) error {
		up(p.Status())
		return nil
	}
	return d.Run(ctx)
}

// benchmarkStart measures the time from Run to Parent, when all children have
// given up their rights; beside it, to compare, the time of /bin/true, and the
// memory that a child has for itself.
func benchmarkStart(b *testing.B, d privsep.Daemon) {
	t := times{}
	memory, children := 0, 0
	for b.Loop() {
		start := time.Now()
		err := run(b.Context(), d, func(list []privsep.Status) {
			t.add("ready", time.Since(start))
			if memory == 0 && os.Geteuid() == 0 {
				for _, s := range list[1:] {
					memory += private(b, s.PID)
					children++
				}
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		t.add("true", command(b, "/bin/true"))
	}
	t.report(b)
	if children > 0 {
		b.ReportMetric(float64(memory)/float64(children), "private-KiB/child")
	}
}

// private returns the memory of a process that it shares with nobody, in KiB.
func private(b *testing.B, pid int) (sum int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		var key string
		var n int
		if strings.HasPrefix(line, "Private_") {
			if _, err := fmt.Sscan(line, &key, &n); err != nil {
				b.Error(err)
			}
			sum += n
		}
	}
	return sum
}
