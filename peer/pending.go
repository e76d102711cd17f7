package peer

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// A Pending is what a peer waits for, and what it has to answer.
type Pending struct {
	Calls    []PendingRequest // ours, with those that were given up and can still be answered
	Requests []PendingRequest // the other end's
}

// A PendingRequest is a request that was not answered completely.
type PendingRequest struct {
	Type  uint32
	ID    uint32        // as on the wire; 0 if it was not sent yet
	Age   time.Duration // since the call, or since it was received
	State PendingState
}

// A PendingState says how far a request has come.
type PendingState uint8

// The states.
const (
	Waiting    PendingState = iota // to be sent, or for a handler
	Unanswered                     // sent, without the end of its answer
	GivenUp                        // as Unanswered, and nobody waits for it
	Handled                        // by a handler that has not returned
	Later                          // its handler has returned, its answer comes later
)

// String returns the state in lower case: "given up".
func (s PendingState) String() string {
	return [...]string{"waiting", "unanswered", "given up", "handled", "later"}[s]
}

// Pending returns what is pending now, the oldest first. It is for diagnosis: a
// call that hangs is in one end's Calls, and in the other's Requests if it has
// come there. It costs time in proportion to what is pending.
func (p *Peer) Pending() Pending {
	now := time.Now()
	result := Pending{p.calls.pending(now), p.requests.pending(now)}
	for _, list := range [][]PendingRequest{result.Calls, result.Requests} {
		slices.SortStableFunc(list, func(a, b PendingRequest) int { return cmp.Compare(b.Age, a.Age) })
	}
	return result
}

func (t *calls) pending(now time.Time) (list []PendingRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.all {
		state := Waiting
		switch {
		case c.left:
			state = GivenUp
		case c.sent:
			state = Unanswered
		}
		list = append(list, PendingRequest{c.typ, c.id, now.Sub(c.since), state})
	}
	return list
}

func (q *requests) pending(now time.Time) (list []PendingRequest) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.begun {
		state := Handled
		if r.returned {
			state = Later
		}
		list = append(list, PendingRequest{r.header.Type, r.header.ID, now.Sub(r.since), state})
	}
	for _, r := range q.queue {
		list = append(list, PendingRequest{r.header.Type, r.header.ID, now.Sub(r.since), Waiting})
	}
	return list
}

// LogValue returns for each direction, type and state the number of requests
// and the age of the oldest, as "2, oldest 1.5s".
func (p Pending) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Attr{Key: "calls", Value: logValue(p.Calls)},
		slog.Attr{Key: "requests", Value: logValue(p.Requests)})
}

func logValue(list []PendingRequest) slog.Value {
	var keys []string
	count, oldest := make(map[string]int), make(map[string]time.Duration)
	for _, r := range list {
		key := fmt.Sprintf("type %d %s", r.Type, r.State)
		if count[key]++; count[key] == 1 {
			keys = append(keys, key)
		}
		oldest[key] = max(oldest[key], r.Age)
	}
	var attrs []slog.Attr
	for _, key := range keys {
		attrs = append(attrs, slog.String(key, fmt.Sprintf("%d, oldest %v", count[key], oldest[key].Round(time.Millisecond))))
	}
	return slog.GroupValue(attrs...)
}
