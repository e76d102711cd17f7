package privsep

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// gone deals with the death of a child.
func (s *supervisor) gone(p *process) {
	s.mu.Lock()
	delete(s.children, p.name)
	s.mu.Unlock()
	p.removeEmpty()
	err := p.err
	if p.broken != nil {
		err = p.failed(p.up, p.broken)
	}
	switch {
	case s.ending:
		if p.broken != nil {
			s.fail(err)
		} else if err != nil {
			s.proc.log.Warn("a child failed at the end", "err", err)
		}
	case !s.passed && err == nil:
		s.end(p.failed(p.up, errors.New("it has ended before all were ready")))
	case !s.passed || p.plan.role.OnExit == EndAll:
		s.end(err)
	default:
		s.proc.log.Warn("a child has ended", "role", p.name.Role, "instance", p.name.Instance, "pid", p.os.Pid, "err", err)
		if p.plan.role.OnExit == Restart {
			s.later(p.plan, p.name, time.Since(p.since))
		}
	}
}

// later starts a child again after a while, which gets longer when it does not
// last.
func (s *supervisor) later(plan *plan, name peerName, lasted time.Duration) {
	delay := min(2*s.delays[name], maxBackoff)
	if delay == 0 || lasted > maxBackoff {
		if delay = plan.role.Backoff; delay <= 0 {
			delay = defaultBackoff
		}
	}
	s.delays[name] = delay
	s.waiting++
	time.AfterFunc(delay, func() { s.post(event{kind: restart, plan: plan, name: name}) })
}

// end asks everybody to end, because of err if it is not nil. Those that have not
// when the timer fires are killed.
func (s *supervisor) end(err error) {
	s.fail(err)
	if s.ending {
		return
	}
	s.ending = true
	s.notify.say("STOPPING=1")
	s.cancel()
	for _, p := range s.children {
		p.tell(ctlStop, -1, nil)
	}
	s.timer.Reset(s.d.grace() / 4 * 3)
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
		p.broken = fmt.Errorf("it has not ended within %v and was killed", s.d.grace()/4*3)
		p.os.Kill()
	}
	s.timer.Reset(max(s.d.grace()/4, time.Second)) // for the kernel, and the parent's own code
}

func (s *supervisor) startReload(ctx context.Context) {
	s.reload = true
	s.notify.reloading()
	go func() { s.post(event{kind: reloaded, err: s.d.Reload(ctx, s.proc)}) }()
}
