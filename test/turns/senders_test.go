package turns_test

import (
	"fmt"
	"slices"
	"testing"
	"unicode"

	"example.org/imsg/internal/turn"
)

// Where a sender is, between two steps.
type place uint8

const (
	start     place = iota
	gathering       // lets others queue first
	working         // has the turn, and is about to make a system call
	writing         // in the system call
	wrote           // behind it
	parked          // waits for the socket to take more, with the turn
	roomWait        // sleeps: there is no room for its message
	writeWait       // sleeps until its message is written
	gaveUp          // its context has ended: about to withdraw
	finished
)

var places = [...]string{"start", "gathering", "working", "writing", "wrote", "parked", "room", "written", "gave up", "finished"}

// A result is what Send or Flush returned.
type result uint8

const (
	none result = iota
	sent
	ended     // the direction has
	cancelled // and nothing of the message was sent
	torn      // cancelled, and the rest of the message stays queued
)

// A sender is a goroutine that sends one message. With size 0 it flushes, and
// with a negative size it only composes.
type sender struct {
	size   int
	large, // others cannot queue its message
	canCancel, cancelled,
	composing, // not queued yet
	gathered,
	mine, // has the turn
	done, // is told that its message is written, and needs the lock no more
	woken, wokenMine bool // a token waits for it
	at  place
	end uint64
	res result
}

type message struct {
	id      int
	at, end uint64 // what is not written
}

// senders is the sending direction of a Conn.
type senders struct {
	turn   *turn.Senders[int]
	all    []sender
	queue  []message
	limit  int // messages in the queue
	end    uint64
	sock   int // bytes in the socket
	room   int // and how many it has room for
	stream []int
	inCall int // bytes that the system call under way may take
	closes bool
	closed bool
	broken uint64
	write  bool // a system call reads the queue
}

func (w *senders) clone() *senders {
	c := *w
	c.turn = w.turn.Clone()
	c.all = slices.Clone(w.all)
	c.queue = slices.Clone(w.queue)
	c.stream = slices.Clone(w.stream)
	return &c
}

func (w *senders) key() string {
	return fmt.Sprintf("%v %v %v %d %d %v %d %v %v %v %d", *w.turn, w.all, w.queue, w.end, w.sock, w.stream, w.inCall, w.closes, w.closed, w.write, w.broken)
}

func (g sender) String() string {
	return fmt.Sprintf("{%d %t %s end %d mine %t woken %t %t cancel %t %t composing %t gathered %t done %t result %d}", g.size, g.large, places[g.at], g.end, g.mine,
		g.woken, g.wokenMine, g.canCancel, g.cancelled, g.composing, g.gathered, g.done, g.res)
}

func (w *senders) done() uint64 {
	if len(w.queue) == 0 {
		return w.end
	}
	return w.queue[0].at
}

func (w *senders) sent(end uint64) bool {
	if w.closed {
		return w.broken >= end
	}
	return w.done() >= end
}

func (w *senders) wakeNext() {
	for {
		i, mine, ok := w.turn.Next(w.done())
		if !ok {
			return
		}
		g := &w.all[i]
		g.woken, g.wokenMine = true, mine
		g.done = !mine && !g.composing && w.sent(g.end)
	}
}

func (w *senders) leave(g *sender) {
	if g.mine {
		w.turn.Leave()
		g.mine = false
		w.admit()
	}
	w.wakeNext()
}

// put queues g's message, if there is room.
func (w *senders) put(i int) bool {
	if len(w.queue) == w.limit {
		return false
	}
	g := &w.all[i]
	w.queue = append(w.queue, message{i, w.end, w.end + uint64(g.size)})
	w.end += uint64(g.size)
	g.composing, g.end = false, w.end
	return true
}

// admit is sender.admit.
func (w *senders) admit() {
	for {
		i, ok := w.turn.First()
		if !ok || w.all[i].large || !w.put(i) {
			return
		}
		w.turn.Admit(w.all[i].end)
		w.all[i].at = writeWait
	}
}

