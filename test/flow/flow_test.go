// Package flow_test explores how two ends of package peer wait for each other.
// It runs every interleaving of two ends whose decisions, to read, to take a
// request, to begin a handler, are those of internal/flow, by which package peer
// decides too: with bounded queues, a bounded socket between them, calls,
// messages without an answer, answers of many messages, and handlers that call
// back.
package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"example.org/imsg/internal/flow"
	"example.org/imsg/internal/testutil"
)

// A result is what an exploration has seen.
type result struct {
	worlds   int
	ended    int // worlds in which an end was ended for too many requests
	timeouts int // pauses that ended by their time
	rows     [len(flow.Cases)]int
	breach   breach
}

// explore visits every world that can follow from the first, until something
// happens that must not.
func (s *setup) explore() (r result) {
	keys := newKeyer(s)
	seen := make(map[key]bool)
	stack := []world{newWorld(s)}
	visit := func(w world) {
		k := keys.key(&w)
		if !seen[k] {
			seen[k] = true
			stack = append(stack, w)
		}
	}
	for len(stack) > 0 && r.breach == "" {
		w := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		r.worlds++
		if r.breach = s.bounds(&w); r.breach != "" {
			return r
		}
		moved := false
		s.successors(w, r.rows[:], func(next world, b breach) {
			moved = true
			switch b {
			case "":
				visit(next)
			case timedOut:
				r.timeouts++
				visit(next)
			case ended:
				r.ended++
			default:
				r.breach = b
			}
		})
		if !moved && !w.done() && s.chaos == 0 {
			r.breach = breach(fmt.Sprintf("deadlock: %+v", w))
		}
	}
	return r
}

// callers are n with the same program.
func callers(n int, steps ...step) (all [][]step) {
	for range n {
		all = append(all, steps)
	}
	return all
}

func limits(workers, requests, most int) flow.Limits {
	return flow.Limits{Workers: workers, Requests: requests, Most: most, Items: 1, HardItems: 2}
}

// setups are what is explored, the small ones first. In none of them does anybody
// wait for ever.
var setups = []setup{
	{name: "a stream", limits: limits(1, 1, 2), slots: 1, wire: 2, maxHeld: 1,
		callers: [2][][]step{callers(1, step{items: 4}), nil}},
	{name: "notes", limits: limits(1, 1, 4), slots: 1, wire: 2, maxQueued: 1,
		callers: [2][][]step{callers(2, step{note: true}, step{note: true}, step{note: true}), nil}},
	{name: "a call in the body of a stream", limits: limits(1, 1, 2), slots: 2, wire: 1, times: true,
		callers: [2][][]step{callers(1, step{items: 4, body: true}), callers(1, step{})}},
	{name: "streams both ways", limits: limits(1, 1, 2), slots: 1, wire: 1,
		callers: [2][][]step{callers(1, step{items: 3}), callers(1, step{items: 3})}},
	{name: "notes beside calls", limits: limits(1, 1, 2), slots: 1, wire: 1,
		callers: [2][][]step{callers(2, step{note: true}, step{note: true}), callers(1, step{}, step{})}},
	{name: "notes whose handlers call back", limits: limits(2, 1, 4), slots: 1, wire: 1,
		callers: [2][][]step{callers(1, step{note: true, depth: 1}, step{note: true, depth: 1}), callers(1, step{})}},
	{name: "more calls than may wait", limits: limits(1, 1, 2), slots: 3, wire: 1,
		callers: [2][][]step{callers(3, step{}), callers(1, step{})}},
	{name: "handlers call back without end", limits: limits(2, 1, 2), slots: 2, wire: 2, ends: true,
		callers: [2][][]step{callers(2, step{depth: 5}), callers(1, step{depth: 5})}},
	{name: "calls both ways", limits: limits(1, 1, 3), slots: 2, wire: 1,
		callers: [2][][]step{callers(2, step{}), callers(2, step{})}},
	{name: "handlers call back", limits: limits(2, 1, 3), slots: 1, wire: 1,
		callers: [2][][]step{callers(2, step{depth: 1}), callers(1, step{depth: 1})}},
	{name: "handlers call back, and back again", limits: limits(2, 1, 6), slots: 1, wire: 1,
		callers: [2][][]step{callers(1, step{depth: 3}), callers(1, step{depth: 2})}},
	{name: "an end without rules", limits: limits(2, 1, 3), slots: 1, wire: 1, ends: true, times: true, chaos: 5,
		callers: [2][][]step{callers(1, step{items: 1}), nil}},
}

// TestFlow explores all setups, which between them use every row of the table.
func TestFlow(t *testing.T) {
	if testutil.Race {
		t.Skip("one goroutine only: the race detector makes it slow for nothing")
	}
	var rows [len(flow.Cases)]int
	for _, s := range setups {
		r := s.explore()
		t.Logf("%s: %d worlds, %d ends, %d times, rows %v", s.name, r.worlds, r.ended, r.timeouts, r.rows)
		if r.breach != "" || s.ends != (r.ended > 0) {
			t.Errorf("%s: %s", s.name, r.breach)
		}
		for i, n := range r.rows {
			rows[i] += n
		}
	}
	for i, n := range rows {
		if n == 0 {
			t.Errorf("nothing uses the row %q", flow.Cases[i].Name)
		}
	}
}

// TestRows leaves out one row of the table after the other: each time something
// goes wrong.
func TestRows(t *testing.T) {
	for i, c := range flow.Cases {
		found := breach("")
		for _, s := range setups {
			s.skip = i + 1
			if r := s.explore(); r.breach != "" {
				found = breach(s.name) + ": " + r.breach
				break
			}
		}
		if found == "" {
			t.Errorf("without the row %q nothing is wrong", c.Name)
		}
		t.Logf("%s: %.150s", c.Name, found)
	}
}

// TestOneWorker finds what doc.go of package peer warns of: with one worker,
// handlers of both ends that wait for each other do so for ever.
func TestOneWorker(t *testing.T) {
	s := setup{limits: limits(1, 1, 3), slots: 1, wire: 1, callers: [2][][]step{callers(1, step{depth: 1}), callers(1, step{depth: 1})}}
	if r := s.explore(); !strings.HasPrefix(string(r.breach), "deadlock") {
		t.Errorf("%+v", r)
	}
}
