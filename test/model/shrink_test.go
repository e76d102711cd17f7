//go:build linux

package model_test

// shrink makes a failing program smaller as long as it still fails: without
// its end, without some operations, with simpler arguments and ends.
func (p *modelProgram) shrink(failed *modelError) (*modelProgram, *modelError) {
	const tries = 3000
	left := tries
	better := func(q modelProgram) bool {
		if left--; left < 0 {
			return false
		}
		if f := q.run(&modelFigures{}); f != nil {
			q.ops = q.ops[:min(len(q.ops), f.at+1)]
			p, failed = &q, f
			return true
		}
		return false
	}
	better(modelProgram{p.ends, p.ops[:min(len(p.ops), failed.at+1)]})
	for again := true; again && left > 0; {
		again = false
		for n := max(1, len(p.ops)/2); n > 0; n /= 2 {
			for i := 0; i+n <= len(p.ops); {
				q := modelProgram{p.ends, append(append([]modelOp{}, p.ops[:i]...), p.ops[i+n:]...)}
				if better(q) {
					again = true
				} else {
					i += n
				}
			}
		}
		for i := 0; i < len(p.ops); i++ {
			for _, o := range p.ops[i].simpler() {
				q := modelProgram{p.ends, append([]modelOp{}, p.ops...)}
				q.ops[i] = o
				if better(q) {
					again = true
					break
				}
			}
		}
		for i := range p.ends {
			for _, s := range p.ends[i].simpler() {
				q := *p
				q.ends[i] = s
				again = better(q) || again
			}
		}
	}
	return p, failed
}

// simpler are operations that do less.
func (o modelOp) simpler() (all []modelOp) {
	try := func(change func(o *modelOp)) {
		if q := o; true {
			if change(&q); q != o {
				all = append(all, q)
			}
		}
	}
	for _, to := range []int{0, 1} {
		try(func(q *modelOp) { q.a = min(q.a, to) })
		try(func(q *modelOp) { q.b = min(q.b, to) })
		try(func(q *modelOp) { q.c = min(q.c, to) })
	}
	try(func(q *modelOp) { q.a /= 2 })
	try(func(q *modelOp) { q.b /= 2 })
	return all
}

// simpler are ends with less set up.
func (s modelSetup) simpler() (all []modelSetup) {
	for _, change := range []func(*modelSetup){
		func(q *modelSetup) { q.queueBytes = 0 },
		func(q *modelSetup) { q.queueLen = 0 },
		func(q *modelSetup) { q.queueFiles = 0 },
		func(q *modelSetup) { q.pending = 0 },
		func(q *modelSetup) { q.max = 0 },
		func(q *modelSetup) { q.trace, q.busy = false, false },
		func(q *modelSetup) { q.small = false },
		func(q *modelSetup) { q.blocking = false },
		func(q *modelSetup) { q.fdpass = false },
		func(q *modelSetup) { q.dialect = 0 },
	} {
		if q := s; true {
			if change(&q); q != s {
				all = append(all, q)
			}
		}
	}
	return all
}