func (w *senders) finish(g *sender, r result) {
	w.leave(g)
	g.at, g.res = finished, r
}

// work takes the turn: Conn's work up to its system call.
func (w *senders) work(g *sender) {
	g.mine = true
	w.turn.Take()
	w.wakeNext()
	g.at = working
}

// compose is sender.compose from where it has the lock.
func (w *senders) compose(i int) {
	g := &w.all[i]
	if w.closed {
		w.finish(g, ended)
		return
	}
	if !w.turn.Crowded() && w.put(i) {
		w.flush(i)
		return
	}
	w.turn.WaitRoom(i)
	w.wakeNext()
	g.at = roomWait
}

// goOn is the loop of sender.compose.
func (w *senders) goOn(i int) {
	g := &w.all[i]
	switch {
	case g.done:
		g.at, g.res = finished, sent
	case !g.composing: // others have queued its message
		w.flush(i)
	case w.closed:
		w.finish(g, ended)
	case !g.mine:
		panic("woken for nothing")
	case w.put(i):
		w.turn.Queued()
		w.admit()
		w.flush(i)
	default:
		w.work(g)
	}
}

// flush is sender.flush from where it has the lock.
func (w *senders) flush(i int) {
	g := &w.all[i]
	switch w.turn.Step(w.sent(g.end), g.mine) {
	case turn.Done:
		w.finish(g, sent)
	case turn.Failed:
		w.finish(g, ended)
	case turn.Sleep:
		w.turn.WaitWritten(i, g.end)
		w.wakeNext()
		g.at = writeWait
	case turn.Work:
		if !g.gathered && !w.turn.Crowded() {
			g.gathered = true
			w.wakeNext()
			g.at = gathering
			return
		}
		w.work(g)
	}
}

// fails is what follows when waiting has ended.
func (w *senders) fails(i int) {
	g := &w.all[i]
	w.leave(g)
	switch {
	case g.composing, g.size == 0:
		g.at, g.res = finished, cancelled
	case w.closed:
		g.at, g.res = finished, ended
	default:
		g.at = gaveUp
	}
}

func (w *senders) withdraw(i int) {
	g := &w.all[i]
	g.at = finished
	switch k := slices.IndexFunc(w.queue, func(m message) bool { return m.end == g.end }); {
	case w.sent(g.end):
		g.res = sent
	case w.closed:
		g.res = ended
	case w.queue[k].at == g.end-uint64(g.size):
		w.queue = slices.Delete(w.queue, k, k+1)
		w.admit()
		w.wakeNext()
		g.res = cancelled
	default:
		g.res = torn
	}
}

// take moves n bytes of the queue to the socket.
func (w *senders) take(n int) {
	for range n {
		m := &w.queue[0]
		w.stream = append(w.stream, m.id)
		w.sock++
		if m.at++; m.at == m.end {
			w.queue = w.queue[1:]
		}
	}
}

