// Package turns_test explores how the goroutines of a Conn share a direction:
// every interleaving of a few of them, with contexts that end, Close, a peer
// and a small socket, one step at a time between two unlocks of the mutex. Who
// waits, works and is woken is decided by package turn, as in a Conn; the steps
// around it are those of send.go and receive.go.
package turns_test

import (
	"strings"
	"testing"
)

// A world is a state of the model.
type world interface {
	// next calls yield with a name and the state behind it for each step that
	// somebody can make.
	next(yield func(step string, w world))
	// key is the same for equal states only.
	key() string
	// check returns what is wrong with the state, or "". stuck says that it
	// has no next.
	check(stuck bool) string
}

// explore visits every state that can be reached from w, and reports the
// shortest way to one that is wrong, or one that comes again: then somebody is
// busy without an end. It returns the number of states.
func explore(t *testing.T, w world) int {
	type visit struct {
		w    world
		from int
		step string
		next []int
		in   int // how many steps lead here
	}
	numbers := map[string]int{w.key(): 0}
	visits := []visit{{w: w}}
	way := func(i int) string {
		var steps []string
		for k := i; k != 0; k = visits[k].from {
			steps = append([]string{visits[k].step}, steps...)
		}
		return strings.Join(steps, ", ")
	}
	for i := 0; i < len(visits); i++ {
		w := visits[i].w
		visits[i].w = nil
		w.next(func(step string, n world) {
			k := n.key()
			j, ok := numbers[k]
			if !ok {
				j = len(visits)
				numbers[k] = j
				visits = append(visits, visit{w: n, from: i, step: step})
			}
			visits[i].next = append(visits[i].next, j)
			visits[j].in++
		})
		if wrong := w.check(len(visits[i].next) == 0); wrong != "" {
			t.Fatalf("%s\nafter: %s\nstate: %s", wrong, way(i), w.key())
		}
	}
	// In a graph without circles every state can be taken away once nothing
	// that is left leads to it.
	free, left := []int{0}, len(visits)
	for ; len(free) > 0; left-- {
		i := free[len(free)-1]
		free = free[:len(free)-1]
		for _, j := range visits[i].next {
			if visits[j].in--; visits[j].in == 0 {
				free = append(free, j)
			}
		}
	}
	if left > 0 {
		for i := range visits {
			if visits[i].in > 0 {
				t.Fatalf("a state comes again\nafter: %s", way(i))
			}
		}
	}
	return len(visits)
}
