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
	pairs    = flag.Int("imsg.faults", 8, "pairs of faults to try at each pair of calls")
	stride   = flag.Int("imsg.faultstride", 29, "of the lengths at which a long read or write can end, try every so many")
	seed     = flag.Uint64("imsg.faultseed", 1, "seed for whatever is chosen")
	onlyPlan = flag.String("imsg.plan", "", "run only this plan of faults")
)

// TestFault lets every call of every conversation fail in every way, then every
// two calls, and so on. After each run all messages and files are accounted for.
func TestFault(t *testing.T) {
	var sum tally
	for _, tt := range []struct {
		name  string
		cases func(t *testing.T) []testCase
		plans []planner
	}{
		{"once", talkCases, []planner{once}},
		{"twice", talkCases, []planner{twice}},
		{"length", lengthCases, []planner{short}},
		{"raw", rawCases, []planner{once, twice}},
		{"setup", setupCases, []planner{once, twice}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n tally
			for _, c := range tt.cases(t) {
				t.Run(c.name, func(t *testing.T) { n.add(c.try(t, tt.plans)) })
			}
			n.report(t)
			sum.add(n)
		})
	}
	t.Run("storm", func(t *testing.T) {
		n := storms(t)
		n.report(t)
		sum.add(n)
	})
	sum.report(t)
}

// A planner tries plans for a case that made the calls base when nothing
// went wrong.
type planner func(try func(plan), base []callEvent)

// once tries every kind of fault at every call.
func once(try func(plan), base []callEvent) {
	for i, e := range base {
		for _, k := range e.kinds(someLengths) {
			try(plan{{i, k}})
		}
	}
}

// short cuts every call short: at every length with -imsg.faultstride 1.
func short(try func(plan), base []callEvent) {
	for i, e := range base {
		for _, k := range e.shorts(sparseLengths) {
			try(plan{{i, k}})
		}
	}
}

// twice tries a choice of kinds at every two calls.
func twice(try func(plan), base []callEvent) {
	rnd := rand.New(rand.NewPCG(*seed, uint64(len(base))))
	for i := range base {
		for j := i + 1; j < len(base)+2; j++ { // the first may add calls
			for range *pairs {
				try(plan{{i, base[i].pick(rnd)}, {j, base[min(j, len(base)-1)].pick(rnd)}})
			}
		}
	}
}

// A testCase is something that runs in a world; the same every time,
// unless the world is against it.
type testCase struct {
	name string
	run  func(w *world) tally
}

// try runs the case without faults, which gives its calls, and then with what
// the planners say.
func (c testCase) try(t *testing.T, planners []planner) (sum tally) {
	testutil.NoLeak(t)
	debug.SetTraceback("all") // for the panic below
	w := newWorld(t)
	try := func(p plan) {
		hang := time.AfterFunc(4*testutil.Bound, func() { panic(fmt.Sprintf("%s hangs with -imsg.plan '%v'", t.Name(), p)) })
		defer hang.Stop()
		w.begin(p)
		sum.add(c.run(w))
	}
	if *onlyPlan != "" {
		p, err := parsePlan(*onlyPlan)
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
