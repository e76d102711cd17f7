package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"example.org/imsg"
)

// talk listens to the child until its end of the channel is closed, and kills it
// when it says something else than it may.
func (p *process) talk() {
	defer p.leave()
	p.s.running.Go(func() { p.ctl.Flush(context.Background()) })
	for m, err := range p.ctl.All(context.Background()) {
		if err == nil {
			err = p.take(m)
			m.Close()
		} else if died(err) {
			return // or wait has lost patience
		} else {
			err = fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if err != nil {
			if p.err == nil {
				p.err = err
			}
			p.os.Kill()
			return
		}
	}
}

// died says whether a channel has ended as it does when a process dies.
func died(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// leave: the child has no reason to live for longer than the grace.
func (p *process) leave() { p.leaving.Do(func() { close(p.left) }) }

// take deals with a message of the child: every one is allowed in one state only.
func (p *process) take(m imsg.Message) error {
	over := p.done || p.err != nil
	switch typ := m.Type(); {
	case m.HasFile() || m.FileErr() != nil:
	case typ == ctlReady && !p.greeted && !over:
		if err := unmarshal(m, &p.status); err != nil {
			return err
		}
		switch err := p.verify(); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
			p.leave() // it is dead: wait will tell
			return nil
		case err != nil:
			return fmt.Errorf("it says it is ready: %w", err)
		}
		p.greeted = true
		p.s.post(event{kind: ready, process: p})
		return nil
	case (typ == ctlFail && !p.greeted || typ == ctlDone && p.greeted) && !over:
		var f failure
		if err := unmarshal(m, &f); err != nil {
			return err
		}
		if p.done = true; f.Text != "" || typ == ctlFail {
			e := p.failed(p.greeted, f.err())
			if typ == ctlFail && slices.Contains(steps, f.Step) {
				e.Step = f.Step
			}
			p.err = e
		}
		p.leave()
		return nil
	case typ == ctlBroken && p.greeted && !over:
		return p.accuse(m)
	case typ == ctlLog:
		return relay(p.s.proc.log, p.name, p.os.Pid, m.Bytes())
	}
	return fmt.Errorf("%w: message type %d, file %t, ready %t, done %t", ErrProtocol, m.Type(), m.HasFile(), p.greeted, over)
}

// accuse tells the supervisor what a child says of a peer.
func (p *process) accuse(m imsg.Message) error {
	var b broken
	if err := unmarshal(m, &b); err != nil {
		return err
	}
	if b.Role == Parent {
		p.s.proc.log.Error("the parent broke the rules", "says", p.name.Role, "err", printable(b.Text))
		return nil
	}
	if !slices.ContainsFunc(p.plan.peers, func(r peerRole) bool {
		return r.Name == b.Role && b.Instance >= 0 && b.Instance < r.Instances
	}) {
		return fmt.Errorf("%w: %s[%d] is no peer", ErrProtocol, printable(b.Role), b.Instance)
	}
	p.s.post(event{kind: violated, process: p, name: b.peerName, err: fmt.Errorf("%s[%d] says: %s", p.name.Role, p.name.Instance, printable(b.Text))})
	return nil
}

// steps are those of a child's start.
var steps = []string{"hello", "peers", "setup", "chroot", "groups", "ids", "dumpable", "proof", "sandbox", "ready"}

// wait reaps the process. What it said before it died still counts; but a process
// of its own that has the channel does not keep it alive.
func (p *process) wait(talked <-chan struct{}) {
	reaped := make(chan struct{})
	p.s.running.Go(func() {
		<-p.left
		select {
		case <-reaped:
		case <-time.After(p.s.d.grace()):
			p.os.Kill()
		}
	})
	state, err := p.os.Wait()
	close(reaped)
	p.ctl.SetReadDeadline(time.Now().Add(p.s.d.grace() / 8)) // less than what the end leaves for it
	<-talked
	p.ctl.Close()
	switch {
	case err != nil:
		p.err = err
	case p.err == nil && (!state.Success() || !p.greeted):
		p.err = errors.New(state.String())
	}
	if _, ok := p.err.(*ChildError); p.err != nil && !ok {
		p.err = p.failed(p.greeted, p.err)
	}
	p.s.post(event{kind: gone, process: p})
}

// failed says that the child did, before it was ready or after.
func (p *process) failed(ready bool, err error) *ChildError {
	step := "start"
	if ready {
		step = "run"
	}
	return &ChildError{p.name.Role, p.name.Instance, step, err}
}
