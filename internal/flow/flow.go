// Package flow decides when one end of a channel reads, which requests it takes
// and when a handler begins, from counts of who waits for whom. It has no locks
// and no clock: package peer counts with a State under its lock, and test/flow
// explores every interleaving of two ends that count with the same State.
//
// An end reads what is for it and for nobody else: the answers that its own
// goroutines wait for, and requests of the other end, which wait until a handler
// takes them. An end that stops reading makes the other end wait, which is how
// the memory of a queue is bounded. But two ends that both stop while each has
// somebody who waits for the other would do so for ever.
package flow

// Limits are one end's bounds.
type Limits struct {
	Workers   int // handlers that run at once; 1: one after the other, whatever they wait for
	Requests  int // requests that wait for a handler before reading pauses
	Most      int // requests that wait or are handled, while somebody here waits for the other end
	Items     int // messages that a call holds before reading pauses
	HardItems int // messages that a call holds while somebody waits for the other end
}

// A State counts what an end's decisions rest on. Its zero value is an end at
// rest.
type State struct {
	Queued   int  // requests that no handler has begun
	Running  int  // handlers that need nothing of the other end
	Sending  int  // handlers that wait until the other end reads
	Calling  int  // handlers that wait for an answer of the other end
	Waiting  int  // goroutines, handlers or not, that wait for the other end
	Full     int  // calls that hold Limits.Items messages or more
	Overfull int  // of these, that hold Limits.HardItems or more
	TimedOut bool // a PauseBriefly has ended in vain
}

// An Action is what the reader does next.
type Action uint8

// The actions.
const (
	Read         Action = iota // receive one message
	Pause                      // until the State changes
	PauseBriefly               // until the State changes or a time has passed, which sets TimedOut
)

// A Case is one row of the table of cases: what holds, and what the reader does.
type Case struct {
	Name string
	When func(Limits, State) bool
	Do   Action
}

// Cases is the table. The first row that holds decides.
var Cases = [...]Case{
	{"no room, and a handler that needs nothing will make some",
		func(l Limits, s State) bool { return !l.Room(s) && s.Running > 0 }, Pause},
	{"enough requests wait, and nobody here waits for the other end",
		func(l Limits, s State) bool { return s.Waiting == 0 && s.Queued >= l.Requests }, Pause},
	{"a stream is full, and nobody here waits for the other end",
		func(_ Limits, s State) bool { return s.Waiting == 0 && s.Full > 0 }, Pause},
	{"what is in the way has had its time",
		func(_ Limits, s State) bool { return s.TimedOut }, Read},
	{"no room, and handlers wait for the other end to read",
		func(l Limits, s State) bool { return !l.Room(s) && s.Sending > 0 }, PauseBriefly},
	{"a stream has no room",
		func(_ Limits, s State) bool { return s.Overfull > 0 }, PauseBriefly},
	{"there is room, or only the other end can make some",
		func(Limits, State) bool { return true }, Read},
}

// Next returns what the reader does in the state s, and which row says so.
func (l Limits) Next(s State) (do Action, row int) {
	for i := range Cases {
		if Cases[i].When(l, s) {
			return Cases[i].Do, i
		}
	}
	panic("flow: the last case always holds")
}

// Room reports whether one more request may be taken. If there is none when a
// request was read, the other end is ended for having more than Limits.Most that
// are not finished: as long as handlers here can finish some, nothing is read.
func (l Limits) Room(s State) bool {
	return s.Queued+s.Running+s.Sending+s.Calling < l.Most
}

// Begins reports whether a handler may begin. With several workers, one that
// waits for an answer is not counted: the requests that it waits for, at the
// other end, may wait for what this end has to handle.
func (l Limits) Begins(s State) bool {
	if l.Workers == 1 {
		return s.Running+s.Sending+s.Calling == 0
	}
	return s.Running+s.Sending < l.Workers
}

// A Wait is what a goroutine waits for.
type Wait uint8

// The waits.
const (
	Send Wait = iota // until the other end reads
	Call             // for an answer of the other end
)

// A Handler is what a State remembers of one request. Its zero value has not
// begun.
type Handler struct {
	running bool
	waits   [2]int // goroutines that wait on its behalf, by Wait
}

// Begin moves a request from the queue to a handler.
func (s *State) Begin(h *Handler) {
	s.Queued--
	h.running = true
	s.count(h, +1)
}

// Finish is the end of Begin. Goroutines that the handler leaves behind are
// counted in Waiting only.
func (s *State) Finish(h *Handler) {
	s.count(h, -1)
	h.running = false
}

// Begun reports whether h is at work.
func (h *Handler) Begun() bool { return h != nil && h.running }

// Wait counts a goroutine that waits for the other end, on behalf of h if that
// is not nil.
func (s *State) Wait(h *Handler, w Wait) { s.wait(h, w, +1) }

// Done is the end of Wait.
func (s *State) Done(h *Handler, w Wait) { s.wait(h, w, -1) }

func (s *State) wait(h *Handler, w Wait, d int) {
	s.Waiting += d
	if h != nil {
		s.count(h, -1)
		h.waits[w] += d
		s.count(h, +1)
	}
}

// count adds a handler to those of its kind, or takes it away.
func (s *State) count(h *Handler, d int) {
	switch {
	case !h.running:
	case h.waits[Call] > 0:
		s.Calling += d
	case h.waits[Send] > 0:
		s.Sending += d
	default:
		s.Running += d
	}
}

// Hold notes that a call that held n messages holds now ones.
func (s *State) Hold(l Limits, n, now int) {
	s.Full += between(l.Items, n, now)
	s.Overfull += between(l.HardItems, n, now)
}

// between is +1 if limit is reached on the way from n to now, and -1 if it is
// left.
func between(limit, n, now int) int {
	switch {
	case n < limit && now >= limit:
		return +1
	case n >= limit && now < limit:
		return -1
	}
	return 0
}
