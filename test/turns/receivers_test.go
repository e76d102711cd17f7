package turns_test

import (
	"fmt"
	"slices"
	"testing"

	"example.org/imsg/internal/turn"
)

// Where a receiver is, between two steps.
const (
	asks    = start   // is about to look for a message
	waits   = working // has found none
	reads   = writing // has the turn: in the system call, or in the poller
	sleeps  = writeWait
	stopped = finished
)

// A receiver receives some messages, one after the other.
type receiver struct {
	wants int // messages
	canCancel, cancelled,
	again, // has slept and found nothing
	mine, woken, wokenMine bool
	at  place
	got []int
	res result
}

// receivers is the receiving direction of a Conn.
type receivers struct {
	turn    *turn.Receivers[int]
	all     []receiver
	sent    int // messages that the peer has sent
	most    int // and will send, before it closes
	hung    bool
	sock    int // messages in the socket
	ready   []int
	cut     int // messages that have arrived
	ended   bool
	closes  bool
	closed  bool
	reading bool
	lost    int // discarded by close
}

func (w *receivers) clone() *receivers {
	c := *w
	c.turn = w.turn.Clone()
	c.all = slices.Clone(w.all)
	for i := range c.all {
		c.all[i].got = slices.Clone(c.all[i].got)
	}
	c.ready = slices.Clone(w.ready)
	return &c
}

func (w *receivers) key() string {
	return fmt.Sprintf("%v %v %d %v %d %v %d %v %v %v %d", *w.turn, w.all, w.sent, w.hung, w.sock, w.ready, w.cut, w.ended, w.closed, w.reading, w.lost)
}

func (w *receivers) wakeNext() {
	for {
		i, mine, ok := w.turn.Next(len(w.ready) > 0)
		if !ok {
			return
		}
		w.all[i].woken, w.all[i].wokenMine = true, mine
	}
}

func (w *receivers) leave(g *receiver) {
	if g.mine {
		w.turn.Leave()
		g.mine = false
	}
	w.wakeNext()
}

// pick takes a message, if there is one.
func (w *receivers) pick(g *receiver) bool {
	if len(w.ready) == 0 {
		return false
	}
	g.got = append(g.got, w.ready[0])
	w.ready = w.ready[1:]
	g.at = asks
	if len(g.got) == g.wants {
		g.at, g.res = stopped, sent
	}
	return true
}

// wait is receiver.wait from where it has the lock.
func (w *receivers) wait(i int) {
	g := &w.all[i]
	if w.pick(g) {
		w.leave(g)
		return
	}
	switch w.turn.Step(g.mine) {
	case turn.Failed:
		g.at, g.res = stopped, ended
		w.leave(g)
	case turn.Sleep:
		w.turn.Wait(i, g.again)
		w.wakeNext()
		g.again, g.at = true, sleeps
	default:
		g.mine = true
		w.turn.Take()
		w.reading = true
		w.wakeNext()
		g.at = reads
	}
}

