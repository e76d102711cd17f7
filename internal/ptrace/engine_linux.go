//go:build amd64 || arm64

package ptrace

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// An engine is one tracing thread with its tracees.
type engine struct {
	cfg     *Config
	threads map[int]*thread
	procs   map[int]*Process
	sockets sockets
	memory  memory
	self    int           // pid of this process
	first   int           // pid of the command, or 0
	shim    int           // the same until the command is executed
	channel int           // to the shim, or -1
	status  Status        // of the command
	err     error         // that ends the tracing
	stop    *atomic.Bool  // set to end
	polling time.Duration // how long wait polls before it sleeps
	missed  int           // polls in a row that found nothing
	busy    int           // events in a row that were there at once
	batch   []siginfo
	call    Call
}

// A thread is one that is traced.
type thread struct {
	tid  int
	proc *Process

	other   bool // it is in a call of no interest
	foreign bool // it makes calls of another machine: is not stopped at them
	start   time.Time
	nr      uint64 // of the call of interest that it is in, or none
	args    [6]uint64
}

// Run starts a command, traces it and every process that comes of it, and
// returns how the command ended: when the last of them is gone, or when ctx is
// done. Then the processes go on without being traced.
func Run(ctx context.Context, c *Command, cfg *Config) (Status, error) {
	var e *engine
	err := onThread(ctx, func(stop *atomic.Bool) error {
		e = newEngine(cfg, stop)
		defer e.close()
		e.sockets.note(e.self) // which the command may inherit
		if err := e.start(c); err != nil {
			return err
		}
		if err := e.loop(); err != nil {
			return err
		}
		return e.notExecuted(c)
	})
	if err != nil {
		return Status{}, err
	}
	return e.status, nil
}

// Attach traces processes that run already, with all their threads, their
// children and what comes of them, until the last is gone or ctx is done. Then
// the processes go on without being traced.
func Attach(ctx context.Context, pids []int, cfg *Config) error {
	return onThread(ctx, func(stop *atomic.Bool) error {
		e := newEngine(cfg, stop)
		defer e.close()
		if err := e.attach(pids); err != nil {
			return err
		}
		for pid := range e.procs {
			e.sockets.note(pid)
		}
		if cfg.Attached != nil {
			cfg.Attached()
		}
		return e.loop()
	})
}

// onThread calls f on a thread of its own, which ends with it: that makes the
// kernel let go of the tracees, without stopping any of them for it. When ctx
// is done it sets stop and interrupts the thread.
func onThread(ctx context.Context, f func(stop *atomic.Bool) error) error {
	if err := prepareSignals(); err != nil {
		return err
	}
	var stop atomic.Bool
	tid := make(chan int, 1)
	done := make(chan error, 1)
	body := func() {
		tid <- unix.Gettid()
		done <- f(&stop)
	}
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		if unix.Gettid() != os.Getpid() {
			body()
			return
		}
		// The first thread would live as long as the process. While it waits
		// here, another goroutine cannot be on it.
		ended := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			defer close(ended)
			body()
		}()
		<-ended
		runtime.UnlockOSThread()
	}()
	thread := <-tid
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		stop.Store(true)
		err = interrupt(thread, done)
	}
	for unix.Tgkill(os.Getpid(), thread, 0) == nil {
		time.Sleep(50 * time.Microsecond)
	}
	return err
}

// interrupt wakes a thread until it is done: a signal that comes just before
// it sleeps has no effect.
func interrupt(thread int, done chan error) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for {
		unix.Tgkill(os.Getpid(), thread, wakeSignal)
		select {
		case err := <-done:
			return err
		case <-t.C:
		}
	}
}

func newEngine(cfg *Config, stop *atomic.Bool) *engine {
	e := &engine{cfg: cfg, threads: map[int]*thread{}, procs: map[int]*Process{}, self: os.Getpid(), channel: -1, stop: stop}
	e.sockets.init()
	if runtime.NumCPU() > 1 {
		e.polling = pollTime
	}
	return e
}

