//go:build unix && !aix

package unixmsg

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/check"
)

func TestPollReady(t *testing.T) {
	noLeak(t)
	a, b := pair(t, true)
	wantTimeout := func(what string, err error) {
		t.Helper()
		check.Equal(t, what, err, os.ErrDeadlineExceeded)
	}
	wantTimeout("empty, no wait", Poll(b, false, 0))
	start := time.Now()
	wantTimeout("empty, 20 ms", Poll(b, false, 20))
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("waited only %v", d)
	}
	check.Is(t, "writable", Poll(a, true, -1), nil)
	mustSend(t, a, "x", -1)
	for _, ms := range []int{0, 60_000, -1} {
		check.Is(t, fmt.Sprintf("readable, timeout %d", ms), Poll(b, false, ms), nil)
	}

	full := make([]byte, 1<<16)
	var err error
	for err == nil {
		_, err = Send(a, [][]byte{full}, -1, 0)
	}
	wantTimeout("full, no wait", Poll(a, true, 0))

	mustClose(t, b)
	for _, write := range []bool{false, true} {
		check.Is(t, fmt.Sprintf("peer gone, write %v", write), Poll(a, write, -1), nil)
	}
	mustClose(t, a)
	if err := Poll(a, false, -1); !isSyscall(err, syscall.EBADF) {
		t.Errorf("closed descriptor: %v, want EBADF", err)
	}
}

// TestPollWakes lets Poll, and a blocking Recv, begin before there is anything
// to read, as far as that can be arranged without waiting for time to pass.
func TestPollWakes(t *testing.T) {
	noLeak(t)
	a, b := pair(t, false)
	got := make(chan error, 1)
	go func() { got <- Poll(b, false, -1) }()
	mustSend(t, a, "x", -1)
	check.NoError(t, <-got)
	p := make([]byte, 1)
	_, err := Read(b, p, 0)
	check.Must(t, err)

	// What the sender wrote before the send is seen after the receive: the race
	// detector must agree.
	var shared int
	go func() {
		_, _, _, err := Recv(b, p, 0)
		shared++
		got <- err
	}()
	shared = 1
	mustSend(t, a, "y", -1)
	if err := <-got; err != nil || shared != 2 || p[0] != 'y' {
		t.Errorf("%v, shared %d, byte %q", err, shared, p[0])
	}
}
