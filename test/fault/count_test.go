//go:build imsgfault && linux

package fault_test

import "testing"

// A tally adds up what runs did.
type tally struct {
	talks, indexes   int // conversations, and calls that each has without faults
	runs, calls, hit int // with faults; those that made a difference
	sent, got        int // messages

	// Files: given to a channel; received; reported as lost, because they did
	// not fit; closed with whatever an end or a fault has cut off.
	in, delivered, lost, ended int
}

func (c *tally) add(d tally) {
	c.talks += d.talks
	c.indexes += d.indexes
	c.runs += d.runs
	c.calls += d.calls
	c.hit += d.hit
	c.sent += d.sent
	c.got += d.got
	c.in += d.in
	c.delivered += d.delivered
	c.lost += d.lost
	c.ended += d.ended
}

// report prints the figures. That no descriptor is left each run has checked.
func (c *tally) report(t *testing.T) {
	t.Logf("%d conversations with %d call indexes, run %d times: %d system calls, %d faults", c.talks, c.indexes, c.runs, c.calls, c.hit)
	t.Logf("messages: %d sent, %d received, %d cut off by a fault or a close, 0 lost", c.sent, c.got, c.sent-c.got)
	t.Logf("descriptors: %d in = %d received + %d reported lost by a full table + %d closed with their channel; 0 left",
		c.in, c.delivered, c.lost, c.ended)
	if c.in != c.delivered+c.lost+c.ended {
		t.Error("the descriptors do not add up")
	}
}
