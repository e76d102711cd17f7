package peer

import (
	"sync"
	"time"

	"example.org/imsg/internal/flow"
)

// patience is how long the reader waits when what would let it go on may never
// happen.
const patience = time.Second

// A gate counts what waits for what, and pauses the reader. All decisions are
// those of package flow.
type gate struct {
	limits flow.Limits

	mu      sync.Mutex
	state   flow.State
	closed  bool
	paused  bool
	changed sync.Cond // for the reader
}

func (g *gate) init(l flow.Limits) {
	g.limits = l
	g.changed.L = &g.mu
}

// update changes the counts.
func (g *gate) update(change func(*flow.State)) {
	g.mu.Lock()
	change(&g.state)
	if g.paused {
		g.changed.Signal()
	}
	g.mu.Unlock()
}

// wait counts a goroutine that begins to wait for the other end, for the handler
// of r if that is not nil; done is the end of it.
func (g *gate) wait(r *Incoming, w flow.Wait) {
	g.update(func(s *flow.State) { s.Wait(r.flowHandler(), w) })
}

func (g *gate) done(r *Incoming, w flow.Wait) {
	g.update(func(s *flow.State) { s.Done(r.flowHandler(), w) })
}

// admit counts a request that was read, if it may wait.
func (g *gate) admit() (ok bool) {
	g.update(func(s *flow.State) {
		if ok = g.limits.Room(*s); ok {
			s.Queued++
		}
	})
	return ok
}

// begin lets the handler of r begin, if one may.
func (g *gate) begin(r *Incoming) (ok bool) {
	g.update(func(s *flow.State) {
		if ok = g.limits.Begins(*s); ok {
			s.Begin(&r.flow)
		}
	})
	return ok
}

// pause returns when the reader may go on, and reports whether it has waited
// for patience in vain.
func (g *gate) pause() (timedOut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.TimedOut = false
	if do, _ := g.limits.Next(g.state); do != flow.Read {
		g.pauseLocked()
	}
	return g.state.TimedOut
}

func (g *gate) pauseLocked() {
	var timer *time.Timer
	expired := false
	for !g.closed {
		do, _ := g.limits.Next(g.state)
		if do == flow.PauseBriefly && expired {
			g.state.TimedOut = true
			do, _ = g.limits.Next(g.state)
		}
		if do == flow.Read {
			return
		}
		if do == flow.PauseBriefly && timer == nil {
			timer = time.AfterFunc(patience, func() { g.update(func(*flow.State) { expired = true }) })
			defer timer.Stop()
		}
		g.paused = true
		g.changed.Wait()
		g.paused = false
	}
}

// close lets the reader go on to where it finds that the channel is closed.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.changed.Signal()
}
