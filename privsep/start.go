package privsep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
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

// introduce queues hello, the configuration and the files. The channels follow.
func (p *process) introduce(given Given) error {
	plan := p.plan
	level := lowest(p.log)
	if l := p.level.Load(); l != nil {
		level = *l
	}
	p.grants.mu.Lock() // AddFile closes files
	defer p.grants.mu.Unlock()
	grant := p.grants.roles[p.name.Role]
	if given.Config != nil {
		grant.config = given.Config
	}
	grant.files = slices.Clone(grant.files)
	for _, name := range slices.Sorted(maps.Keys(given.Files)) {
		grant.files = append(grant.files, namedFile{name, given.Files[name]})
	}
	h := hello{
		Protocol: protocol, Build: p.build, Role: p.name.Role, Instance: p.name.Instance, rights: plan.rights(p.d),
		Peers: plan.peers, Files: len(grant.files), Config: len(grant.config),
		Workers: plan.role.Workers, Narrow: p.d.narrow(), Level: level, Grace: p.d.grace(), Start: p.d.startTimeout(),
	}
	if err := p.send(ctlHello, -1, marshal(h)); err != nil {
		return err
	}
	if plan.chroots && p.starter == nil { // which looks and sends it itself
		if err := p.sendRoot(); err != nil {
			return err
		}
	}
	for data := grant.config; len(data) > 0; {
		n := min(len(data), maxPayload)
		if err := p.send(ctlConfig, -1, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	for _, f := range grant.files {
		fd, err := unixmsg.DupFile(f.file)
		if err == nil {
			err = p.send(ctlFile, fd, []byte(f.name))
		}
		if err != nil {
			return fmt.Errorf("file %s: %w", f.name, err)
		}
	}
	return nil
}

// sendRoot looks at the directory that is to be the child's root, as it is now,
// and sends that very directory.
func (p *process) sendRoot() error {
	r := p.plan.rights(p.d)
	f, err := r.openRoot(p.d.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	if p.root, err = identify(f.Stat()); err != nil {
		return err
	}
	fd, err := unixmsg.DupFile(f)
	if err != nil {
		return err
	}
	return p.send(ctlRoot, fd, nil)
}

// ready lets a child run; at first when all are ready.
func (s *supervisor) ready(ctx context.Context, p *process) {
	s.mu.Lock()
	p.up = true
	s.mu.Unlock()
	if l := s.level.Load(); l != nil { // it may have another one
		p.send(ctlLevel, -1, marshal(l))
	}
	if s.passed {
		p.send(ctlGo, -1, nil)
		if p.child != nil {
			s.log.Debug("a child was started", "status", p.status.String())
			close(p.child.ready)
			return
		}
		s.log.Info("a child was started again", "status", p.status.String())
		return
	}
	if s.starting--; s.starting == 0 && !s.ending {
		s.pass(ctx)
	}
}

// pass is the barrier: all children are ready.
func (s *supervisor) pass(ctx context.Context) {
	s.passed = true
	err := s.keepCapabilities()
	kept := capabilities() // which a sandbox may not let it ask
	var status sandbox.Status
	if err == nil {
		status, err = sandbox.Enter(s.d.ParentSandbox)
	}
	if err != nil {
		s.shutdown(&ChildError{Role: Parent, Step: "sandbox", Err: err})
		return
	}
	s.mu.Lock()
	s.own, s.kept = status, kept
	s.mu.Unlock()
	for _, q := range s.children {
		q.send(ctlGo, -1, nil)
	}
	s.notify.send("READY=1")
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