func (w *senders) next(yield func(string, world)) {
	step := func(name string, i int, f func(c *senders, g *sender)) {
		c := w.clone()
		f(c, &c.all[i])
		yield(fmt.Sprintf("%d %s", i, name), c)
	}
	for i, g := range w.all {
		if g.canCancel && !g.cancelled && g.at != finished {
			step("cancelled", i, func(_ *senders, g *sender) { g.cancelled = true })
		}
		switch g.at {
		case start:
			switch {
			case g.cancelled:
				step("starts late", i, func(_ *senders, g *sender) { g.at, g.res = finished, cancelled })
			case g.size == 0:
				step("flushes", i, func(c *senders, g *sender) {
					if c.closed {
						g.at, g.res = finished, ended
						return
					}
					g.end = c.end
					c.flush(i)
				})
			case g.size < 0:
				step("only composes", i, func(c *senders, g *sender) {
					g.at, g.size = finished, -g.size
					switch {
					case c.closed:
						g.res = ended
					case len(c.queue) < c.limit:
						c.queue = append(c.queue, message{i, c.end, c.end + uint64(g.size)})
						c.end += uint64(g.size)
					}
				})
			case !w.closed && w.turn.Idle() && len(w.queue) == 0 && w.sock < w.room: // direct
				for n := 1; n <= min(g.size, w.room-w.sock); n++ {
					step(fmt.Sprintf("writes %d directly", n), i, func(c *senders, g *sender) {
						c.queue = append(c.queue, message{i, c.end, c.end + uint64(g.size)})
						c.end += uint64(g.size)
						g.end = c.end
						c.take(n)
						c.flush(i)
					})
				}
			default:
				step("composes", i, func(c *senders, g *sender) {
					g.composing = true
					c.compose(i)
				})
			}
		case gathering:
			step("gathered", i, func(c *senders, _ *sender) { c.flush(i) })
		case working:
			step("calls", i, func(c *senders, g *sender) {
				if c.write {
					panic("two system calls")
				}
				c.write, g.at = true, writing
				c.inCall = int(c.end - c.done())
				if c.closed {
					c.inCall = 0
				}
				// What is withdrawn leaves gaps.
				n := 0
				for _, m := range c.queue {
					n += int(m.end - m.at)
				}
				c.inCall = min(c.inCall, n)
			})
		case writing:
			most := min(w.inCall, w.room-w.sock)
			if most == 0 {
				step("cannot write", i, func(c *senders, g *sender) {
					c.write, g.at = false, parked
					if c.closed {
						c.queue, g.at = nil, wrote
					}
					if c.inCall == 0 {
						g.at = wrote
					}
				})
			}
			for n := 1; n <= most; n++ {
				step(fmt.Sprintf("writes %d", n), i, func(c *senders, g *sender) {
					c.take(n)
					c.write, g.at = false, wrote
					if c.closed {
						c.queue = nil
						return
					}
					c.admit()
				})
			}
		case wrote:
			step("goes on", i, func(c *senders, _ *sender) { c.goOn(i) })
		case parked:
			switch {
			case w.closed:
				step("hears of the end", i, func(c *senders, _ *sender) { c.goOn(i) })
			case w.sock < w.room:
				step("can write", i, func(_ *senders, g *sender) { g.at = working })
			}
			if g.cancelled {
				step("gives up", i, func(c *senders, _ *sender) { c.fails(i) })
			}
		case roomWait, writeWait:
			if g.woken {
				step("woken", i, func(c *senders, g *sender) {
					g.woken, g.mine = false, g.wokenMine
					c.goOn(i)
				})
			}
			if g.cancelled {
				step("gives up", i, func(c *senders, g *sender) {
					if c.turn.GiveUp(i) {
						c.admit()
					} else {
						if !g.woken {
							panic("in no list and not woken")
						}
						g.woken, g.mine = false, g.wokenMine
						if g.done {
							g.at, g.res = finished, sent
							return
						}
					}
					c.fails(i)
				})
			}
		case gaveUp:
			if !w.write {
				step("withdraws", i, func(c *senders, _ *sender) { c.withdraw(i) })
			}
		}
	}
	if w.sock > 0 {
		c := w.clone()
		c.sock--
		yield("peer reads", c)
	}
	if w.closes && !w.closed {
		c := w.clone()
		c.broken, c.closed = c.done(), true
		c.turn.End()
		if !c.write {
			c.queue = nil
		}
		c.wakeNext()
		yield("close", c)
	}
}