func (w *receivers) next(yield func(string, world)) {
	step := func(name string, i int, f func(c *receivers, g *receiver)) {
		c := w.clone()
		f(c, &c.all[i])
		yield(fmt.Sprintf("%d %s", i, name), c)
	}
	for i, g := range w.all {
		if g.canCancel && !g.cancelled && g.at != stopped {
			step("cancelled", i, func(_ *receivers, g *receiver) { g.cancelled = true })
		}
		switch g.at {
		case asks:
			step("asks", i, func(c *receivers, g *receiver) {
				if g.again = false; g.cancelled {
					g.at, g.res = stopped, cancelled
				} else if !c.pick(g) { // the fast path wakes nobody
					g.at = waits
				}
			})
		case waits:
			step("waits", i, func(c *receivers, _ *receiver) { c.wait(i) })
		case reads:
			read := func(c *receivers, i, n int) {
				if c.reading = false; c.closed {
					c.ready = nil
					c.lost += n
				} else {
					for range n {
						c.ready = append(c.ready, c.cut)
						c.cut++
					}
				}
				c.sock -= n
				c.wait(i)
			}
			for n := 1; n <= w.sock; n++ {
				step(fmt.Sprintf("reads %d", n), i, func(c *receivers, _ *receiver) { read(c, i, n) })
			}
			if w.sock == 0 && w.hung {
				step("reads the end", i, func(c *receivers, _ *receiver) {
					c.ended = true
					c.turn.End()
					read(c, i, 0)
				})
			}
			if w.closed {
				step("hears of the close", i, func(c *receivers, _ *receiver) { read(c, i, 0) })
			}
			if g.cancelled {
				step("gives up", i, func(c *receivers, g *receiver) {
					c.reading = false
					g.at, g.res = stopped, cancelled
					c.leave(g)
				})
			}
		case sleeps:
			if g.woken {
				step("woken", i, func(c *receivers, g *receiver) {
					if g.woken, g.mine = false, g.wokenMine; !g.mine {
						c.turn.Looked()
					}
					c.wait(i)
				})
			}
			if g.cancelled {
				step("gives up", i, func(c *receivers, g *receiver) {
					if !c.turn.GiveUp(i) {
						if g.woken, g.mine = false, g.wokenMine; !g.mine {
							c.turn.Looked()
						}
					}
					g.at, g.res = stopped, cancelled
					c.leave(g)
				})
			}
		}
	}
	if w.sent < w.most {
		c := w.clone()
		c.sent++
		c.sock++
		yield("peer sends", c)
	} else if !w.hung {
		c := w.clone()
		c.hung = true
		yield("peer closes", c)
	}
	if w.closes && !w.closed {
		c := w.clone()
		c.closed = true
		c.turn.End()
		if !c.reading {
			c.lost += len(c.ready)
			c.ready = nil
		}
		c.wakeNext()
		yield("close", c)
	}
}

func (w *receivers) check(stuck bool) string {
	turns, looking, sleeping := 0, 0, 0
	var got []int
	for _, g := range w.all {
		switch {
		case g.mine || g.woken && g.wokenMine:
			turns++
		case g.at == sleeps && g.woken:
			looking++
		case g.at == sleeps:
			sleeping++
		}
		if stuck && g.at != stopped {
			return "somebody waits for ever"
		}
		if !slices.IsSorted(g.got) {
			return fmt.Sprintf("out of order: %v", g.got)
		}
		got = append(got, g.got...)
	}
	slices.Sort(got)
	switch {
	case turns > 1:
		return "two have the turn"
	case sleeping > 0 && len(w.ready) > 0 && looking == 0:
		return "a message is there, somebody sleeps, and nobody looks"
	case sleeping > 0 && turns == 0:
		return "somebody sleeps, and nobody has the turn"
	case looking > 1 && !w.closed && !w.ended:
		return "two are woken for the same message"
	case len(slices.Compact(slices.Clone(got))) != len(got):
		return fmt.Sprintf("a message was received twice: %v", got)
	case stuck && !w.closed && len(got)+len(w.ready) != w.cut:
		return fmt.Sprintf("a message is lost: %v of %d, %v ready", got, w.cut, w.ready)
	}
	return ""
}

// TestReceivers explores goroutines that receive, some of which give up, a peer
// that sends and closes, and Close.
func TestReceivers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		wants   []int
		cancels string
		most    int
		closes  bool
	}{
		{"one", []int{3}, "y", 2, true},
		{"two", []int{2, 2}, "yy", 3, true},
		{"three", []int{1, 1, 1}, "yyy", 3, false},
		{"three, and Close", []int{1, 1, 2}, "nny", 3, true},
		{"three that come back", []int{2, 2, 2}, "nny", 4, false},
		{"four", []int{1, 1, 1, 1}, "nyny", 3, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &receivers{turn: new(turn.Receivers[int]), most: tt.most, closes: tt.closes}
			for i, n := range tt.wants {
				w.all = append(w.all, receiver{wants: n, canCancel: tt.cancels[i] == 'y'})
			}
			t.Logf("%d states", explore(t, w))
		})
	}
}
