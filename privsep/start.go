package privsep

import (
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/internal/unixmsg"
)

// start makes all channels, and then all processes.
func (s *supervisor) start() error {
	var all []*process
	for _, plan := range s.plans {
		for i := range plan.role.instances() {
			p, err := s.newProcess(plan, i, Given{})
			if err != nil {
				discard(all)
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
			discard(all)
			return p.failed(false, err)
		}
	}
	s.starting = len(all)
	for i, p := range all {
		if err := p.launch(); err != nil {
			discard(all[i:])
			return p.failed(false, err)
		}
		s.add(p)
	}
	return nil
}

// connect makes the channel between the parent and a child.
func (s *supervisor) connect(p *process) error {
	conn, far, err := newChannel(p.plan.role.passes(), p.plan.role.sends())
	if err != nil {
		return err
	}
	p.peer = s.proc.put(p.name, conn)
	return p.send(ctlPeer, far, marshal(peerName{Role: Parent}))
}

// connect makes the channel between two children. The parent keeps neither end.
func connect(p, q *process) error {
	a, b, err := unixmsg.Pair(true)
	if err != nil {
		return err
	}
	if !p.plan.role.passes() || !q.plan.role.passes() {
		refuseFiles(a)
		refuseFiles(b)
	}
	if err := p.send(ctlPeer, a, marshal(q.name)); err != nil {
		unix.Close(b)
		return err
	}
	if err := q.send(ctlPeer, b, marshal(p.name)); q.os == nil {
		return err
	}
	return nil // q runs, or has just died, which is not p's affair
}

// discard gives up processes that were not started.
func discard(list []*process) {
	for _, p := range list {
		p.discard()
	}
}

// restart starts a child in the place of one that is gone.
func (s *supervisor) restart(plan *plan, instance int) error {
	p, err := s.newProcess(plan, instance, Given{})
	if err != nil {
		return err
	}
	if err = s.connect(p); err == nil {
		err = s.connectPeers(p)
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

// connectPeers makes channels between a new child and its peers. From a peer that
// is not there it gets one that has ended.
func (s *supervisor) connectPeers(p *process) error {
	for _, plan := range s.plans {
		if !s.d.linked(p.plan.role, plan.role) {
			continue
		}
		for i := range plan.role.instances() {
			q := s.children[peerName{plan.role.Name, i}]
			if q == nil {
				q = &process{name: peerName{plan.role.Name, i}, plan: plan}
			}
			if err := connect(p, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// A backoff is how long to wait before something is tried again.
type backoff time.Duration

// next doubles the time up to a minute, and begins again with first after a
// success, or when it has lasted longer than a minute.
func (b backoff) next(first, lasted time.Duration, failed bool) backoff {
	if b == 0 || !failed || lasted > maxBackoff {
		if first <= 0 {
			first = defaultBackoff
		}
		return backoff(first)
	}
	return min(2*b, backoff(maxBackoff))
}

// scheduleRestart starts a child again after a while, which gets longer when it
// fails and has not lasted.
func (s *supervisor) scheduleRestart(plan *plan, name peerName, lasted time.Duration, failed bool) {
	delay := s.restarts[name].next(plan.role.Backoff, lasted, failed)
	s.restarts[name] = delay
	s.waiting++
	time.AfterFunc(time.Duration(delay), func() { s.post(event{kind: restart, plan: plan, name: name}) })
}

// scheduleReconnect makes a channel again that one of its ends has closed: all
// that a child can do to another one by what it says of it.
func (s *supervisor) scheduleReconnect(p *process, name peerName) {
	pair := [2]peerName{p.name, name}
	r := s.channels[pair]
	if r == nil {
		r = new(reconnection)
		s.channels[pair] = r
	}
	if r.pending {
		return
	}
	r.pending = true
	r.delay = r.delay.next(0, time.Since(r.last), true)
	time.AfterFunc(time.Duration(r.delay), func() { s.post(event{kind: reconnect, process: p, name: name}) })
}

// A reconnection is that of a channel between two children, which one end closed.
type reconnection struct {
	delay   backoff
	pending bool
	last    time.Time
}
