package privsep

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.org/imsg/privsep/sandbox"
)

var oneDaemon = register(Daemon{Name: "one", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "worker", Run: idle, Sandbox: sandbox.Policy{Promises: "stdio recvfd"}},
}})

var fourDaemon = register(Daemon{Name: "four", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "worker", Run: idle, Peers: []string{"logger", "engine"}, Sandbox: sandbox.Policy{Promises: "stdio recvfd"}},
	{Name: "engine", Run: idle, Peers: []string{"logger"}, Sandbox: sandbox.Policy{Promises: "stdio"}},
	{Name: "opener", Run: idle, Chroot: NoChroot, Sandbox: sandbox.Policy{
		Promises: "stdio rpath sendfd", Paths: []sandbox.Path{{Name: "/usr", Perm: "r"}}}},
	{Name: "logger", Run: idle, Sandbox: sandbox.Policy{Promises: "stdio"}},
}})

// idle has its channels served, as every real role does.
func idle(ctx context.Context, p *Proc) error { return p.Serve(ctx) }

func BenchmarkStart1(b *testing.B) { benchmarkStart(b, oneDaemon) }
func BenchmarkStart4(b *testing.B) { benchmarkStart(b, fourDaemon) }

// benchmarkStart measures the time from Run to Parent, when all children have
// given up their rights; beside it, to compare, the time of /bin/true, and the
// memory that a child has for itself.
func benchmarkStart(b *testing.B, d *Daemon) {
	var ready, plain time.Duration
	memory, children := 0, 0
	for b.Loop() {
		start := time.Now()
		var up time.Time
		err := fails(b, d, func(d *Daemon) {
			d.Parent = func(_ context.Context, p *Proc) error {
				up = time.Now()
				if memory == 0 && isRoot() {
					for _, s := range p.Status()[1:] {
						memory += private(b, s.PID)
						children++
					}
				}
				return nil
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		ready += up.Sub(start)
		start = time.Now()
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
		plain += time.Since(start)
	}
	each := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(each(ready), "ready-ms")
	b.ReportMetric(each(plain), "true-ms")
	b.ReportMetric(0, "ns/op") // with the end and the checks it says nothing
	if children > 0 {
		b.ReportMetric(float64(memory)/float64(children), "private-KiB/child")
	}
}

// private returns the memory of a process that it shares with nobody, in KiB.
func private(b *testing.B, pid int) (sum int) {
	for key, value := range facts(b, fmt.Sprintf("/proc/%d/smaps_rollup", pid)) {
		if strings.HasPrefix(key, "Private_") {
			n, err := strconv.Atoi(strings.TrimSuffix(value, " kB"))
			if err != nil {
				b.Error(err)
			}
			sum += n
		}
	}
	return sum
}
