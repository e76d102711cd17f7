package unixmsg

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// A call that a signal interrupts is made again. The kernel restarts most of
// them by itself, because Go asks for that; but not on a socket that has a
// timeout, so a long one is set here.
func TestInterrupted(t *testing.T) {
	long := unix.Timeval{Sec: 60}
	for name, read := range readers {
		a, b := pair(t, false)
		check.Must(t, unix.SetsockoptTimeval(b, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &long))
		interrupt(t, name, func() error { _, err := read(b, make([]byte, 1)); return err }, func() { unix.Write(a, []byte{1}) })
	}
	for _, timeout := range []int{-1, 60_000} {
		polled, _ := pair(t, false)
		interrupt(t, "Poll", func() error { return Poll(polled, false, timeout) }, func() { unix.Shutdown(polled, unix.SHUT_RD) })
	}
	a, b := pair(t, false)
	check.Must(t, unix.SetsockoptTimeval(a, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &long))
	p := make([]byte, 1<<16)
	var err error
	for err == nil {
		_, err = unix.SendmsgN(a, p, nil, nil, unix.MSG_DONTWAIT)
	}
	check.Equal(t, "a full socket", err, unix.EAGAIN)
	interrupt(t, "Send", func() error { _, err := write(a, [][]byte{{1}}); return err }, func() { unix.Read(b, make([]byte, 1<<20)) })
}

// interrupt sends signals to a thread until one has found it in the system
// call, lets the call come to its end, and checks that it knows of none. The
// signal is the one that Go itself preempts threads with.
func interrupt(t *testing.T, name string, call func() error, finish func()) {
	t.Helper()
	thread, done := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		done <- call()
	}()
	tid := <-thread
	for n, end := 0, time.Now().Add(10*time.Second); n < 100; {
		select {
		case err := <-done:
			t.Fatalf("%s: returned %v because of a signal", name, err)
		default:
		}
		if sleeping(t, tid) {
			n++
		} else if time.Now().After(end) {
			t.Fatalf("%s: the thread does not sleep in a system call", name)
		}
		check.Must(t, unix.Tgkill(unix.Getpid(), tid, unix.SIGURG))
	}
	finish()
	check.Is(t, name, <-done, nil)
}

// sleeping reports whether a thread waits in the kernel.
func sleeping(t *testing.T, tid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	check.Must(t, err)
	state := stat[bytes.LastIndexByte(stat, ')')+2]
	return state == 'S'
}
