package privsep

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"example.org/imsg/privsep/sandbox"
)

// The supervisor is the parent's loop: what concerns all children is decided
// here, in one goroutine. Others tell it what happened.
type supervisor struct {
	d         *Daemon
	proc      *Proc
	gifts     map[string]gift // by role
	plans     []*plan
	build     string
	listeners map[string][]*os.File
	notify    notifier

	events  chan event
	over    chan struct{} // closed when nobody listens to events any more
	running sync.WaitGroup

	mu       sync.Mutex            // for children and gifts
	children map[peerName]*process // the present ones; changed by the loop only

	starting int  // children that are not ready, before the barrier
	passed   bool // the barrier: all were ready once
	waiting  int  // restarts that will come
	delays   map[peerName]time.Duration
	own      sandbox.Status
	parent   bool // Daemon.Parent runs
	reload   bool // Daemon.Reload runs
	cancel   context.CancelFunc
	ending   bool
	killed   bool // what had not ended
	timer    *time.Timer
	err      error // the first
}

type eventKind uint8

const (
	ready    eventKind = iota // a child is
	gone                      // a child is, and was reaped
	violated                  // a child has broken the rules of its requests
	restart                   // it is time to start one again
	returned                  // Daemon.Parent has
	reloaded                  // Daemon.Reload has returned
)

type event struct {
	kind    eventKind
	process *process
	plan    *plan
	name    peerName
	err     error
}

// post tells the loop what happened, if it still wants to know.
func (s *supervisor) post(e event) {
	select {
	case s.events <- e:
	case <-s.over:
	}
}

// run is the parent.
func (d *Daemon) run(ctx context.Context, hup <-chan os.Signal) error {
	s := &supervisor{
		d: d, events: make(chan event), over: make(chan struct{}), children: make(map[peerName]*process), gifts: make(map[string]gift),
		delays: make(map[peerName]time.Duration), timer: time.NewTimer(time.Hour),
	}
	s.timer.Stop()
	s.proc = newProc(peerName{Role: Parent}, d.logger(), nil)
	s.proc.super = s
	if err := d.check(); err != nil {
		return err
	}
	var err error
	if s.build, err = fingerprint(); err != nil {
		return fmt.Errorf("privsep: the own program: %w", err)
	}
	s.listeners = takeListeners()
	defer s.closeFiles()
	if s.notify, err = newNotifier(); err != nil {
		return fmt.Errorf("privsep: %w", err)
	}
	defer s.notify.close()
	if err := keepFiles(); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	inner, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	defer cancel()
	s.proc.ending = inner
	s.proc.report = func(name peerName, err error) { s.post(event{kind: violated, name: name, err: err}) }
	if d.Prepare != nil {
		if err := d.Prepare(inner, s.proc); err != nil {
			return fmt.Errorf("privsep: prepare: %w", err)
		}
	}
	if s.plans, err = d.plans(); err != nil {
		return err
	}
	s.proc.log, s.proc.dirs = d.logger(), d.Directories
	for _, plan := range s.plans {
		s.proc.know(peerRole{plan.role.Name, plan.role.instances(), plan.role.passes(), true})
	}
	if err := s.start(); err != nil {
		s.end(err)
	}
	joined := s.loop(ctx, inner, hup)
	cancel()
	close(s.over)
	s.proc.close()
	if joined {
		s.running.Wait()
	}
	return s.err
}

func (s *supervisor) closeFiles() {
	for _, list := range s.listeners {
		for _, f := range list {
			f.Close()
		}
	}
	for _, g := range s.gifts {
		for _, f := range g.files {
			f.file.Close()
		}
	}
}

// loop runs until nothing is left of the daemon, or the grace is over, which is
// false.
func (s *supervisor) loop(ctx, inner context.Context, hup <-chan os.Signal) bool {
	stop := ctx.Done()
	for len(s.children) > 0 || s.parent || s.reload || s.waiting > 0 && !s.ending {
		reload := hup
		if !s.passed || s.reload || s.ending {
			reload = nil // later
		}
		select {
		case e := <-s.events:
			s.handle(inner, e)
		case <-stop:
			stop = nil
			s.end(nil)
		case <-reload:
			s.startReload(inner)
		case <-s.timer.C:
			if s.killed {
				for _, p := range s.children { // what holds them?
					s.fail(p.failed(p.up, p.broken))
				}
				s.fail(fmt.Errorf("privsep: the parent's own code has not ended within %v", s.d.grace()))
				return false
			}
			s.kill()
		}
	}
	return true
}

func (s *supervisor) handle(ctx context.Context, e event) {
	switch e.kind {
	case ready:
		s.ready(ctx, e.process)
	case gone:
		s.gone(e.process)
	case violated:
		if p := s.children[e.name]; p != nil && !s.ending {
			s.proc.log.Error("a child broke the rules", "role", e.name.Role, "instance", e.name.Instance, "err", e.err)
			if mayEnd(e.process, p) {
				p.broken = e.err
				p.os.Kill()
			}
		}
	case restart:
		s.waiting--
		if !s.ending {
			if err := s.again(e.plan, e.name.Instance); err != nil {
				s.proc.log.Error("a child could not be started again", "role", e.name.Role, "instance", e.name.Instance, "err", err)
				s.later(e.plan, e.name, 0)
			}
		}
	case returned:
		s.parent = false
		s.end(e.err)
	case reloaded:
		s.reload = false
		s.notify.say("READY=1")
		if e.err != nil {
			s.proc.log.Error("reload", "err", e.err)
		}
	}
}

// mayEnd says whether a child is killed for what another says, nil for the
// parent: nobody can end the daemon so whose own end would not.
func mayEnd(who, whom *process) bool {
	return who == nil || who.plan.role.OnExit == EndAll || whom.plan.role.OnExit != EndAll
}
