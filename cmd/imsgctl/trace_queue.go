package main

import (
	"context"
	"sync"
	"time"

	"example.org/imsg/internal/capture"
)

// An item is what the engine of trace has seen.
type item struct {
	side   capture.Side
	write  bool
	closed bool
	call   capture.Call
	at     int    // of the call's bytes, in the queue's memory
	text   string // a warning
}

// A queue holds items, and copies of what the calls moved, until somebody has
// time for them.
type queue struct {
	mu    sync.Mutex
	items []item
	bytes []byte
	ended bool
	wake  chan struct{}
	room  chan struct{}

	spareItems []item // to be used again
	spareBytes []byte
	tick       *time.Ticker
}

const (
	queueMost  = 64 << 20 // bytes that wait
	queueTick  = 200 * time.Millisecond
	queueSpare = 4 << 20 // bytes that are kept
)

func (q *queue) init() {
	q.wake, q.room, q.tick = make(chan struct{}, 1), make(chan struct{}, 1), time.NewTicker(queueTick)
}

// put appends an item, whose bytes it copies. While there are too many, it waits
// for those before, or for ctx to be done.
func (q *queue) put(ctx context.Context, i item) {
	q.mu.Lock()
	for len(q.bytes) > queueMost && ctx.Err() == nil {
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-ctx.Done():
		}
		q.mu.Lock()
	}
	i.at = len(q.bytes)
	q.bytes = append(q.bytes, i.call.Bytes...)
	q.items = append(q.items, i)
	q.mu.Unlock()
	notify(q.wake)
}

// end says that no items follow.
func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	notify(q.wake)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take waits for items and hands them to f. While none come it calls tick now
// and then. It returns false behind the last item.
func (q *queue) take(f func(*item), tick func(time.Time) error) bool {
	select {
	case <-q.wake:
	case now := <-q.tick.C:
		tick(now)
	}
	q.mu.Lock()
	items, bytes, ended := q.items, q.bytes, q.ended
	q.items, q.bytes = q.spareItems[:0], q.spareBytes[:0]
	q.mu.Unlock()
	notify(q.room)
	for k := range items {
		i := &items[k]
		i.call.Bytes = bytes[i.at : i.at+len(i.call.Bytes)]
		f(i)
	}
	clear(items)
	q.spareItems, q.spareBytes = items, bytes
	if cap(bytes) > queueSpare {
		q.spareItems, q.spareBytes = nil, nil
	}
	return !ended
}
