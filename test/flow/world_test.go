package flow_test

import (
	"cmp"
	"fmt"

	"example.org/imsg/internal/flow"
)

// The room of a world, which is one flat value, so that it can be copied and
// compared.
const (
	maxWire     = 3
	maxQueue    = 6
	maxHandlers = 8
	maxCallers  = 3
	maxSteps    = 3
)

// A step is one act of a caller's program.
type step struct {
	note  bool // a message without an answer; otherwise a call
	depth int8 // how often handlers call back before they go on
	items int8 // messages of the answer before its last
	body  bool // a call is made after the first of them was taken
}

// A setup is what the two ends of a world are, and do.
type setup struct {
	name    string
	limits  flow.Limits
	slots   int8 // calls at once, but for handlers'
	wire    int8 // messages that the socket holds in each direction
	callers [2][][]step
	chaos   int8 // if not 0: end 1 sends that many messages of any kind, and reads as it likes
	skip    int  // the row of the table that is left out, counted from 1; 0: none

	// What may happen.
	ends      bool // an end is ended, for more requests than may be
	times     bool // a pause ends by its time
	maxQueued int  // how many requests wait; 0: limits.Most
	maxHeld   int  // how many messages a call holds; 0: limits.HardItems
}

// A kind is that of a message.
type kind int8

const (
	request kind = iota
	note
	item
	last
)

// A msg is one message in a socket or a queue.
type msg struct {
	kind  kind
	call  int8 // of the end that made the request
	depth int8
	items int8
}

// A phase is where a caller or a handler stands.
type phase int8

const (
	idle     phase = iota // about to do the next step
	slotting              // its call waits for a slot
	asking                // its call waits to be sent
	taking                // about to take the next message of its answer
	waiting               // until there is one
	replying              // about to send an answer or a note
	sending               // it waits to be sent
	gone
)

// A proc is a caller or a handler.
type proc struct {
	phase phase
	at    int8 // the step of a caller; what a handler has sent of its answer
	body  bool // of a caller: it is in the body of a loop
	body1 bool // it was
	req   msg  // of a handler
	flow  flow.Handler
}

// A call is what an end knows of one of its calls.
type call struct {
	open    bool // its answer has not ended
	slot    bool
	held    int8 // messages
	waiting bool // somebody is counted as waiting
	failed  bool // for not taking what it was held back
}

// An end is one of the two.
type end struct {
	state    flow.State
	reading  bool // it has decided to
	slots    int8
	queued   int8
	queue    [maxQueue]msg
	handlers [maxHandlers]proc
	callers  [maxCallers]proc
	calls    [2*maxCallers + maxHandlers]call // a caller's, that of its loop's body, a handler's
	budget   int8                             // of chaos
}

// A wire is one direction of the socket.
type wire struct {
	n    int8
	msgs [maxWire]msg
}

// A world is everything at one moment.
type world struct {
	ends  [2]end
	wires [2]wire // from that end
}

// A breach is what must not happen.
type breach string

func newWorld(s *setup) (w world) {
	for i := range w.ends {
		e := &w.ends[i]
		e.slots = s.slots
		for j := range e.callers {
			if j >= len(s.callers[i]) {
				e.callers[j].phase = gone
			}
		}
		for j := range e.handlers {
			e.handlers[j].phase = gone
		}
	}
	w.ends[1].budget = s.chaos
	return w
}

func (s *setup) put(w *world, i int, m msg) bool {
	out := &w.wires[i]
	if out.n >= s.wire {
		return false
	}
	out.msgs[out.n] = m
	out.n++
	return true
}

func take(w *world, i int) msg {
	in := &w.wires[1-i]
	m := in.msgs[0]
	copy(in.msgs[:], in.msgs[1:in.n])
	in.n--
	in.msgs[in.n] = msg{}
	return m
}

// next is flow's table, or what is left of it.
func (s *setup) next(st flow.State) (flow.Action, int) {
	if s.skip == 0 {
		return s.limits.Next(st)
	}
	for row, c := range flow.Cases {
		if row != s.skip-1 && c.When(s.limits, st) {
			return c.Do, row
		}
	}
	return flow.Pause, -1
}

// successors calls f with every world that can follow at once. A pause ends by
// its time only where nothing else can happen.
func (s *setup) successors(w world, rows []int, f func(world, breach)) {
	any := false
	try := func(act func(*world) (bool, breach)) {
		next := w
		if ok, b := act(&next); ok {
			any = true
			f(next, b)
		}
	}
	for i := range w.ends {
		if i == 1 && s.chaos > 0 {
			s.chaosSteps(w, try)
			continue
		}
		try(func(w *world) (bool, breach) { return s.read(w, i, rows) })
		for j := range w.ends[i].callers {
			if w.ends[i].callers[j].phase != gone {
				try(func(w *world) (bool, breach) { return s.stepCaller(w, i, j), "" })
			}
		}
		for j := range w.ends[i].handlers {
			if w.ends[i].handlers[j].phase != gone {
				try(func(w *world) (bool, breach) { return s.stepHandler(w, i, j), "" })
			}
		}
	}
	if any {
		return
	}
	for i := range w.ends {
		try(func(w *world) (bool, breach) { return s.timeout(w, i, rows) })
	}
}

