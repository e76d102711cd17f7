package privsep

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A launcher starts children from one thread, which lives as long as the daemon
// runs: children inherit what is set on that thread, and a child that asks to die
// with its parent dies with the thread that started it.
type launcher struct {
	jobs    chan func()
	missing []string // what could not be set
}

// newLauncher starts the thread, which close ends.
func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func())}
	ready := make(chan struct{})
	go l.run(ready)
	<-ready
	return l
}

// run is the thread. The first thread of a process is never ended, so it must be
// another one.
func (l *launcher) run(ready chan struct{}) {
	runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
	if isFirstThread() {
		go l.run(ready)
		<-ready // while this thread is ours, it is not taken for the other
		runtime.UnlockOSThread()
		return
	}
	l.missing = restrictThread()
	close(ready)
	for job := range l.jobs {
		job()
	}
}

func (l *launcher) close() { close(l.jobs) }

// spawn starts the same program, with nothing of this process's but these ends of
// channels, from descriptor 3 on, which it takes, and a pipe for its output, in a
// session of its own, so that ^C in a terminal is for the parent alone.
func (l *launcher) spawn(title string, env []string, sys *syscall.SysProcAttr, ends ...int) (pid int, out *os.File, err error) {
	defer func() {
		for _, fd := range ends {
			unix.Close(fd)
		}
	}()
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	out, in, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer in.Close()
	far := in.Fd()
	files := []uintptr{uintptr(null), far, far}
	for _, fd := range ends {
		files = append(files, uintptr(fd))
	}
	if sys == nil {
		sys = new(syscall.SysProcAttr)
	}
	sys.Setsid = true
	err = os.NewSyscallError("fcntl", unix.SetNonblock(int(far), false)) // programs expect that of their output
	if err == nil {
		done := make(chan struct{})
		l.jobs <- func() {
			defer close(done)
			if err = keepFiles(); err == nil {
				_ = newKeyring() // of its own, unless the user has too many
				pid, err = syscall.ForkExec(self, []string{title}, &syscall.ProcAttr{Dir: "/", Env: env, Files: files, Sys: sys})
			}
		}
		<-done
	}
	if err != nil {
		out.Close()
		return 0, nil, &os.PathError{Op: "exec", Path: self, Err: err}
	}
	return pid, out, nil
}

// makeThreads has the runtime make n threads now, which it keeps: later there may
// be a limit, which a child can reach, and without a thread the runtime ends the
// process.
func makeThreads(n int) {
	var all, ready sync.WaitGroup
	ready.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread() // each has one
			defer runtime.UnlockOSThread()
			ready.Done()
			ready.Wait()
		})
	}
	all.Wait()
}

// dieWithParent has the kernel kill this process when its parent dies, even if it
// is stopped then. A change of ids would undo it.
func dieWithParent() error {
	parent := os.Getppid()
	if err := killWithParent(); err != nil {
		return err
	}
	if os.Getppid() != parent {
		return errors.New("the parent has died")
	}
	return nil
}
