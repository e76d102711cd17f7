//go:build amd64 || arm64

package ptrace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// A tracee that runs in the background, and answers on a socket.
type answerer struct {
	p    *os.Process
	sock int
}

func newAnswerer(t *testing.T) *answerer {
	a, b := pair()
	p := spawn("answer", b)
	unix.Close(b)
	t.Cleanup(func() {
		unix.Close(a)
		p.Wait()
	})
	return &answerer{p, a}
}

func (a *answerer) ask(t *testing.T, text string) {
	t.Helper()
	put(a.sock, text)
	p := make([]byte, 100)
	if n, err := unix.Read(a.sock, p); err != nil || string(p[:n]) != "answer to "+text {
		t.Fatalf("got %q, %v", p[:n], err)
	}
}

// attached attaches until the test ends or the returned function is called.
func attached(t *testing.T, r *recorder, pids ...int) (end func()) {
	t.Helper()
	cfg := r.config()
	ready := make(chan bool, 100)
	started := cfg.Started
	cfg.Started = func(p *Process) {
		started(p)
		ready <- true
	}
	ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
	done := make(chan error, 1)
	go func() { done <- Attach(ctx, pids, cfg) }()
	for range pids {
		select {
		case <-ready:
		case err := <-done:
			cancel()
			skipRefused(t, err)
			t.Fatal(err)
		}
	}
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return end
}

func TestAttach(t *testing.T) {
	testutil.NoLeak(t)
	a := newAnswerer(t)
	a.ask(t, "0")
	r := &recorder{}
	end := attached(t, r, a.p.Pid)
	var calls []said
	for i := 1; ; i++ {
		text := fmt.Sprint(i)
		a.ask(t, text)
		r.locked(func() { calls = slices.Clone(r.calls) })
		if len(calls) >= 2 {
			break
		}
	}
	for _, c := range calls[:2] {
		if !c.Socket.Begun {
			t.Errorf("%+v is not older than the tracing", c.Socket)
		}
	}
	if tracerOf(a.p.Pid) != os.Getpid() {
		t.Errorf("the tracer is %d", tracerOf(a.p.Pid))
	}
	err := Attach(testutil.DeadlineCtx(t), []int{a.p.Pid}, &Config{})
	if p := (*PermissionError)(nil); !errors.As(err, &p) || p.Tracer != os.Getpid() {
		t.Errorf("a second tracer gets %v", err)
	}
	end()
	if tracerOf(a.p.Pid) != 0 {
		t.Error("it is traced still")
	}
	a.ask(t, "last")
}

func TestAttachWrong(t *testing.T) {
	testutil.NoLeak(t)
	ctx := testutil.DeadlineCtx(t)
	if err := Attach(ctx, []int{os.Getpid()}, &Config{}); err == nil {
		t.Error("traces itself")
	}
	a := newAnswerer(t)
	unix.Close(a.sock)
	a.p.Wait()
	if err := Attach(ctx, []int{a.p.Pid}, &Config{}); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that is gone: %v", err)
	}
	a.sock = -1
}

// busyRole has two processes that talk without end, until descriptor 3 is at
// its end, and answers there; now and then it sends itself a signal that it
// counts. Nothing may get lost.
func busyRole([]string) {
	a, b := pair()
	p := spawn("answer", b)
	unix.Close(b)
	signals := newSignals(unix.SIGUSR1)
	put(3, "ready")
	buf := make([]byte, 100)
	fds := []unix.PollFd{{Fd: 3, Events: unix.POLLIN}}
	for i := 0; ; i++ {
		put(a, fmt.Sprint(i))
		get(a, fmt.Sprint("answer to ", i))
		if i%4 == 0 {
			signals.raise()
		}
		if n, _ := unix.Poll(fds, 0); n > 0 {
			n := must(unix.Read(3, buf))
			if n == 0 {
				break
			}
			put(3, "answer to "+string(buf[:n]))
		}
	}
	unix.Close(a)
	wait(p)
}

// tracerRole traces busyRole, which gets descriptor 3.
func tracerRole([]string) {
	_, err := Run(context.Background(), role("busy", os.NewFile(3, "channel")), &Config{})
	check(err)
}

func TestKilledTracer(t *testing.T) {
	testutil.NoLeak(t)
	trace(t, role("quiet")) // or skip
	for range 5 {
		a, b := pair()
		tracer := spawn("tracer", b)
		unix.Close(b)
		get(a, "ready")
		put(a, "1")
		get(a, "answer to 1")
		if err := tracer.Kill(); err != nil {
			t.Fatal(err)
		}
		tracer.Wait()
		for i := range 50 {
			put(a, fmt.Sprint(i))
			get(a, fmt.Sprint("answer to ", i))
		}
		// It and its child end well: nobody has the other end any more.
		check(unix.Shutdown(a, unix.SHUT_WR))
		get(a, "")
		unix.Close(a)
	}
}
