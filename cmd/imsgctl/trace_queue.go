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
	text   string // a warning
}

// A queue holds items, and copies of what the calls moved, until somebody has
// time for them.
type queue struct {
	mu    sync.Mutex
	items []item
	size  int // bytes of the calls in items
	ended bool
	wake  chan struct{} // there are items
	rush  chan struct{} // there are many, or the last
	room  chan struct{}

	block       []byte   // that bytes are copied to
	full        [][]byte // blocks before, with bytes of items
	spareItems  []item   // to be used again
	spareBlocks [][]byte
}

const (
	queueMost   = 64 << 20 // bytes that wait
	queueMany   = 1 << 20
	queuePause  = 5 * time.Millisecond // to let more come: being woken for each costs the programs time
	queueTick   = 200 * time.Millisecond
	queueBlock  = 256 << 10
	queueSpares = 16
)

func (q *queue) init() {
	q.wake, q.rush, q.room = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
}

// put appends an item, whose bytes it copies. While there are too many, it waits
// for those before, or for ctx to be done.
func (q *queue) put(ctx context.Context, i item) {
	q.mu.Lock()
	for q.size > queueMost && ctx.Err() == nil {
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-ctx.Done():
		}
		q.mu.Lock()
	}
	i.call.Bytes = q.copy(i.call.Bytes)
	q.items = append(q.items, i)
	first, many := len(q.items) == 1, q.size > queueMany
	q.mu.Unlock()
	if first {
		notify(q.wake)
	}
	if many {
		notify(q.rush)
	}
}

func (q *queue) copy(p []byte) []byte {
	if len(p) > cap(q.block)-len(q.block) {
		q.full = append(q.full, q.block)
		if n := len(q.spareBlocks); n > 0 && len(p) <= queueBlock {
			q.block, q.spareBlocks = q.spareBlocks[n-1], q.spareBlocks[:n-1]
		} else {
			q.block = make([]byte, 0, max(queueBlock, len(p)))
		}
	}
	q.size += len(p)
	q.block = append(q.block, p...)
	return q.block[len(q.block)-len(p):]
}

// end says that no items follow.
func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	notify(q.wake)
	notify(q.rush)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take waits for items and hands them to f. While none come it calls tick now
// and then. It returns false behind the last item.
func (q *queue) take(f func(*item), tick func(time.Time)) bool {
	select {
	case <-q.wake:
		select {
		case <-q.rush:
		case <-time.After(queuePause):
		}
	case now := <-time.After(queueTick):
		tick(now)
	}
	q.mu.Lock()
	items, full, ended := q.items, q.full, q.ended
	q.items, q.full, q.size = q.spareItems[:0], nil, 0
	q.mu.Unlock()
	notify(q.room)
	for k := range items {
		f(&items[k])
	}
	clear(items)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spareItems = items
	for _, b := range full {
		if cap(b) == queueBlock && len(q.spareBlocks) < queueSpares {
			q.spareBlocks = append(q.spareBlocks, b[:0])
		}
	}
	return !ended
}
