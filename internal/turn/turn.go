// Package turn decides which of the goroutines that share one direction of a
// channel makes its system calls, and whom to wake when something has changed.
//
// One goroutine has the turn at a time. The others sleep, in the order in which
// they came, and whoever gives the turn up passes it to the next: one goroutine
// is woken for a change, and not all of them.
//
// The package holds the state and decides. Its caller locks, sleeps, wakes and
// makes the system calls, and asks Next before each time that it unlocks, until
// there is nobody to wake. So the state between two unlocks is one that somebody
// who is awake, or the peer, will change. test/turns explores the states that
// this code can reach, one by one.
package turn

// A Step is what a goroutine does next.
type Step uint8

// The steps.
const (
	Done   Step = iota // return: what it wants has happened
	Failed             // return the error that has ended the direction
	Sleep              // somebody else has the turn
	Work               // take the turn and make a system call
)

// Receivers is the turn at a Conn's receiving direction. W names a goroutine
// that sleeps.
type Receivers[W comparable] struct {
	busy    bool // somebody has the turn
	ended   bool
	nudged  bool // somebody was woken for a message and has not looked yet
	waiting fifo[W]
}

// Step tells what a goroutine does that has found no message. mine says that it
// has the turn.
func (r *Receivers[W]) Step(mine bool) Step {
	switch {
	case r.ended:
		return Failed
	case r.busy && !mine:
		return Sleep
	}
	return Work
}

// Busy reports whether somebody has the turn.
func (r *Receivers[W]) Busy() bool { return r.busy }

// Take gives the turn to the caller, whom Step told to work.
func (r *Receivers[W]) Take() { r.busy = true }

// Leave gives the turn up.
func (r *Receivers[W]) Leave() { r.busy = false }

// End says that the direction has ended.
func (r *Receivers[W]) End() { r.ended = true }

// Wait adds w, who sleeps, behind the others; in front of them if it was woken
// for a message that another one took.
func (r *Receivers[W]) Wait(w W, again bool) {
	if again {
		r.waiting.insert(0, w)
	} else {
		r.waiting.push(w)
	}
}

// Looked says that the caller was woken without getting the turn.
func (r *Receivers[W]) Looked() { r.nudged = false }

// GiveUp removes w, and reports false if Next has returned it already: then it
// has the turn, or must say Looked.
func (r *Receivers[W]) GiveUp(w W) bool { return giveUp(&r.waiting, w) }

func giveUp[W comparable](q *fifo[W], w W) bool {
	for i := range q.len() {
		if *q.at(i) == w {
			q.remove(i)
			return true
		}
	}
	return false
}

// Next returns who must be woken now, and whether it has the turn then. ready
// says that there is a message to take.
//
//	ended    ready  nudged  busy   | wake
//	yes      -      -       -      | everyone
//	no       yes    no      -      | the first, to look
//	no       -      -       no     | the first, who has the turn
//	otherwise                      | nobody
func (r *Receivers[W]) Next(ready bool) (w W, mine, ok bool) {
	switch {
	case r.waiting.len() == 0:
		return w, false, false
	case r.ended:
		return r.waiting.pop(), false, true
	case ready && !r.nudged:
		r.nudged = true
		return r.waiting.pop(), false, true
	case !r.busy:
		r.busy = true
		return r.waiting.pop(), true, true
	}
	return w, false, false
}

// Clone returns a copy.
func (r *Receivers[W]) Clone() *Receivers[W] {
	c := *r
	c.waiting = r.waiting.clone()
	return &c
}

// Senders is the turn at a Conn's sending direction. Some goroutines wait for
// their message to be written, others for room in the queue. Whoever makes room
// queues their messages for them, so that each is woken once, in the end.
type Senders[W comparable] struct {
	busy  bool // somebody has the turn
	ahead bool // and waits for room, ahead of those in room
	ended bool

	written fifo[target[W]] // by end
	room    fifo[W]
}

// A target is somebody who waits until the queue is written up to a stream
// offset.
type target[W any] struct {
	w   W
	end uint64
}

// Step tells what a goroutine does. written says that its message is written,
// mine that the goroutine has the turn.
//
//	written  ended  busy, not mine | step
//	yes      -      -              | Done
//	no       yes    -              | Failed
//	no       no     yes            | Sleep
//	no       no     no             | Work
func (s *Senders[W]) Step(written, mine bool) Step {
	switch {
	case written:
		return Done
	case s.ended:
		return Failed
	case s.busy && !mine:
		return Sleep
	}
	return Work
}

// Idle reports whether nobody has the turn and nobody waits: a message may be
// written without the queue, if that is empty.
func (s *Senders[W]) Idle() bool { return !s.busy && s.room.len() == 0 && s.written.len() == 0 }

// Crowded reports whether others wait for room, so that a new message must wait
// behind them.
func (s *Senders[W]) Crowded() bool { return s.ahead || s.room.len() > 0 }

// Take gives the turn to the caller, whom Step told to work.
func (s *Senders[W]) Take() { s.busy = true }

// Leave gives the turn up.
func (s *Senders[W]) Leave() { s.busy, s.ahead = false, false }

// End says that the direction has ended.
func (s *Senders[W]) End() { s.ended = true }

// WaitWritten adds w, who sleeps until the queue is written up to end.
func (s *Senders[W]) WaitWritten(w W, end uint64) {
	i := s.written.len()
	for i > 0 && s.written.at(i-1).end > end {
		i--
	}
	s.written.insert(i, target[W]{w, end})
}

// WaitRoom adds w, who sleeps until its message is written, and for which there
// is no room, behind the others.
func (s *Senders[W]) WaitRoom(w W) { s.room.push(w) }

// First returns whose message is the next to be queued.
func (s *Senders[W]) First() (w W, ok bool) {
	if s.ahead || s.room.len() == 0 {
		return w, false
	}
	return *s.room.at(0), true
}

// Admit says that First's message was queued, up to end.
func (s *Senders[W]) Admit(end uint64) { s.WaitWritten(s.room.pop(), end) }

// Refuse says that First's message cannot be queued. The caller wakes it.
func (s *Senders[W]) Refuse() { s.room.pop() }

// Queued says that the caller, who has the turn, has queued its message.
func (s *Senders[W]) Queued() { s.ahead = false }

// GiveUp removes w, and reports false if Next has returned it already.
func (s *Senders[W]) GiveUp(w W) bool {
	for i := range s.written.len() {
		if s.written.at(i).w == w {
			s.written.remove(i)
			return true
		}
	}
	return giveUp(&s.room, w)
}

// Next returns who must be woken now, and whether it has the turn then. done is
// the stream offset up to which the queue is written.
//
//	                               | wake
//	ended                          | everyone
//	a message of theirs is written | those who wait for it
//	not busy                       | the first who waits for his message, who has the
//	                               | turn then; if there is none, the first who waits
//	                               | for room, the same
//	otherwise                      | nobody
func (s *Senders[W]) Next(done uint64) (w W, mine, ok bool) {
	switch {
	case s.written.len() > 0 && (s.ended || s.written.at(0).end <= done):
		return s.written.pop().w, false, true
	case s.room.len() > 0 && s.ended:
		return s.room.pop(), false, true
	case s.busy || s.ended:
		return w, false, false
	case s.written.len() > 0:
		s.busy = true
		return s.written.pop().w, true, true
	case s.room.len() > 0:
		s.busy, s.ahead = true, true
		return s.room.pop(), true, true
	}
	return w, false, false
}

// Clone returns a copy.
func (s *Senders[W]) Clone() *Senders[W] {
	c := *s
	c.written, c.room = s.written.clone(), s.room.clone()
	return &c
}
