package tmux

import "testing"

// A queue that nobody empties has a bound, keeps room for what is no output,
// and says what is missing where it is missing.
func TestEventQueueFull(t *testing.T) {
	q := eventQueue{wake: make(chan struct{}, 1)}
	e := Output{"%0", make([]byte, 10000)}
	for range 3000 {
		q.push(e, 10000)
	}
	if q.cost > maxQueued/2 {
		t.Errorf("%d bytes wait", q.cost)
	}
	kept := len(q.list)
	q.push(WindowAdd{"@1"}, 20)
	for range kept {
		if e, ok := q.pop(); !ok {
			t.Fatal("an event is missing")
		} else if _, is := e.(Output); !is {
			t.Fatalf("%T", e)
		}
	}
	if e, _ := q.pop(); e != (Lost{3000 - kept, (3000 - kept) * 10000}) {
		t.Errorf("%+v", e)
	}
	if e, _ := q.pop(); e != (WindowAdd{"@1"}) {
		t.Errorf("%+v", e)
	}
	if _, ok := q.pop(); ok || q.cost != 0 {
		t.Errorf("%d bytes wait in an empty queue", q.cost)
	}
	for range 1 << 20 {
		q.push(Unknown{}, 0)
	}
	if q.cost > maxQueued {
		t.Errorf("%d bytes wait", q.cost)
	}
	q.exit("over")
	last := Event(nil)
	for e, ok := q.pop(); ok; e, ok = q.pop() {
		last = e
	}
	if last != (Exit{"over"}) {
		t.Errorf("%+v", last)
	}
}
