package hostile_test

import (
	"fmt"
	"maps"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

// Figures are what many conversations have come to.
type figures struct {
	conversations, messages, answers int
	bytes                            int
	passed, delivered, watched       int // descriptors
	marked, certain                  int // messages that want a file
	ends                             map[string]int
	answerEnds                       map[string]int
	fds                              int // open when nothing happens
	mostHeld                         int // descriptors that a channel held
	samples                          []metrics.Sample
	allocated                        uint64
	mostAllocated, mostHeap          uint64
}

func newFigures() *figures {
	f := &figures{ends: map[string]int{}, answerEnds: map[string]int{}, fds: testutil.OpenCount()}
	f.samples = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	f.memory()
	return f
}

// memory returns the bytes allocated since it was called last.
func (f *figures) memory() uint64 {
	metrics.Read(f.samples)
	now := f.samples[0].Value.Uint64()
	n := now - f.allocated
	f.allocated = now
	f.mostHeap = max(f.mostHeap, f.samples[1].Value.Uint64())
	return n
}

// held looks at how many descriptors the target holds beyond those on messages
// that are open: one for each place in the row, and one for a message that is
// not complete.
func (f *figures) held(v *bufTarget, a *attacker) {
	n := testutil.OpenCount() - f.fds - a.open - v.openFiles
	if v.fd >= 0 {
		n--
	}
	f.mostHeld = max(f.mostHeld, n)
	if n > maxHeld+1 {
		v.wrong("the channel holds %d descriptors", n)
	}
}

// add adds a conversation that is over, and looks at what it left behind.
func (f *figures) add(a *attacker, s *seen) error {
	f.conversations++
	f.messages += len(s.got)
	f.answers += s.replies
	f.bytes += len(a.stream)
	f.passed += a.passed
	f.marked += s.marked
	f.certain += s.certain
	f.watched += a.files.Made
	for _, g := range s.got {
		if g.file != 0 {
			f.delivered++
		}
	}
	f.ends[s.end]++
	if s.serr != nil {
		text := s.serr.Error()
		f.answerEnds[text[strings.LastIndex(text, ": ")+2:]]++
	}
	if n := testutil.OpenCount(); n != f.fds {
		return fmt.Errorf("%d descriptors are open, %d were", n, f.fds)
	}
	// The attacker's and the test's own copies included.
	n := f.memory()
	if f.mostAllocated = max(f.mostAllocated, n); n > 2<<20+uint64(12*len(a.stream)) {
		return fmt.Errorf("%d bytes of memory for %d bytes received", n, len(a.stream))
	}
	return nil
}

func (f *figures) log(t *testing.T, seed uint64, d time.Duration) {
	t.Logf("seed %d: %d conversations in %v, %d bytes and %d messages in, %d answers", seed, f.conversations, d.Round(time.Millisecond), f.bytes, f.messages, f.answers)
	t.Logf("descriptors: %d passed = %d on messages + %d closed unseen; all %d other ends saw the end; a channel held %d at most; %d open before and after", f.passed, f.delivered, f.passed-f.delivered, f.watched, f.mostHeld, f.fds)
	t.Logf("messages that want a file: %d, of which %d had to have a certain one, or none", f.marked, f.certain)
	t.Logf("heap: %d bytes at most, %d allocated by one conversation at most", f.mostHeap, f.mostAllocated)
	t.Logf("ends: %s", listing(f.ends))
	t.Logf("ends of the answers: %s", listing(f.answerEnds))
}

func listing(m map[string]int) string {
	var s []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s = append(s, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(s, ", ")
}
