package tmux

import "sync"

const (
	maxQueued = 8 << 20 // what events that wait may cost in bytes
	eventCost = 128     // of an event, beside its line
)

// An eventQueue holds the events that the program has not taken.
type eventQueue struct {
	wake chan struct{}

	mu   sync.Mutex
	list []queuedEvent
	cost int
	lost Lost
}

type queuedEvent struct {
	Event
	cost int
}

// push adds an event, or counts it among those that are lost. Output leaves half
// of the room to events that are rarer and cannot be captured afterwards.
func (q *eventQueue) push(e Event, size int) {
	cost := size + eventCost
	limit := maxQueued
	n := 0
	switch e := e.(type) {
	case Output:
		limit, n = maxQueued/2, len(e.Data)
	case ExtendedOutput:
		limit, n = maxQueued/2, len(e.Data)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cost+cost > limit {
		q.lost.Events++
		q.lost.Bytes += n
		return
	}
	q.flushLost()
	q.add(e, cost)
}

func (q *eventQueue) flushLost() {
	if q.lost.Events > 0 {
		q.add(q.lost, eventCost)
		q.lost = Lost{}
	}
}

func (q *eventQueue) add(e Event, cost int) {
	q.list = append(q.list, queuedEvent{e, cost})
	q.cost += cost
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		q.flushLost()
	}
	if len(q.list) == 0 {
		return nil, false
	}
	e := q.list[0]
	q.list[0] = queuedEvent{}
	q.list = q.list[1:]
	q.cost -= e.cost
	return e.Event, true
}

// exit adds the last event.
func (q *eventQueue) exit(reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flushLost()
	q.add(Exit{reason}, eventCost)
}
