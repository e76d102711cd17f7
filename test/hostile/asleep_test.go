package hostile_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

// waitAsleep waits until a process with nothing to do sleeps, all threads of
// it. One that waits for something without sleeping never does, however little
// of the processor it gets; how much it gets would say more about the machine
// and about what else runs there.
func waitAsleep(t *testing.T, who string, pid int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	for last, end := "", time.Now().Add(testutil.Bound); ; runtime.Gosched() {
		now, asleep := threads(t, pid)
		if asleep && now == last {
			return // nothing has run between the two looks
		}
		if last = now; time.Now().After(end) {
			t.Fatalf("%s: the server never sleeps:\n%s", who, now)
		}
	}
}

// threads lists the threads of a process, with how often each was given the
// processor, and reports whether all of them sleep.
func threads(t *testing.T, pid int) (list string, asleep bool) {
	t.Helper()
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if len(names) == 0 {
		t.Fatalf("process %d has no threads", pid)
	}
	var b strings.Builder
	asleep = true
	for _, name := range names {
		status, _ := os.ReadFile(name) // nothing, if the thread has just ended
		asleep = asleep && bytes.Contains(status, []byte("\nState:\tS"))
		for line := range bytes.Lines(status) {
			if bytes.HasPrefix(line, []byte("State:")) || bytes.Contains(line, []byte("ctxt_switches")) {
				fmt.Fprintf(&b, "%s: %s", filepath.Base(filepath.Dir(name)), line)
			}
		}
	}
	return b.String(), asleep
}