// read lets the reader of end i decide, or receive a message.
func (s *setup) read(w *world, i int, rows []int) (bool, breach) {
	e := &w.ends[i]
	if !e.reading {
		do, row := s.next(e.state)
		if row >= 0 {
			rows[row]++
		}
		e.reading = do == flow.Read
		return e.reading, ""
	}
	if w.wires[1-i].n == 0 {
		return false, ""
	}
	m := take(w, i)
	b := s.dispatch(e, m)
	e.reading, e.state.TimedOut = false, false
	return true, b
}

func (s *setup) dispatch(e *end, m msg) breach {
	if m.kind == request || m.kind == note {
		if !s.limits.Room(e.state) {
			if !s.ends || s.unfinished(e) < s.limits.Most {
				return breach(fmt.Sprintf("an honest end is ended: %+v", e.state))
			}
			return ended
		}
		e.state.Queued++
		e.queue[e.queued] = m
		e.queued++
		s.begin(e)
		return ""
	}
	c := &e.calls[m.call]
	if !c.open {
		return ""
	}
	if !c.failed {
		e.hold(s, c, c.held+1)
	}
	if c.waiting {
		c.waiting = false
		e.state.Done(e.owner(m.call), flow.Call)
	}
	if m.kind == last {
		c.open = false
		if c.slot {
			c.slot = false
			e.slots++
		}
	}
	return ""
}

// ended is not a fault: the other end had more requests than may be.
const ended breach = "ended"

// unfinished is how many requests of the other end e has.
func (s *setup) unfinished(e *end) int {
	n := int(e.queued)
	for j := range e.handlers {
		if e.handlers[j].phase != gone {
			n++
		}
	}
	return n
}

func (e *end) hold(s *setup, c *call, n int8) {
	e.state.Hold(s.limits, int(c.held), int(n))
	c.held = n
}

// owner is the handler that makes a call, if one does.
func (e *end) owner(call int8) *flow.Handler {
	if call < 2*maxCallers {
		return nil
	}
	return &e.handlers[call-2*maxCallers].flow
}

// begin lets handlers begin, as many as may.
func (s *setup) begin(e *end) {
	for e.queued > 0 && s.limits.Begins(e.state) {
		j := 0
		for e.handlers[j].phase != gone {
			j++
		}
		h := &e.handlers[j]
		*h = proc{req: e.queue[0]}
		copy(e.queue[:], e.queue[1:e.queued])
		e.queued--
		e.queue[e.queued] = msg{}
		e.state.Begin(&h.flow)
	}
}

// timeout ends the pause of end i.
func (s *setup) timeout(w *world, i int, rows []int) (bool, breach) {
	e := &w.ends[i]
	if e.reading || i == 1 && s.chaos > 0 {
		return false, ""
	}
	if do, _ := s.next(e.state); do != flow.PauseBriefly {
		return false, ""
	}
	e.state.TimedOut = true
	for k := range e.calls {
		if c := &e.calls[k]; int(c.held) >= s.limits.HardItems {
			e.hold(s, c, 0)
			c.failed = true
		}
	}
	do, row := s.next(e.state)
	if do != flow.Read || !s.times {
		return true, breach(fmt.Sprintf("a pause ends by its time or not at all: %+v", e.state))
	}
	rows[row]++
	e.reading = true
	return true, timedOut
}

const timedOut breach = "timed out"

// ask makes the part of a call that goes as far as its request. k is its number.
func (s *setup) ask(w *world, i int, p *proc, k int8, m msg, nested bool) bool {
	e := &w.ends[i]
	c, h := &e.calls[k], e.owner(k)
	switch p.phase {
	case slotting:
		if !nested {
			if e.slots == 0 {
				return false
			}
			e.slots--
		}
		*c = call{open: true, slot: !nested}
		p.phase = asking
	case asking:
		m.call = k
		if !s.put(w, i, m) {
			return false
		}
		e.state.Done(h, flow.Call)
		p.phase = taking
	default:
		e.state.Wait(h, flow.Call)
		s.begin(e) // in place of a handler that waits
		p.phase = slotting
	}
	return true
}

