package imsg

import (
	"runtime"
	"time"
)

// A spinner decides how long to go on trying to read before sleeping. Waking
// up costs more than the message when the peer answers within microseconds, so
// trying again pays then and only then: it is done as long as it has paid
// lately, and once in a while to find out. With a single core the peer could
// not answer meanwhile.
type spinner struct {
	busy   time.Duration // Config.BusyPoll: always try for so long
	credit int32
	since  int32 // sleeps since the last try without credit
}

const (
	spinTries  = 50 // some ten microseconds of system calls
	spinCredit = 16
	spinProbe  = 64 // one sleep in so many is preceded by a try without credit
	spinClock  = 16 // tries between two looks at the clock
)

// until calls try, which has just failed, until it succeeds or trying more
// would not pay, or until stop.
func (s *spinner) until(try func() bool, stop func(now time.Time) bool) {
	switch {
	case s.busy <= 0 && !s.worth() || oneCore():
	case s.busy <= 0:
		s.done(tries(try, spinTries))
	default:
		for end := time.Now().Add(s.busy); !tries(try, spinClock); {
			if now := time.Now(); now.After(end) || stop(now) {
				return
			}
			runtime.Gosched() // others would wait for the scheduler's time slice
		}
	}
}

func tries(try func() bool, n int) bool {
	for range n {
		if try() {
			return true
		}
	}
	return false
}

// never is for until without a reason to stop.
func never(time.Time) bool { return false }

func oneCore() bool { return runtime.GOMAXPROCS(0) == 1 || runtime.NumCPU() == 1 }

// worth reports whether trying once more is likely to pay, or due to find out.
func (s *spinner) worth() bool {
	if s.credit > 0 {
		return true
	}
	if s.since++; s.since < spinProbe {
		return false
	}
	s.since = 0
	return true
}

// done tells whether trying has paid.
func (s *spinner) done(won bool) {
	if won {
		s.credit = min(s.credit+2, spinCredit)
	} else if s.credit > 0 {
		s.credit--
	}
}
