package turn

// A fifo is a queue of those who wait.
type fifo[T any] struct {
	items []T // items[head:]
	head  int
}

// maxIdle is for how many an empty fifo keeps its memory.
const maxIdle = 64

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) { q.items = append(q.items, v) }

// insert puts v before the item that is i-th now.
func (q *fifo[T]) insert(i int, v T) {
	if i == 0 && q.head > 0 {
		q.head--
		q.items[q.head] = v
		return
	}
	q.push(v)
	rest := q.items[q.head+i:]
	copy(rest[1:], rest)
	rest[0] = v
}

func (q *fifo[T]) at(i int) *T { return &q.items[q.head+i] }

func (q *fifo[T]) pop() T {
	v := q.items[q.head]
	q.remove(0)
	return v
}

func (q *fifo[T]) remove(i int) {
	var zero T
	if i == 0 {
		q.items[q.head] = zero
		q.head++
	} else {
		i += q.head
		copy(q.items[i:], q.items[i+1:])
		q.items[len(q.items)-1] = zero
		q.items = q.items[:len(q.items)-1]
	}
	switch n := q.len(); {
	case n == 0 && cap(q.items) > maxIdle:
		q.items, q.head = nil, 0
	case n == 0:
		q.items, q.head = q.items[:0], 0
	case q.head > maxIdle && q.head > n:
		copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
}

func (q *fifo[T]) clone() fifo[T] {
	return fifo[T]{items: append([]T(nil), q.items[q.head:]...)}
}
