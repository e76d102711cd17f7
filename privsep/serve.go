package privsep

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"example.org/imsg/peer"
)

// Serve answers the requests of all peers by the tables that Handle has made,
// also of those that are started again, until ctx ends, which is no error. At
// the daemon's end it answers the roles that are declared before its own, and
// the parent answers all, until their channels have ended, so that nothing is
// lost that they said last. What the others said last may be.
//
// A peer that asks for something else has broken the agreement. In a child that
// is Serve's error, which ends it if it is Run's. The parent kills the child
// instead, whose role says what follows. A channel that ends otherwise has lost
// its process: what follows is the supervisor's to decide.
func (p *Proc) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Those that end before this process are heard to their end.
	late, hush := context.WithCancel(context.WithoutCancel(ctx))
	defer hush()
	var running sync.WaitGroup
	serving := make(map[*peer.Peer]bool)
	for ctx.Err() == nil {
		peers, changed := p.all()
		for name, q := range peers {
			if serving[q] {
				continue
			}
			serving[q] = true
			until := ctx
			if p.known[name.Role].Before {
				until = late
			}
			running.Go(func() {
				if err := q.Serve(until); errors.Is(err, peer.ErrViolation) {
					p.broken(name, err, cancel)
				}
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	var broken *brokenError
	errors.As(context.Cause(ctx), &broken)
	if broken != nil || p.ending.Err() == nil {
		hush()
	}
	running.Wait()
	if broken != nil {
		return broken
	}
	return nil
}

// brokenError is the error of a Serve whose peer has broken its rules.
type brokenError struct {
	name peerName
	err  error
}

func (e *brokenError) Error() string {
	return fmt.Sprintf("%s[%d]: %v", e.name.Role, e.name.Instance, e.err)
}

func (e *brokenError) Unwrap() error { return e.err }

func (p *Proc) broken(name peerName, err error, cancel context.CancelCauseFunc) {
	if p.super != nil {
		p.super.post(event{kind: violated, name: name, err: err})
		return
	}
	cancel(&brokenError{name, err})
}
