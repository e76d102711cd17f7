//go:build linux

package model_test

// shrink makes a failing program smaller as long as it still fails: without
// its end, without some operations, with simpler arguments and ends.
func (p *program) shrink(failed *failedAt) (*program, *failedAt) {
	const tries = 3000
	left := tries
	better := func(q program) bool {
		if left--; left < 0 {
			return false
		}
		if f := q.run(&figures{}); f != nil {
			q.ops = q.ops[:min(len(q.ops), f.at+1)]
			p, failed = &q, f
			return true
		}
		return false
	}
	better(program{p.ends, p.ops[:min(len(p.ops), failed.at+1)]})
	for again := true; again && left > 0; {
		again = false
		for n := max(1, len(p.ops)/2); n > 0; n /= 2 {
			for i := 0; i+n <= len(p.ops); {
				q := program{p.ends, append(append([]op{}, p.ops[:i]...), p.ops[i+n:]...)}
				if better(q) {
					again = true
				} else {
					i += n
				}
			}
		}
		for i := 0; i < len(p.ops); i++ {
			for _, o := range p.ops[i].simpler() {
				q := program{p.ends, append([]op{}, p.ops...)}
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
func (o op) simpler() (all []op) {
	try := func(change func(o *op)) {
		if q := o; true {
			if change(&q); q != o {
				all = append(all, q)
			}
		}
	}
	for _, to := range []int{0, 1} {
		try(func(q *op) { q.a = min(q.a, to) })
		try(func(q *op) { q.b = min(q.b, to) })
		try(func(q *op) { q.c = min(q.c, to) })
	}
	try(func(q *op) { q.a /= 2 })
	try(func(q *op) { q.b /= 2 })
	return all
}

// simpler are ends with less set up.
func (s setup) simpler() (all []setup) {
	for _, change := range []func(*setup){
		func(q *setup) { q.queueBytes = 0 },
		func(q *setup) { q.queueLen = 0 },
		func(q *setup) { q.queueFiles = 0 },
		func(q *setup) { q.pending = 0 },
		func(q *setup) { q.max = 0 },
		func(q *setup) { q.trace, q.busy = false, false },
		func(q *setup) { q.small = false },
		func(q *setup) { q.blocking = false },
		func(q *setup) { q.fdpass = false },
		func(q *setup) { q.dialect = 0 },
	} {
		if q := s; true {
			if change(&q); q != s {
				all = append(all, q)
			}
		}
	}
	return all
}
