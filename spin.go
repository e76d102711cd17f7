package imsg

import "runtime"

// A spinner decides whether to try a read a few times more before sleeping.
// Waking up costs more than the message when the peer answers within
// microseconds, so it pays then and only then: it is tried again as long as it
// has paid lately, and once in a while to find out.
type spinner struct {
	credit int
	since  int // sleeps since the last try without credit
}

const (
	spinTries  = 50 // some ten microseconds of system calls
	spinCredit = 8
	spinProbe  = 64 // one sleep in so many is preceded by a try without credit
)

// tries returns how often to try once more, now that the first try found
// nothing.
func (s *spinner) tries() int {
	if s.credit == 0 {
		if s.since++; s.since < spinProbe {
			return 0
		}
		s.since = 0
	}
	if runtime.GOMAXPROCS(0) == 1 || runtime.NumCPU() == 1 {
		return 0
	}
	return spinTries
}

// done tells whether the first try or one of the others found something.
func (s *spinner) done(won bool) {
	if won {
		s.credit = min(s.credit+1, spinCredit)
	} else if s.credit > 0 {
		s.credit--
	}
}
