//go:build linux

package model_test

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

var (
	flagSteps = flag.Int("imsg.model", 0, "operations of the model's programs; 0: what 0.8 seconds allow, 50000 at most")
	flagSeed  = flag.Uint64("imsg.model.seed", 0, "seed of the first of the model's programs; 0: random")
)

// TestModel runs random programs on both ends of a real channel and on the
// reference model, which must agree after every operation. It is for Linux
// only, where one can ask the kernel what is in flight and whether it would
// take more.
func TestModel(t *testing.T) {
	two := !testutil.LeavesOpen(t, 2)
	before := imsgtest.OpenFDs()
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64() >> 20
	}
	steps, start := *flagSteps, time.Now()
	var n figures
	more := func() bool {
		if steps > 0 {
			return n.steps < steps
		}
		return n.steps < 50_000 && time.Since(start) < 800*time.Millisecond
	}
	first := seed
	for ; more(); seed++ {
		p := randomProgram(seed, two)
		if failed := p.run(&n); failed != nil {
			t.Logf("program %d: operation %d: %s", seed-first, failed.at, failed.why)
			p, failed = p.shrink(failed)
			t.Fatalf("operation %d: %s\n%vreplay: go test -run TestModel . -imsg.model=1 -imsg.model.seed=%d", failed.at, failed.why, p, seed)
		}
	}
	took := time.Since(start)
	t.Logf("seed %d: %d programs, %d steps, %.0f a second", first, n.programs, n.steps, float64(n.steps)/took.Seconds())
	t.Logf("messages: %d sent whole (%d MB), %d taken", n.sent, n.bytes>>20, n.messages)
	t.Logf("files: %d in = %d delivered + %d returned + %d discarded", n.created, n.delivered, n.returned, n.discarded)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	after := imsgtest.OpenFDs()
	t.Logf("descriptors open: %d before, %d after; heap of at most %d MB", len(before), len(after), mem.HeapSys>>20)
	for fd, name := range after {
		if _, ok := before[fd]; !ok {
			t.Errorf("descriptor %d (%s) is left", fd, name)
		}
	}
}
