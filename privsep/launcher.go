package privsep

import (
	"runtime"
	"sync"
	"syscall"
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

// start starts this program again.
func (l *launcher) start(args []string, attr *syscall.ProcAttr) (pid int, err error) {
	done := make(chan struct{})
	l.jobs <- func() {
		defer close(done)
		if err = keepFiles(); err == nil {
			pid, err = syscall.ForkExec(self, args, attr)
		}
	}
	<-done
	return pid, err
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