// close gives back what the engine holds in this process.
func (e *engine) close() {
	for _, p := range e.procs {
		p.close()
	}
	e.sockets.close()
	if e.channel >= 0 {
		unix.Close(e.channel)
	}
}

func (e *engine) warn(format string, args ...any) {
	if e.cfg.Warn != nil {
		e.cfg.Warn(fmt.Sprintf(format, args...))
	}
}

// warnOnce says something that is true of a process once.
func (e *engine) warnOnce(p *Process, kind int, format string, args ...any) {
	if p.told == nil {
		p.told = map[int]bool{}
	}
	if !p.told[kind] {
		p.told[kind] = true
		e.warn(format, args...)
	}
}

// Kinds of warnings.
const (
	warnForeign = iota
	warnMemory
	warnFiles
	warnUring
	warnCopy
	warnNetns
)

// loop handles what the tracees do until the last is gone, or e.stop is set.
func (e *engine) loop() error {
	var info siginfo
	for !e.stop.Load() {
		switch errno := e.wait(&info); errno {
		case 0:
			e.handle(&info)
			if e.err != nil {
				return e.err
			}
			if e.busy > fairAfter {
				e.round()
			}
		case unix.EINTR:
		case unix.ECHILD:
			return nil
		default:
			return os.NewSyscallError("waitid", errno)
		}
	}
	return nil
}

const (
	// pollTime is how long the next stop of a thread is polled for before the
	// tracing thread goes to sleep: falling asleep and being woken costs more
	// than most programs take to their next call. It is tried again after
	// pollMisses sleeps if it was in vain.
	pollTime   = 20 * time.Microsecond
	pollMisses = 32

	// fairAfter is how many stops are handled that were there without polling
	// before all threads get their turn: the kernel always names the first in
	// its list.
	fairAfter = 64
)

// wait looks for the next event, and leaves it where it is: a tracer that is
// killed now has swallowed no signal.
func (e *engine) wait(info *siginfo) unix.Errno {
	errno := waitid(0, info, unix.WNOHANG|unix.WNOWAIT)
	if errno != 0 || info.pid != 0 {
		e.busy++
		return errno
	}
	e.busy = 0
	if e.polling > 0 && (e.missed == 0 || e.missed > pollMisses) {
		for begin := time.Now(); time.Since(begin) < e.polling; {
			for range 8 {
				if errno := waitid(0, info, unix.WNOHANG|unix.WNOWAIT); errno != 0 || info.pid != 0 {
					e.missed = 0
					return errno
				}
			}
		}
		e.missed = 0
	}
	e.missed++
	return waitid(0, info, unix.WNOWAIT)
}

// round handles each thread that is stopped now once. To see them all it has
// to consume the stops that it finds, but no signal.
func (e *engine) round() {
	e.busy = 0
	e.batch = e.batch[:0]
	for {
		var info siginfo
		if waitid(0, &info, unix.WNOHANG|unix.WNOWAIT) != 0 || info.pid == 0 {
			break
		}
		if info.code != cldTrapped || info.status>>8 == 0 && info.status != syscallStop {
			e.handle(&info)
			continue
		}
		if waitid(int(info.pid), &info, unix.WNOHANG) != 0 || info.pid == 0 {
			break
		}
		e.batch = append(e.batch, info)
	}
	for i := range e.batch {
		e.handle(&e.batch[i])
	}
}

