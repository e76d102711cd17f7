package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"example.org/imsg/peer"
	"example.org/imsg/privsep/sandbox"
)

// spareThreads are for what the parent's own code does.
const spareThreads = 8

// The supervisor is the parent's loop: what concerns all children is decided
// here, in one goroutine, which waits for nothing but events. Others tell it what
// happened.
type supervisor struct {
	shared
	proc   *Proc
	plans  []*plan
	notify notifier

	mu       sync.Mutex            // for children, own and kept
	children map[peerName]*process // the present ones; changed by the loop only
	own      sandbox.Status
	kept     []string // capabilities

	sessions map[int]bool // of all children that were ever started
	users    map[int]bool // that only one role has
	strays   map[int]bool // that were killed
	last     bool         // nothing of the daemon is left but these

	starting int  // children that are not ready, before the barrier
	passed   bool // the barrier: all were ready once
	waiting  int  // restarts that will come
	restarts map[peerName]backoff
	channels map[[2]peerName]*reconnection // between children, replaced after violations
	parent   bool                          // Daemon.Parent runs
	reload   bool                          // Daemon.Reload runs
	cancel   context.CancelFunc
	ending   bool
	killed   bool // what had not ended
	timer    *time.Timer
	err      error // the first
}

type eventKind uint8

const (
	isReady       eventKind = iota // a child is
	isGone                         // a child is, and was reaped
	violated                       // a child has broken the rules of its requests to the parent
	closedChannel                  // a child has no channel to a peer any more
	restart                        // it is time to start a child again
	reconnect                      // it is time to make that channel again
	returned                       // Daemon.Parent has
	reloaded                       // Daemon.Reload has returned
	startChild                     // Proc.Start wants a process
	starterGone                    // the starter is
)

type event struct {
	kind    eventKind
	process *process
	peer    *peer.Peer // of violated
	plan    *plan
	name    peerName
	err     error
	start   *startRequest
}

// run is the parent.
func (d *Daemon) run(ctx context.Context, hup <-chan os.Signal) error {
	s := &supervisor{
		shared:   shared{d: d, grants: newGrants(), events: make(chan event), over: make(chan struct{})},
		children: make(map[peerName]*process), restarts: make(map[peerName]backoff), channels: make(map[[2]peerName]*reconnection),
		sessions: make(map[int]bool), users: make(map[int]bool), strays: make(map[int]bool),
		timer: time.NewTimer(time.Hour), kept: capabilities(),
	}
	s.timer.Stop()
	if v, ok := os.LookupEnv(envRole); ok {
		return fmt.Errorf("privsep: %s is %q: %w: call RunChild before Run", envRole, v, ErrNotChild)
	}
	if err := d.check(); err != nil {
		return err
	}
	var err error
	if s.build, err = fingerprint(); err != nil {
		return fmt.Errorf("privsep: the own program: %w", err)
	}
	listeners := takeListeners()
	defer closeListeners(listeners)
	defer s.grants.close()
	var unheard error
	s.notify, unheard = newNotifier()
	watchdog := watchdogInterval()
	defer s.notify.close()
	if err := keepFiles(); err != nil {
		return err
	}
	if err := setUndumpable(); err != nil { // its children may have its user
		return err
	}
	pipe := make(chan os.Signal, 1) // nobody ends the daemon by not reading its output
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	inner, cancel := context.WithCancel(ctx)
	s.cancel = cancel
	defer cancel()
	records := newLogQueue(maxLogged)
	go records.run()
	defer func() { records.close(d.grace()) }()
	s.log = records.logger(d.logger())
	if unheard != nil {
		s.log.Warn("the service manager is told nothing", "err", unheard)
	}
	s.proc = newProc(peerName{Role: Parent}, s.log, nil)
	s.proc.parent = &parentProc{grants: s.grants, listeners: listeners, status: s.statuses, role: d.role, process: s.process, post: s.post, over: s.over, notify: &s.notify, setLevel: s.setLevel}
	s.proc.ending = inner
	s.proc.report = func(name peerName, q *peer.Peer, err error) {
		s.post(event{kind: violated, name: name, peer: q, err: err})
	}
	if d.Prepare != nil {
		if err := d.Prepare(inner, s.proc); err != nil {
			return fmt.Errorf("privsep: prepare: %w", err)
		}
	}
	if s.plans, err = d.plans(); err != nil {
		return err
	}
	if err := d.checkMissing(s.plans); err != nil {
		return err
	}
	s.log = records.logger(d.logger()) // Prepare may have changed it
	s.proc.log, s.proc.dirs = s.log, d.Directories
	for _, plan := range s.plans {
		s.proc.know(peerRole{plan.role.Name, plan.role.instances(), plan.role.passes(), true})
	}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	becomeReaper(true)
	defer becomeReaper(false)
	for _, plan := range s.plans {
		s.users[plan.uid] = plan.alone
	}
	if os.Geteuid() != 0 && d.ParentCapabilities != nil { // children need none of them
		if err := s.keepCapabilities(); err != nil {
			return err
		}
	}
	s.launcher = newLauncher()
	defer s.launcher.close()
	if d.needsStarter() {
		if err = s.makeStarter(ctx); err != nil {
			err = &ChildError{Role: starterName, Step: "start", Err: err}
		}
	}
	if err == nil {
		err = s.start()
	}
	// Before the children run, and while they start. One waits for each.
	makeThreads(s.starting + runtime.GOMAXPROCS(0) + spareThreads)
	if err != nil {
		s.shutdown(err)
	} else if s.starting == 0 { // all roles are OnDemand
		s.pass(inner)
	}
	var tick <-chan time.Time
	if watchdog > 0 {
		ticker := time.NewTicker(watchdog / 2)
		defer ticker.Stop()
		tick = ticker.C
	}
	joined := s.loop(ctx, inner, hup, died, tick)
	cancel()
	s.ending, s.last = true, true
	for late := time.After(d.giveUpAfter() - d.killAfter()); s.endStrays() > 0; {
		select {
		case <-died:
			continue
		case <-late:
		}
		break
	}
	if s.starter != nil {
		s.starter.close()
	}
	close(s.over)
	cleaned := make(chan struct{})
	go func() {
		s.proc.close()
		if joined {
			s.running.Wait()
		}
		close(cleaned)
	}()
	select {
	case <-cleaned:
	case <-time.After(d.grace()): // closing a file may take as long as who passed it likes
	}
	return s.err
}

