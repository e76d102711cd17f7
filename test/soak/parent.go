package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// grace is how much longer than it lives a channel may take to end. It bounds
// a failure.
const grace = 20 * time.Second

// maxLife is how long a channel lives at most.
const maxLife = 1500 * time.Millisecond

type options struct {
	seed     uint64
	workers  int
	duration time.Duration
}

// A soak is one run: a slot for each worker, which is started again and again.
type soak struct {
	options
	over  context.Context // time is up
	ctx   context.Context // ends with the first discrepancy, its cause
	abort context.CancelCauseFunc
	next  atomic.Uint32 // channel
	slots []atomic.Pointer[link]
	pipes pipes
	figures

	mu      sync.Mutex
	allowed map[uint32]uint64 // files that need not arrive, by orderly channel
}

// run soaks until over ends, or up to the first discrepancy, which it returns.
// report is called every now and then.
func run(over context.Context, opt options, report func(string)) (*soak, error) {
	files, goroutines := imsgtest.OpenFDs(), runtime.NumGoroutine()
	s := &soak{options: opt, slots: make([]atomic.Pointer[link], opt.workers), allowed: make(map[uint32]uint64)}
	s.begin = time.Now()
	var cancel context.CancelFunc
	s.over, cancel = context.WithTimeout(over, opt.duration)
	defer cancel()
	s.ctx, s.abort = context.WithCancelCause(context.Background())
	defer s.abort(nil)
	s.pipes.fail = s.fail
	s.pipes.closes = make(map[uint32]uint64)
	var slots sync.WaitGroup
	for i := range s.slots {
		slots.Go(func() {
			for s.over.Err() == nil && s.ctx.Err() == nil {
				s.channel(i)
			}
		})
	}
	s.watch(&slots, report)
	if err := context.Cause(s.ctx); err != nil {
		return s, err
	}
	s.abort(nil)
	return s, errors.Join(s.auditFiles(), left(files, goroutines))
}

// watch reports until all slots have ended and all files are closed, or until
// something has failed and every worker is gone.
func (s *soak) watch(slots *sync.WaitGroup, report func(string)) {
	ended, closed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(closed)
		slots.Wait()
		close(ended)
		s.pipes.wg.Wait()
	}()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var late <-chan time.Time
	for all := ended; ; {
		select {
		case <-closed:
			return
		case <-all:
			all, late = nil, time.After(grace)
		case <-late:
			s.fail(fmt.Errorf("seed %d: %d descriptors are not closed", s.seed, s.pipes.made.Load()))
		case <-s.ctx.Done():
			select {
			case <-ended:
			case <-time.After(grace): // the workers are killed, but we hang
			}
			return
		case <-tick.C:
			report(s.line())
		}
	}
}

// fail ends the run.
func (s *soak) fail(err error) { s.abort(err) }

// channel starts a worker, talks to it, lets the channel end in its way and compares what
// both know.
func (s *soak) channel(slot int) {
	sh, l, cmd, err := s.start(slot)
	if err != nil {
		s.fail(fmt.Errorf("cannot start a worker: %w", err))
		return
	}
	defer sh.unmap()
	o := l.order
	s.started.Add(1)
	s.open.Add(1)
	defer s.open.Add(-1)
	rescue := context.AfterFunc(s.ctx, func() {
		cmd.Process.Kill()
		l.conn.Close()
	})
	defer rescue()
	watchdog := time.AfterFunc(o.life+grace, func() {
		stacks := make([]byte, 1<<20)
		l.fail(fmt.Errorf("does not end\n%s", stacks[:runtime.Stack(stacks, true)]))
	})
	defer watchdog.Stop()

	l.start()
	s.slots[slot].Store(l)
	life := time.NewTimer(o.life)
	defer life.Stop()
	select {
	case <-life.C:
	case <-s.over.Done():
	case <-s.ctx.Done():
	case <-l.received:
	}
	s.slots[slot].Store(nil)
	switch o.ending {
	case killed:
		cmd.Process.Kill() // it was ours, and nobody has waited for it
	case parentCloses:
		l.conn.Close()
	case orderly:
		l.finish()
	}
	<-l.received
	l.book.seal(l.conn.Stats())
	l.conn.Close()
	l.stop()
	exit := cmd.Wait()
	if s.ctx.Err() != nil {
		return // the rescue has interfered
	}
	if err := errors.Join(judgeExit(o, exit), s.settle(o, l.book, &sh.book)); err != nil {
		l.fail(err)
	}
}

// start makes a channel and its worker.
func (s *soak) start(slot int) (sh *shared, l *link, cmd *exec.Cmd, err error) {
	sh, mem, err := newShared()
	if err != nil {
		return nil, nil, nil, err
	}
	defer mem.Close()
	defer func() {
		if err != nil {
			sh.unmap()
		}
	}()
	sh.order = draw(s.seed, s.next.Add(1), slot, max(min(maxLife, s.duration/3), time.Millisecond))
	o := sh.order // not the worker's to change
	a, b, err := unixmsg.Pair(true)
	if err != nil {
		return nil, nil, nil, err
	}
	theirs := os.NewFile(uintptr(b), "channel")
	defer theirs.Close()
	if o.small {
		for _, fd := range []int{a, b} {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
		}
	}
	conn, err := imsg.NewConn(a, o.config(parentSide))
	if err != nil {
		unix.Close(a)
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := conn.SetMaxSize(int(o.max)); err != nil {
		return nil, nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd = exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's interrupt is for the parent only
	cmd.ExtraFiles = []*os.File{theirs, mem}              // channelFD, sharedFD
	l = newLink(&o, parentSide, conn, new(ledger))
	l.fail = func(err error) { s.fail(fmt.Errorf("%v: parent: %w", &o, err)) }
	l.file = s.pipes.create
	l.inbox.deliver = s.forwarder(l)
	return sh, l, cmd, cmd.Start()
}

// forwarder passes on what a worker wants to be passed on, to any worker.
func (s *soak) forwarder(l *link) func(stamp, imsg.Message, *os.File) {
	rnd := l.rand(98)
	return func(st stamp, m imsg.Message, f *os.File) {
		if st.flags&wantForward == 0 {
			f.Close()
			return
		}
		to := s.slots[rnd.IntN(len(s.slots))].Load()
		if to == nil {
			f.Close()
		} else if to.forward(m, f, rnd) {
			s.forwarded.Add(1)
		}
	}
}
