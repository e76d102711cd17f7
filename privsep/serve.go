package privsep

import (
	"context"
	"errors"
	"sync"

	"example.org/imsg/peer"
)

// Serve answers the requests of all peers by the tables that Handle has made,
// also of those that are started again, until ctx ends, which is no error. At
// the daemon's end it answers the roles that are declared before its own, and
// the parent answers all, until their channels have ended, so that nothing is
// lost that they said last. What the others said last may be.
//
// A peer that asks for something else has broken the agreement. Its channel ends,
// and the parent, which is told so, kills it; its role says what follows. It is
// only logged if that would end the daemon, and the end of the role that says
// so would not: the parent cannot know who is right. A
// channel that ends otherwise has lost its process: that is the supervisor's
// to deal with.
func (p *Proc) Serve(ctx context.Context) error {
	// Those that end before this process are heard to their end.
	late, hush := context.WithCancel(context.WithoutCancel(ctx))
	defer hush()
	var running sync.WaitGroup
	serving := make(map[*peer.Peer]bool)
	for over := false; !over; {
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
					p.report(name, err)
				}
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			over = true
		}
	}
	if p.ending.Err() == nil {
		hush()
	}
	running.Wait()
	return nil
}
