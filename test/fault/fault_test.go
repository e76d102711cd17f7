//go:build imsgfault && linux

package fault_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

// What happens to the library when system calls fail or come up short. Run it
// with
//
//	go test -tags imsgfault -run Fault -v .
//
// or, for many times as long, with -imsg.faults 100 -imsg.faultstride 1 -timeout 1h.
// A failure prints how to run it alone.

var (
	faultPairs  = flag.Int("imsg.faults", 8, "pairs of faults to try at each pair of calls")
	faultStride = flag.Int("imsg.faultstride", 29, "of the lengths at which a long read or write can end, try every so many")
	faultSeed   = flag.Uint64("imsg.faultseed", 1, "seed for whatever is chosen")
	onlyPlan    = flag.String("imsg.plan", "", "run only this plan of faults")
)

// TestFault lets every call of every conversation fail in every way, then every
// two calls, and so on. After each run all messages and files are accounted for.
func TestFault(t *testing.T) {
	var sum faultCount
	for _, tt := range []struct {
		name  string
		cases func(t *testing.T) []faultCase
		plans []faultPlanner
	}{
		{"once", faultTalkCases, []faultPlanner{faultOnce}},
		{"twice", faultTalkCases, []faultPlanner{faultTwice}},
		{"length", faultLengthCases, []faultPlanner{faultShort}},
		{"raw", faultRawCases, []faultPlanner{faultOnce, faultTwice}},
		{"setup", faultSetupCases, []faultPlanner{faultOnce, faultTwice}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n faultCount
			for _, c := range tt.cases(t) {
				t.Run(c.name, func(t *testing.T) { n.add(c.try(t, tt.plans)) })
			}
			n.report(t)
			sum.add(n)
		})
	}
	t.Run("storm", func(t *testing.T) {
		n := faultStorms(t)
		n.report(t)
		sum.add(n)
	})
	sum.report(t)
}

// A faultPlanner tries plans for a case that made the calls base when nothing
// went wrong.
type faultPlanner func(try func(faultPlan), base []faultEvent)

// faultOnce tries every kind of fault at every call.
func faultOnce(try func(faultPlan), base []faultEvent) {
	for i, e := range base {
		for _, k := range e.kinds(faultSomeLengths) {
			try(faultPlan{{i, k}})
		}
	}
}

// faultShort cuts every call short: at every length with -imsg.faultstride 1.
func faultShort(try func(faultPlan), base []faultEvent) {
	for i, e := range base {
		for _, k := range e.shorts(faultSparseLengths) {
			try(faultPlan{{i, k}})
		}
	}
}

// faultTwice tries a choice of kinds at every two calls.
func faultTwice(try func(faultPlan), base []faultEvent) {
	rnd := rand.New(rand.NewPCG(*faultSeed, uint64(len(base))))
	for i := range base {
		for j := i + 1; j < len(base)+2; j++ { // the first may add calls
			for range *faultPairs {
				try(faultPlan{{i, base[i].pick(rnd)}, {j, base[min(j, len(base)-1)].pick(rnd)}})
			}
		}
	}
}

// A faultCase is something that runs in a faultWorld; the same every time,
// unless the world is against it.
type faultCase struct {
	name string
	run  func(w *faultWorld) faultCount
}

// try runs the case without faults, which gives its calls, and then with what
// the planners say.
func (c faultCase) try(t *testing.T, planners []faultPlanner) (sum faultCount) {
	testutil.NoLeak(t)
	debug.SetTraceback("all") // for the panic below
	w := newFaultWorld(t)
	try := func(p faultPlan) {
		hang := time.AfterFunc(4*testutil.Bound, func() { panic(fmt.Sprintf("%s hangs with -imsg.plan '%v'", t.Name(), p)) })
		defer hang.Stop()
		w.begin(p)
		sum.add(c.run(w))
	}
	if *onlyPlan != "" {
		p, err := parseFaultPlan(*onlyPlan)
		testutil.Must(t, err)
		try(p)
		return sum
	}
	if try(nil); sum.calls == 0 || sum.lost > 0 {
		t.Fatalf("without faults: %+v", sum)
	}
	base := slices.Clone(w.events)
	for _, plan := range planners {
		plan(try, base)
	}
	sum.talks, sum.indexes = 1, len(base)
	return sum
}