func (w *senders) check(stuck bool) string {
	turns := 0
	for _, g := range w.all {
		if g.mine || g.woken && g.wokenMine {
			turns++
		}
		if stuck && g.at != finished {
			return "somebody waits for ever"
		}
	}
	if turns > 1 {
		return "two have the turn"
	}
	// Until the one that has written goes on, nobody is woken.
	if !slices.ContainsFunc(w.all, func(g sender) bool { return g.at == wrote }) {
		waiting, late := false, false
		for _, g := range w.all {
			switch {
			case g.at == writeWait && !g.woken && w.sent(g.end):
				return "somebody sleeps whose message is written"
			case g.at == roomWait && !g.woken:
				waiting = true
			}
			// These queue their message, and others', when they run with the turn.
			late = late || g.large || g.composing && (g.mine || g.wokenMine)
		}
		switch {
		case waiting && !late && len(w.queue) < w.limit:
			return "somebody waits for room that is there"
		case waiting && turns == 0:
			return "somebody waits for room, and nobody has the turn"
		}
	}
	if !stuck {
		return ""
	}
	if !w.closed && !w.turn.Idle() {
		return "the turn is taken, or somebody is in a list"
	}
	// Messages are whole, but for the last one, and none comes twice.
	got := make([]int, len(w.all))
	for i, id := range w.stream {
		if got[id]++; got[id] > 1 && w.stream[i-1] != id {
			return fmt.Sprintf("message %d is torn or comes twice: %v", id, w.stream)
		}
	}
	for i, g := range w.all {
		n := got[i]
		switch {
		case n > g.size:
			return fmt.Sprintf("message %d comes twice", i)
		case g.res == sent && n != g.size:
			return fmt.Sprintf("message %d was sent, %d bytes of %d have come", i, n, g.size)
		case g.res == cancelled && n != 0:
			return fmt.Sprintf("message %d was taken back, and %d bytes have come", i, n)
		case g.res == torn && n == 0:
			return fmt.Sprintf("message %d stays queued, but nothing of it was written", i)
		}
	}
	last := -1
	for _, id := range w.stream {
		if last >= 0 && id != last && got[last] < w.all[last].size {
			return fmt.Sprintf("message %d is torn: %v", last, w.stream)
		}
		last = id
	}
	return ""
}

// TestSenders explores senders, some of whom give up, a Flush, and a Close, for
// queues and sockets of several sizes.
func TestSenders(t *testing.T) {
	for _, tt := range []struct {
		name        string
		sizes       []int  // 0: a Flush
		cancels     string // y: may give up; Y, N: the same with a large message
		limit, room int
		closes      bool
	}{
		{"one", []int{3}, "y", 1, 1, true},
		{"two, narrow", []int{2, 2}, "yy", 1, 1, true},
		{"two", []int{2, 1}, "yy", 2, 2, true},
		{"two and a Flush", []int{2, 1, 0}, "yny", 1, 1, true},
		{"three, narrow", []int{1, 1, 1}, "yyy", 1, 1, false},
		{"three, of which two give up", []int{1, 2, 1}, "nyy", 2, 1, false},
		{"three, and Close", []int{1, 1, 1}, "nny", 1, 1, true},
		{"four, narrow", []int{1, 1, 1, 1}, "nnny", 1, 1, false},
		{"a composed message in the way", []int{-2, 1, 1}, "nyy", 1, 1, false},
		{"composed messages in the way", []int{-1, 2, -1, 1}, "nynn", 2, 1, false},
		{"four", []int{1, 1, 1, 1}, "nnyn", 2, 2, false},
		{"two large, narrow", []int{2, 2}, "YY", 1, 1, true},
		{"three large", []int{1, 1, 1}, "YNY", 2, 1, true},
		{"a large one among others", []int{1, 2, 1}, "nYy", 1, 1, true},
		{"a large one behind a composed message", []int{-1, 2, 1}, "nYy", 1, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &senders{turn: new(turn.Senders[int]), limit: tt.limit, room: tt.room, closes: tt.closes}
			for i, n := range tt.sizes {
				c := rune(tt.cancels[i])
				w.all = append(w.all, sender{size: n, canCancel: unicode.ToLower(c) == 'y', large: unicode.IsUpper(c)})
			}
			t.Logf("%d states", explore(t, w))
		})
	}
}
