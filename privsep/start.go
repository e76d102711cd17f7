package privsep

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
)

// start makes all channels, and then all processes.
func (s *supervisor) start() error {
	var all []*process
	for _, plan := range s.plans {
		for i := range plan.role.instances() {
			p, err := s.newProcess(plan, i)
			if err != nil {
				s.discard(all)
				return &ChildError{plan.role.Name, i, "start", err}
			}
			all = append(all, p)
		}
	}
	for i, p := range all {
		err := s.connect(p)
		for _, q := range all[:i] {
			if err == nil && s.d.linked(p.plan.role, q.plan.role) {
				err = connect(p, q)
			}
		}
		if err != nil {
			s.discard(all)
			return p.failed(false, err)
		}
	}
	s.starting = len(all)
	for i, p := range all {
		if err := p.launch(); err != nil {
			s.discard(all[i:])
			return p.failed(false, err)
		}
		s.add(p)
	}
	return nil
}

// again starts a child in the place of one that is gone.
func (s *supervisor) again(plan *plan, instance int) error {
	p, err := s.newProcess(plan, instance)
	if err != nil {
		return err
	}
	if err = s.connect(p); err == nil {
		err = s.reconnect(p)
	}
	if err == nil {
		err = p.launch()
	}
	if err != nil {
		p.discard()
		return err
	}
	s.add(p)
	return nil
}

// reconnect makes channels between a new child and its peers. From a peer that
// is not there it gets one that has ended.
func (s *supervisor) reconnect(p *process) error {
	for _, plan := range s.plans {
		if !s.d.linked(p.plan.role, plan.role) {
			continue
		}
		for i := range plan.role.instances() {
			q := s.children[peerName{plan.role.Name, i}]
			if q == nil {
				q = &process{name: peerName{plan.role.Name, i}}
			}
			if err := connect(p, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// connect makes the channel between the parent and a child.
func (s *supervisor) connect(p *process) error {
	conn, far, err := newChannel(p.plan.role.passes())
	if err != nil {
		return err
	}
	s.proc.put(p.name, conn)
	return p.tell(ctlPeer, far, marshal(peerName{Role: Parent}))
}

// connect makes the channel between two children. The parent keeps neither end.
func connect(p, q *process) error {
	a, b, err := unixmsg.Pair(true)
	if err != nil {
		return err
	}
	if err := p.tell(ctlPeer, a, marshal(q.name)); err != nil {
		unix.Close(b)
		return err
	}
	if err := q.tell(ctlPeer, b, marshal(p.name)); q.os == nil {
		return err
	}
	return nil // q runs, or has just died, which is not p's affair
}

// discard gives up processes that were not started.
func (s *supervisor) discard(list []*process) {
	for _, p := range list {
		p.discard()
	}
}

func (s *supervisor) add(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.children[p.name] = p
}

// ready lets a child run; at first when all are ready.
func (s *supervisor) ready(ctx context.Context, p *process) {
	p.removeEmpty()
	s.mu.Lock()
	p.up = true
	s.mu.Unlock()
	if s.passed {
		p.tell(ctlGo, -1, nil)
		s.proc.log.Info("a child was started again", "status", p.status.String())
		return
	}
	if s.starting--; s.starting > 0 || s.ending {
		return
	}
	s.passed = true
	status, err := sandbox.Enter(s.d.ParentSandbox)
	if err != nil {
		s.end(&ChildError{Role: Parent, Step: "sandbox", Err: err})
		return
	}
	s.mu.Lock()
	s.own = status
	s.mu.Unlock()
	for _, q := range s.children {
		q.tell(ctlGo, -1, nil)
	}
	s.notify.say("READY=1")
	if s.d.Parent != nil {
		s.parent = true
		go func() {
			err := s.d.Parent(ctx, s.proc)
			if errors.Is(err, context.Canceled) && ctx.Err() != nil {
				err = nil
			}
			s.post(event{kind: returned, err: err})
		}()
	}
}

// statuses are those of the parent and of the children that are ready.
func (s *supervisor) statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := Status{Role: Parent, PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Dumpable: dumpable(), Sandbox: s.own}
	own.Groups, _ = os.Getgroups()
	list := []Status{own}
	for _, plan := range s.plans {
		for i := range plan.role.instances() {
			if p := s.children[peerName{plan.role.Name, i}]; p != nil && p.up {
				list = append(list, p.status)
			}
		}
	}
	return list
}