// loop runs until nothing is left of the daemon, or the grace is over, which is
// false.
func (s *supervisor) loop(ctx, inner context.Context, hup, died <-chan os.Signal, tick <-chan time.Time) bool {
	stop := ctx.Done()
	for len(s.children) > 0 || s.parent || s.reload || s.waiting > 0 && !s.ending {
		reload := hup
		if !s.passed || s.reload || s.ending {
			reload = nil // later
		}
		select {
		case e := <-s.events:
			s.handle(inner, e)
		case <-died:
			s.endStrays()
		case <-tick:
			s.watch()
		case <-stop:
			stop = nil
			s.shutdown(nil)
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
	switch p := e.process; e.kind {
	case isReady:
		s.ready(ctx, p)
	case isGone:
		s.gone(p, e.err)
	case violated:
		// Only the process whose channel it was, not one in its place.
		if p := s.children[e.name]; p != nil && p.peer == e.peer && !s.ending {
			s.log.Error("a child broke the rules", "role", e.name.Role, "instance", e.name.Instance, "err", e.err)
			p.broken = e.err
			p.os.Kill()
		}
	case closedChannel:
		s.scheduleReconnect(p, e.name)
	case restart:
		s.waiting--
		if !s.ending {
			if err := s.restart(e.plan, e.name.Instance); err != nil {
				s.log.Error("a child could not be started again", "role", e.name.Role, "instance", e.name.Instance, "err", err)
				s.scheduleRestart(e.plan, e.name, 0, true)
			}
		}
	case reconnect:
		r := s.channels[[2]peerName{p.name, e.name}]
		r.pending, r.last = false, time.Now()
		if q := s.children[e.name]; q != nil && s.children[p.name] == p && !s.ending {
			if err := connect(p, q); err != nil {
				s.log.Error("a channel could not be made again", "role", p.name.Role, "peer", q.name.Role, "err", err)
			}
		}
	case startChild:
		child, err := s.startOne(e.start)
		e.start.reply <- startReply{child, err}
	case starterGone:
		if !s.ending {
			s.shutdown(e.err)
		}
	case returned:
		s.parent = false
		s.shutdown(e.err)
	case reloaded:
		s.reload = false
		s.notify.send("READY=1")
		if e.err != nil {
			s.log.Error("reload", "err", e.err)
		}
	}
}

// process returns a child that is there, or nil.
func (s *supervisor) process(name peerName) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.children[name]
}

func (s *supervisor) add(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.children[p.name] = p
	s.sessions[p.os.Pid] = true
}

// setLevel tells the children from which level on to log.
func (s *supervisor) setLevel(l slog.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level.Store(&l)
	for _, p := range s.children {
		if p.up {
			p.send(ctlLevel, -1, marshal(l))
		}
	}
}

// gone deals with the death of a child.
func (s *supervisor) gone(p *process, err error) {
	s.mu.Lock()
	delete(s.children, p.name)
	s.mu.Unlock()
	s.endStrays()
	if p.broken != nil {
		err = p.failed(p.up, p.broken)
	}
	if p.child != nil {
		s.proc.remove(p.name)
		p.child.err = err
		close(p.child.done)
	}
	switch {
	case p.child != nil && !s.ending:
		s.log.Debug("a child has ended", "role", p.name.Role, "instance", p.name.Instance, "pid", p.os.Pid, "err", err)
	case s.ending:
		if p.broken != nil {
			s.fail(err)
		} else if err != nil {
			s.log.Warn("a child failed at the end", "err", err)
		}
	case !s.passed && err == nil:
		s.shutdown(p.failed(p.up, errors.New("it has ended before all were ready")))
	case !s.passed || p.plan.role.OnExit == EndAll:
		s.shutdown(err)
	default:
		s.log.Warn("a child has ended", "role", p.name.Role, "instance", p.name.Instance, "pid", p.os.Pid, "err", err)
		if p.plan.role.OnExit == Restart {
			s.scheduleRestart(p.plan, p.name, time.Since(p.since), err != nil)
		}
	}
}

// shutdown asks everybody to end, because of err if it is not nil. Those that have
// not when the timer fires are killed.
func (s *supervisor) shutdown(err error) {
	s.fail(err)
	if s.ending {
		return
	}
	s.ending = true
	s.notify.send("STOPPING=1")
	s.cancel()
	for _, p := range s.children {
		p.send(ctlStop, -1, nil)
	}
	s.timer.Reset(s.d.killAfter())
}

// fail keeps the first error: the others follow from it.
func (s *supervisor) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// kill ends the children that are left.
func (s *supervisor) kill() {
	s.killed = true
	for _, p := range s.children {
		p.broken = fmt.Errorf("it has not ended within %v and was killed", s.d.killAfter())
		p.os.Kill()
	}
	s.timer.Reset(s.d.giveUpAfter() - s.d.killAfter()) // for the kernel, and the parent's own code
}

// watch tells the service manager that all is well if all children have answered
// since the last time.
func (s *supervisor) watch() {
	well := true
	for _, p := range s.children {
		if p.silent.Load() {
			well = false
			s.log.Warn("a child does not answer", "role", p.name.Role, "instance", p.name.Instance, "pid", p.os.Pid)
		} else if p.up {
			p.silent.Store(true)
			p.send(ctlPing, -1, nil)
		}
	}
	if well {
		s.notify.send("WATCHDOG=1")
	}
}

func (s *supervisor) startReload(ctx context.Context) {
	s.reload = true
	s.notify.reloading()
	go func() { s.post(event{kind: reloaded, err: s.d.Reload(ctx, s.proc)}) }()
}

// keepCapabilities leaves the parent those that it declares.
func (s *supervisor) keepCapabilities() error {
	if s.d.ParentCapabilities == nil {
		return nil
	}
	bits, err := capabilityBits(s.d.ParentCapabilities)
	if err == nil && slices.ContainsFunc(s.plans, func(p *plan) bool { return p.uid > 0 }) {
		var kill uint64
		kill, err = capabilityBits([]string{"CAP_KILL"})
		bits |= kill
	}
	if err != nil {
		return err
	}
	return keepCapabilities(bits)
}

// statuses are those of the parent and of the children that are ready.
func (s *supervisor) statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := Status{Role: Parent, PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Dumpable: dumpable(), Capabilities: s.kept, Sandbox: s.own}
	own.Groups, _ = os.Getgroups()
	list := []Status{own}
	for _, plan := range s.plans {
		names := slices.SortedFunc(maps.Keys(s.children), func(a, b peerName) int { return a.Instance - b.Instance })
		for _, name := range names {
			if p := s.children[name]; p.plan == plan && p.up {
				list = append(list, p.status)
			}
		}
	}
	return list
}