// handle handles one event, after which the thread runs again.
func (e *engine) handle(info *siginfo) {
	tid := int(info.pid)
	if info.code >= cldExited && info.code <= cldDumped {
		e.ended(tid)
		return
	}
	t := e.threads[tid]
	if t == nil {
		t = e.newThread(tid)
	}
	sig, event := info.status&0xff, info.status>>8
	switch {
	case info.status == syscallStop:
		e.syscall(t)
		e.resume(t, 0)
	case event == eventStop && (sig == int32(unix.SIGSTOP) || sig == int32(unix.SIGTSTP) || sig == int32(unix.SIGTTIN) || sig == int32(unix.SIGTTOU)):
		// The process is stopped, and stays so until somebody sends SIGCONT.
		ptrace(unix.PTRACE_LISTEN, tid, 0, 0)
	case event == unix.PTRACE_EVENT_EXEC:
		// Of a thread that took over its process's number the kernel accepts
		// requests only when this was taken note of.
		waitid(tid, info, unix.WNOHANG)
		e.executed(t, eventMessage(tid))
		e.resume(t, 0)
	case event != 0: // a new thread or process, which reports itself, or the first stop of one
		e.resume(t, 0)
	default:
		e.resume(t, sig)
	}
}

// resume lets a thread run to its next stop, and gives it a signal. An error
// means that it was killed, which will be reported.
func (e *engine) resume(t *thread, sig int32) {
	request := unix.PTRACE_SYSCALL
	if t.foreign {
		request = unix.PTRACE_CONT
	}
	ptrace(request, t.tid, 0, uintptr(sig))
}

// newThread notes a thread that is seen for the first time.
func (e *engine) newThread(tid int) *thread {
	pid := threadGroup(tid)
	p := e.procs[pid]
	if p == nil {
		p = &Process{PID: pid, fds: -1}
		e.procs[pid] = p
		p.open()
		if pid != e.shim {
			e.started(p)
		}
	}
	t := &thread{tid: tid, proc: p, nr: none, foreign: pid == e.shim}
	e.threads[tid] = t
	return t
}

func (e *engine) started(p *Process) {
	p.Exe, _ = os.Readlink("/proc/" + strconv.Itoa(p.PID) + "/exe")
	if e.cfg.Started != nil {
		e.cfg.Started(p)
	}
}

// executed notes that a process executes another program: it has one thread
// now, whose number is the process's, whichever thread called exec.
func (e *engine) executed(t *thread, former int) {
	if former != t.tid {
		delete(e.threads, former)
	}
	p := t.proc
	*t = thread{tid: t.tid, proc: p, nr: none}
	p.told = nil
	if p.PID == e.shim {
		e.shim = 0
	}
	e.started(p)
	e.setID(p)
}

// setID says that a program does not get the rights that its file gives it, if
// that is so.
func (e *engine) setID(p *Process) {
	var st unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(p.PID)+"/exe", &st) != nil {
		return
	}
	status := readStatus(p.PID)
	uids, gids := strings.Fields(status["Uid"]), strings.Fields(status["Gid"])
	if status["NoNewPrivs"] == "1" {
		return
	}
	if st.Mode&unix.S_ISUID != 0 && len(uids) > 1 && uids[1] != strconv.Itoa(int(st.Uid)) ||
		st.Mode&unix.S_ISGID != 0 && len(gids) > 1 && gids[1] != strconv.Itoa(int(st.Gid)) {
		e.warn("process %d: %s is a set-user-ID program, and runs without the rights of its owner because it is traced: trace as root (or with CAP_SYS_PTRACE), or attach with -p when it runs", p.PID, p.Exe)
	}
}

// ended takes note of the end of a thread. The first thread of a process is
// the last to be reported.
func (e *engine) ended(tid int) {
	var ws unix.WaitStatus
	if pid, err := unix.Wait4(tid, &ws, unix.WNOHANG|unix.WALL|unix.WNOTHREAD, nil); err != nil || pid != tid {
		return
	}
	delete(e.threads, tid)
	how := statusOf(ws)
	if tid == e.first {
		e.status = how
		e.first = 0 // the number may be used again
	}
	p := e.procs[tid]
	if p == nil {
		return
	}
	delete(e.procs, tid)
	p.close()
	if e.cfg.Ended != nil && tid != e.shim {
		e.cfg.Ended(p, how)
	}
}

func statusOf(ws unix.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Code: -1, Signal: ws.Signal()}
	}
	return Status{Code: ws.ExitStatus()}
}
