//go:build imsgfault && linux

package fault_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// A plan says which calls of a run go wrong, and how.
type plan []faultAt

type faultAt struct {
	index int // of the call in the run, from 0
	kind  outcome
}

func (p plan) at(index int) unixmsg.Fault {
	for _, f := range p {
		if f.index == index {
			return unixmsg.Fault(f.kind)
		}
	}
	return unixmsg.Fault{}
}

// String is what parsePlan reads: "3:EAGAIN 7:max=5".
func (p plan) String() string {
	var s []string
	for _, f := range p {
		s = append(s, fmt.Sprintf("%d:%v", f.index, f.kind))
	}
	return strings.Join(s, " ")
}

func parsePlan(s string) (plan, error) {
	var p plan
	for f := range strings.FieldsSeq(s) {
		index, kind, _ := strings.Cut(f, ":")
		i, err := strconv.Atoi(index)
		if err != nil {
			return nil, err
		}
		k, err := parseOutcome(kind)
		if err != nil {
			return nil, err
		}
		p = append(p, faultAt{i, k})
	}
	return p, nil
}

// An outcome is one thing that can become of a call.
type outcome unixmsg.Fault

var errnos = []unix.Errno{
	unix.EINTR, unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EMFILE, unix.EPIPE, unix.ECONNRESET, unix.ETOOMANYREFS,
}

// rare are those that only one call knows.
var rare = map[string]unix.Errno{"accept": unix.ECONNABORTED, "recvmmsg": unix.ENOSYS}

var names = map[unixmsg.Files]string{unixmsg.LoseFiles: "lost", unixmsg.LoseButOne: "cut"}

func (k outcome) String() string {
	var s []string
	if k.Errno != 0 {
		s = append(s, unix.ErrnoName(k.Errno))
	}
	if k.Files != unixmsg.KeepFiles {
		s = append(s, names[k.Files])
	}
	if k.Max > 0 {
		s = append(s, fmt.Sprintf("max=%d", k.Max))
	}
	return strings.Join(s, ",")
}

func parseOutcome(s string) (k outcome, err error) {
	for word := range strings.SplitSeq(s, ",") {
		if n, ok := strings.CutPrefix(word, "max="); ok {
			if k.Max, err = strconv.Atoi(n); err != nil {
				return k, err
			}
			continue
		}
		for _, e := range slices.AppendSeq(slices.Clone(errnos), maps.Values(rare)) {
			if unix.ErrnoName(e) == word {
				k.Errno = e
			}
		}
		for f, name := range names {
			if name == word {
				k.Files = f
			}
		}
	}
	if k == (outcome{}) || k.String() != s {
		return k, fmt.Errorf("no kind of fault: %q", s)
	}
	return k, nil
}

// kinds returns everything that can become of a call which, left alone, did
// what e says; lengths are the places to cut it short.
func (e callEvent) kinds(lengths func(n int) []int) []outcome {
	var ks []outcome
	for _, errno := range errnos {
		ks = append(ks, outcome{Errno: errno})
	}
	if errno := rare[e.c.Name]; errno != 0 {
		ks = append(ks, outcome{Errno: errno})
	}
	if e.r.Files > 0 {
		ks = append(ks, outcome{Files: unixmsg.LoseFiles}, outcome{Files: unixmsg.LoseButOne})
		for _, n := range []int{1, 15, 16, 17, 40, e.r.N / 2, e.r.N - 1} {
			if n > 0 && n < e.r.N {
				ks = append(ks, outcome{Files: unixmsg.LoseFiles, Max: n}, outcome{Files: unixmsg.LoseButOne, Max: n})
			}
		}
	}
	return append(ks, e.shorts(lengths)...)
}

func (e callEvent) shorts(lengths func(n int) []int) (ks []outcome) {
	for _, n := range lengths(e.r.N) {
		ks = append(ks, outcome{Max: n})
	}
	return ks
}

// pick returns one kind that makes sense for the call.
func (e callEvent) pick(rnd *rand.Rand) (k outcome) {
	if e.r.Files > 0 && rnd.IntN(3) == 0 {
		k.Files = unixmsg.LoseFiles + unixmsg.Files(rnd.IntN(2))
	}
	if e.r.N > 1 && rnd.IntN(3) == 0 {
		k.Max = 1 + rnd.IntN(min(e.r.N-1, 20+rnd.IntN(e.r.N)))
	}
	if k == (outcome{}) {
		k.Errno = errnos[rnd.IntN(len(errnos))]
	}
	return k
}

// everyLength is 1 to n-1.
func everyLength(n int) (ls []int) {
	for i := 1; i < n; i++ {
		ls = append(ls, i)
	}
	return ls
}

// sparseLengths is every one of a small n, and every so many of a large.
func sparseLengths(n int) (ls []int) {
	for i := 1; i < n; i++ {
		if i <= 300 || i%*stride == 0 || i >= n-20 {
			ls = append(ls, i)
		}
	}
	return ls
}

// someLengths is every one of a small n, and the interesting ones of a large.
func someLengths(n int) []int {
	if n <= 300 {
		return everyLength(n)
	}
	ls := everyLength(36) // two headers, and a few bytes
	for _, i := range []int{4095, 4096, 4097, 16383, 16384, 16385} {
		if i < n-3 {
			ls = append(ls, i)
		}
	}
	return append(ls, n/2, n-3, n-2, n-1)
}
