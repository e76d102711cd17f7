package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// settle is how long a round waits before the next peer's turn, so that the
// last one's processes have gone to sleep.
const settle = 2 * time.Millisecond

// A runner runs cases.
type runner struct {
	options
	self string
	idle time.Duration // CPU time of a pair that does nothing, to be subtracted
}

func newRunner(o options) (*runner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	raiseFileLimit()
	r := &runner{options: o, self: self}
	r.idle, err = r.startup()
	return r, err
}

// startup measures the CPU time that two of our processes need to start and to
// end.
func (r *runner) startup() (time.Duration, error) {
	var all []time.Duration
	c := startCase()
	for range 3 {
		q, err := start(c, c.peers[0], r.self, "")
		if err == nil {
			err = errors.Join(q.ready(), q.stop())
		}
		if err != nil {
			return 0, fmt.Errorf("cannot start workers: %w", err)
		}
		all = append(all, q.cpu)
	}
	return slices.Min(all), nil
}

// selected returns the peers of c that are to be run.
func (r *runner) selected(c benchCase) []peer {
	if !r.cases.MatchString(c.name) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.peers), func(p peer) bool {
		return !r.peers.MatchString(p.name) || p.c != "" && r.program == ""
	})
}

// run starts all peers of a case and lets them work in turn: a round is one
// slice of each, beginning with another one every time.
func (r *runner) run(c benchCase, peers []peer) (pairs []*pair, err error) {
	stop, err := r.startLoad(c.load)
	if err != nil {
		return nil, err
	}
	defer func() {
		if serr := stop(); err == nil {
			err = serr
		}
		for _, q := range pairs {
			serr := q.stop()
			switch {
			case serr == nil:
			case err == nil:
				err = fmt.Errorf("%s: %w", q.peer.name, serr)
			default:
				err = fmt.Errorf("%w; %s: %w", err, q.peer.name, serr)
			}
		}
	}()
	for _, p := range peers {
		q, err := start(c, p, r.self, r.program)
		if err != nil {
			return pairs, fmt.Errorf("%s: %w", p.name, err)
		}
		if p.c == "" {
			q.startup = r.idle
		}
		pairs = append(pairs, q)
	}
	each := func(first int, f func(*pair) error) error {
		for i := range pairs {
			q := pairs[(first+i)%len(pairs)]
			if err := f(q); err != nil {
				return fmt.Errorf("%s: %w", q.peer.name, err)
			}
		}
		return nil
	}
	if err := each(0, (*pair).ready); err != nil {
		return pairs, err
	}
	if c.fixed > 0 {
		return pairs, each(0, func(q *pair) error {
			q.ops = c.fixed
			return q.round()
		})
	}
	if err := each(0, func(q *pair) error { return q.calibrate(r.slice) }); err != nil {
		return pairs, err
	}
	for round := range r.rounds {
		if err := each(round, (*pair).round); err != nil {
			return pairs, err
		}
	}
	return pairs, nil
}

// round performs one slice.
func (q *pair) round() error {
	time.Sleep(settle)
	took, err := q.do(q.ops)
	if err == nil {
		q.perOp = append(q.perOp, took/float64(q.ops))
	}
	return err
}
