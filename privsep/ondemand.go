package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"

	"example.org/imsg/peer"
)

// ErrEnding is returned by Proc.Start when the daemon ends, or does not run yet.
var ErrEnding = errors.New("the daemon is not running")

// A Child is a process that Proc.Start has started. Its methods may be called from
// many goroutines.
type Child struct {
	process *process
	ready   chan struct{} // closed when it runs
	done    chan struct{} // closed when it was waited for
	err     error         // then
}

// Given is what one process gets when it is started, beside what AddFile and
// Configure give to its role: a configuration in place of the role's if it is not
// nil, and more files. The files stay the caller's, who may close them when Start
// has returned.
type Given struct {
	Config []byte
	Files  map[string]*os.File
}

// startRequest is a Start on its way to the supervisor.
type startRequest struct {
	role  string
	given Given
	reply chan<- startReply
}

type startReply struct {
	child *Child
	err   error
}

// Start starts one more process of a role that is OnDemand, and returns when it
// runs. The error is that of its start, as a *ChildError, ErrEnding, or ctx's, and
// then the process is killed. It is for the parent, while Daemon.Parent runs; it
// panics elsewhere, and for other roles.
func (p *Proc) Start(ctx context.Context, role string, given Given) (*Child, error) {
	if r := p.onDemand(role); r == nil {
		panic(fmt.Sprintf("privsep: %s cannot start %s, which is not OnDemand", p.self.Role, role))
	}
	if len(given.Config) > maxConfig {
		return nil, fmt.Errorf("privsep: a configuration of %d bytes for %s is longer than %d", len(given.Config), role, maxConfig)
	}
	reply := make(chan startReply, 1)
	p.parent.post(event{kind: startChild, start: &startRequest{role, given, reply}})
	var r startReply
	select {
	case r = <-reply:
	case <-p.parent.over:
		r.err = ErrEnding
	}
	if r.err != nil {
		return nil, fmt.Errorf("privsep: start %s: %w", role, r.err)
	}
	select {
	case <-r.child.ready:
		return r.child, nil
	case <-r.child.done:
		if r.child.err == nil {
			r.child.err = r.child.process.failed(false, errors.New("it has ended before it ran"))
		}
		return nil, r.child.err
	case <-ctx.Done():
		r.child.Kill()
		return nil, ctx.Err()
	}
}

func (p *Proc) onDemand(role string) *Role {
	if p.parent == nil {
		return nil
	}
	if r := p.parent.role(role); r != nil && r.OnDemand {
		return r
	}
	return nil
}

// Peer returns the channel to the process, which belongs to the Proc.
func (c *Child) Peer() *peer.Peer { return c.process.peer }

// Instance returns its number, which no other process of the role has as long as
// it lives.
func (c *Child) Instance() int { return c.process.name.Instance }

// Status returns what is in force in it.
func (c *Child) Status() Status {
	c.process.mu.Lock()
	defer c.process.mu.Unlock()
	return c.process.status
}

// Stop asks the process to end: its context is cancelled. It is killed if it has not
// ended within Daemon.Grace. Stop does not wait.
func (c *Child) Stop() { c.process.stop() }

// Kill ends the process at once, and does not wait.
func (c *Child) Kill() { c.process.os.Kill() }

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait waits until the process has ended, and returns its error, a *ChildError, or
// nil if its Run has returned nil; or ctx's error. Its end does nothing else: the
// role's OnExit does not apply.
func (c *Child) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop asks a process of a role to end, as Child.Stop does; what follows is for the
// role's OnExit to say: with Restart it is started again. The error is
// os.ErrProcessDone if there is none at present. It is for the parent.
func (p *Proc) Stop(role string, instance int) error {
	if p.parent == nil || p.parent.role(role) == nil {
		panic(fmt.Sprintf("privsep: only the parent stops, and not %s, which is no role", role))
	}
	child := p.parent.process(peerName{role, instance})
	if child == nil {
		return os.ErrProcessDone
	}
	child.stop()
	return nil
}

// stop asks the child to end.
func (p *process) stop() {
	_ = p.send(ctlStop, -1, nil)
	p.startGrace()
}

// startOne starts a process for a Start.
func (s *supervisor) startOne(r *startRequest) (*Child, error) {
	if s.ending || !s.passed {
		return nil, ErrEnding
	}
	var plan *plan
	for _, q := range s.plans {
		if q.role.Name == r.role {
			plan = q
		}
	}
	n := 0
	for s.children[peerName{r.role, n}] != nil {
		n++
	}
	if most := plan.role.Instances; most > 0 && n >= most {
		return nil, fmt.Errorf("there are %d already", most)
	}
	child := &Child{ready: make(chan struct{}), done: make(chan struct{})}
	p, err := s.newProcess(plan, n, r.given)
	if err != nil {
		return nil, err
	}
	p.child, child.process = child, p
	if err = s.connect(p); err == nil {
		err = p.launch()
	}
	if err != nil {
		s.proc.remove(p.name)
		p.discard()
		return nil, err
	}
	s.add(p)
	return child, nil
}
