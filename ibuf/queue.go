package ibuf

// Queue is a first-in first-out list of buffers, linked through the buffers
// themselves, so queueing allocates nothing. It owns what it holds. The zero
// Queue is empty and ready; a Queue must not be copied once it was used. One
// goroutine at a time may use a Queue.
// It corresponds to ibufq_new.
type Queue struct {
	head, tail *Buffer
	n          int
}

// Push appends b, which the queue owns from now on: the caller neither uses
// nor closes it. A buffer that is nil, closed or in a queue already is
// ErrInvalid, and the queue is unchanged.
// It corresponds to ibufq_push.
func (q *Queue) Push(b *Buffer) error {
	if err := b.give(); err != nil {
		return err
	}
	if q.tail == nil {
		q.head = b
	} else {
		q.tail.next = b
	}
	q.tail = b
	q.n++
	return nil
}

// Pop removes the oldest buffer and returns it; the caller owns it and closes
// it. It returns nil if the queue is empty.
// It corresponds to ibufq_pop.
func (q *Queue) Pop() *Buffer {
	b := q.head
	if b == nil {
		return nil
	}
	q.head = b.next
	if q.head == nil {
		q.tail = nil
	}
	q.n--
	b.next, b.queued = nil, false
	return b
}

// Len returns the number of buffers in the queue.
// It corresponds to ibufq_queuelen.
func (q *Queue) Len() int { return q.n }

// Concat moves everything in from to the end of q, in order and at the same
// cost for any length, and leaves from empty. If both are the same queue
// nothing happens.
// It corresponds to ibufq_concat.
func (q *Queue) Concat(from *Queue) {
	if from == q || from.head == nil {
		return
	}
	if q.tail == nil {
		q.head = from.head
	} else {
		q.tail.next = from.head
	}
	q.tail = from.tail
	q.n += from.n
	*from = Queue{}
}

// Clear closes every buffer in the queue, and with it the file it may hold,
// and leaves the queue empty and ready.
// It corresponds to ibufq_flush and ibufq_free.
func (q *Queue) Clear() {
	for b := q.Pop(); b != nil; b = q.Pop() {
		b.Close() // nobody could act on a failed close here
	}
}