// answer takes the answer to call k: got says that there was a message, and over
// that none comes any more.
func (e *end) answer(s *setup, p *proc, k int8) (ok, got, over bool) {
	c := &e.calls[k]
	switch {
	case p.phase == waiting && c.waiting:
		return false, false, false
	case p.phase == waiting:
		p.phase = taking
		return true, false, false
	case c.failed:
		return true, false, true
	case c.held > 0:
		e.hold(s, c, c.held-1)
		return true, true, c.held == 0 && !c.open
	}
	c.waiting = true
	e.state.Wait(e.owner(k), flow.Call)
	s.begin(e)
	p.phase = waiting
	return true, false, false
}

// stepCaller goes on with the program of a caller.
func (s *setup) stepCaller(w *world, i, j int) bool {
	e := &w.ends[i]
	p := &e.callers[j]
	steps := s.callers[i][j]
	if int(p.at) == len(steps) {
		*p = proc{phase: gone}
		return true
	}
	st := steps[p.at]
	switch {
	case st.note && p.phase == idle:
		e.state.Wait(nil, flow.Send)
		p.phase = sending
		return true
	case st.note:
		if !s.put(w, i, msg{kind: note, depth: st.depth}) {
			return false
		}
		e.state.Done(nil, flow.Send)
		p.phase, p.at = idle, p.at+1
		return true
	}
	k, m := int8(2*j), msg{kind: request, depth: st.depth, items: st.items}
	if p.body {
		k, m = k+1, msg{kind: request}
	}
	if p.phase != taking && p.phase != waiting {
		return s.ask(w, i, p, k, m, false)
	}
	ok, got, over := e.answer(s, p, k)
	switch {
	case over && e.calls[k].failed:
		*p = proc{phase: gone}
	case over && p.body:
		p.body, p.phase = false, taking
	case over:
		*p = proc{at: p.at + 1}
	case got && st.body && !p.body1:
		p.body, p.body1, p.phase = true, true, idle
	}
	return ok
}

// stepHandler goes on with a handler: it calls back, answers and returns.
func (s *setup) stepHandler(w *world, i, j int) bool {
	e := &w.ends[i]
	p := &e.handlers[j]
	k := int8(2*maxCallers + j)
	switch p.phase {
	case idle, slotting, asking:
		if p.phase == idle && p.req.depth == 0 {
			p.phase = replying
			return true
		}
		return s.ask(w, i, p, k, msg{kind: request, depth: p.req.depth - 1}, true)
	case taking, waiting:
		ok, _, over := e.answer(s, p, k)
		if over {
			p.phase = replying
		}
		return ok
	case replying:
		if p.req.kind == note || p.at > p.req.items {
			e.state.Finish(&p.flow)
			*p = proc{phase: gone}
			s.begin(e)
			return true
		}
		e.state.Wait(&p.flow, flow.Send)
		p.phase = sending
		return true
	}
	m := msg{kind: item, call: p.req.call}
	if p.at == p.req.items {
		m.kind = last
	}
	if !s.put(w, i, m) {
		return false
	}
	e.state.Done(&p.flow, flow.Send)
	p.phase, p.at = replying, p.at+1
	return true
}

// chaosSteps is what an end without rules may do.
func (s *setup) chaosSteps(w world, try func(func(*world) (bool, breach))) {
	try(func(w *world) (bool, breach) {
		if w.wires[0].n == 0 {
			return false, ""
		}
		take(w, 1)
		return true, ""
	})
	if w.ends[1].budget == 0 {
		return
	}
	kinds := []msg{{kind: request}, {kind: request, depth: 1}, {kind: note}}
	for k := range w.ends[0].calls {
		if w.ends[0].calls[k].open {
			kinds = append(kinds, msg{kind: item, call: int8(k)}, msg{kind: last, call: int8(k)})
		}
	}
	for _, m := range kinds {
		try(func(w *world) (bool, breach) {
			w.ends[1].budget--
			return s.put(w, 1, m), ""
		})
	}
}

// done reports whether all programs have come to their end.
func (w *world) done() bool {
	for i := range w.ends {
		e := &w.ends[i]
		for j := range e.callers {
			if e.callers[j].phase != gone {
				return false
			}
		}
		for j := range e.handlers {
			if e.handlers[j].phase != gone {
				return false
			}
		}
		if e.queued > 0 || w.wires[i].n > 0 {
			return false
		}
	}
	return true
}

// bounds checks what must hold at every moment.
func (s *setup) bounds(w *world) breach {
	for i := range w.ends {
		e := &w.ends[i]
		if i == 1 && s.chaos > 0 {
			continue
		}
		if n := s.unfinished(e); n > s.limits.Most || int(e.queued) > cmp.Or(s.maxQueued, s.limits.Most) {
			return breach(fmt.Sprintf("%d requests, of which %d wait: %+v", n, e.queued, e.state))
		}
		for k := range e.calls {
			if int(e.calls[k].held) > cmp.Or(s.maxHeld, s.limits.HardItems) {
				return breach(fmt.Sprintf("call %d holds %d messages", k, e.calls[k].held))
			}
		}
	}
	return ""
}
