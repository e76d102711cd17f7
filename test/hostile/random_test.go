package hostile_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
)

var (
	hostileCount = flag.Int("imsg.hostile", 0, "TestHostileRandom: so many conversations; 0: what fits into half a second")
	hostileSeed  = flag.Uint64("imsg.hostile.seed", 0, "TestHostileRandom: the seed; 0: any")
	hostileFrom  = flag.Int("imsg.hostile.from", 0, "TestHostileRandom: the first conversation")
)

// hostileTime bounds the test where no count was asked for.
const hostileTime = 500 * time.Millisecond

// TestHostileRandom lets a target talk to an attacker that does random things,
// many times. Nothing may crash, hang or leak, and the target must see what an
// independent reader makes of the stream: each whole message before the end,
// its file where that is certain, and the right kind of end.
func TestHostileRandom(t *testing.T) {
	testutil.NoLeak(t)
	seed := *hostileSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	most := 1 // descriptors in one control message; what comes of more is told apart on Linux only
	if runtime.GOOS == "linux" {
		t.Run("truncation", func(t *testing.T) { testutil.NeedTruncation(t); most = 300 })
	}
	f := newFigures()
	beg := time.Now()
	for i := *hostileFrom; ; i++ {
		if n := i - *hostileFrom; *hostileCount > 0 && n == *hostileCount || *hostileCount == 0 && time.Since(beg) > hostileTime {
			break
		}
		var err error
		testutil.Within(t, fmt.Sprintf("conversation %d of seed %d", i, seed), func() {
			err = converse(f, rand.New(rand.NewPCG(seed, uint64(i))), most)
		})
		if err != nil {
			t.Fatalf("%v\nagain: go test -run TestHostileRandom -imsg.hostile=1 -imsg.hostile.seed=%d -imsg.hostile.from=%d", err, seed, i)
		}
	}
	f.log(t, seed, time.Since(beg))
}

// A pace is when the target reads.
type pace int

const (
	lockstep pace = iota // after everything that was sent
	late                 // when all was sent and the attacker is gone
	anytime              // now and then
)

// converse is one conversation of a target and an attacker.
func converse(f *figures, rnd *rand.Rand, most int) (err error) {
	fds := [2]int{}
	if fds[0], fds[1], err = unixmsg.Pair(true); err != nil {
		return err
	}
	h := newTargetConfig(rnd)
	p := pace(rnd.IntN(3))
	if h.conn && p == lockstep && rnd.IntN(3) > 0 {
		p = anytime // to wait for another goroutine takes long
	}
	a := &attacker{rnd: rnd, fd: fds[0], target: -1, oob: -1, open: 1, d: h.dialect, limit: h.limit, most: most, buf: make([]byte, 4096)}
	if h.dialect == imsg.Auto || rnd.IntN(8) == 0 {
		a.d = imsg.Dialect(rnd.IntN(2))
	}
	if rnd.IntN(16) == 0 {
		if a.target, err = unixmsg.Dup(fds[1]); err != nil {
			return err
		}
		a.open++
	}
	s := &seen{targetConfig: h}
	if h.conn {
		err = attackConn(f, a, s, fds[1], p)
	} else {
		err = attackBuf(f, a, s, fds[1], p)
	}
	if err != nil {
		return err
	}
	if err := a.settle(); err != nil {
		return err
	}
	if s.problem == nil {
		s.problem = a.judge(s, p)
	}
	if s.problem == nil {
		s.problem = f.add(a, s)
	}
	if s.problem != nil {
		return fmt.Errorf("%w\nvictim %+v, pace %d, attacker %v, %d bytes", s.problem, h, p, a.d, len(a.stream))
	}
	return nil
}

func newTargetConfig(rnd *rand.Rand) targetConfig {
	h := targetConfig{
		dialect: testutil.Dialects[rnd.IntN(len(testutil.Dialects))],
		files:   rnd.IntN(4) > 0,
		limit:   imsg.DefaultMaxSize,
		conn:    rnd.IntN(2) == 0,
		all:     rnd.IntN(2) == 0,
		ctx:     rnd.IntN(2) == 0,
		hold:    rnd.IntN(4) == 0,
		take:    rnd.IntN(3),
		answer:  rnd.IntN(4),
		abrupt:  rnd.IntN(8) == 0,
	}
	if rnd.IntN(3) == 0 {
		limits := []int{16, 17, 100, 65535, 1 << 20, 1<<31 - 1}
		if h.dialect != imsg.Current {
			limits = limits[:4]
		}
		h.limit = limits[rnd.IntN(len(limits))]
	}
	if rnd.IntN(8) == 0 {
		h.quit = 1 + rnd.IntN(5)
	}
	if rnd.IntN(8) == 0 {
		h.pending = 1
	}
	return h
}

// attack does everything that the attacker does.
func (a *attacker) attack(over func() bool) {
	for range a.rnd.IntN(12) {
		if a.act(); over() {
			return
		}
	}
}

func attackBuf(f *figures, a *attacker, s *seen, fd int, p pace) error {
	v, err := newBufTarget(s, fd)
	if err != nil {
		return err
	}
	a.step = func() {
		if p == lockstep || p == anytime && a.rnd.IntN(2) == 0 {
			v.catchUp()
			a.drained()
			if a.rnd.IntN(16) == 0 {
				f.held(v, a)
			}
		}
	}
	a.attack(func() bool { return v.fd < 0 && a.rnd.IntN(2) == 0 })
	a.end(false)
	v.silent = a.sentOwn
	v.finish()
	a.drained()
	return nil
}

func attackConn(f *figures, a *attacker, s *seen, fd int, p pace) error {
	v, err := newConnTarget(s, fd)
	if err != nil {
		return err
	}
	if p != late {
		v.start()
		a.step = func() {
			a.drained()
			if p == lockstep {
				v.caughtUp(len(a.stream))
			}
		}
	} else {
		a.step = func() {}
	}
	a.attack(func() bool { return false })
	if !s.abrupt {
		a.end(true)
	}
	v.finish()
	a.end(true)
	a.drained()
	return nil
}

// judge compares what the target saw with what it should have seen.
func (a *attacker) judge(s *seen, p pace) error {
	if a.oobs > 1 && s.conn && p != late {
		return nil // nobody knows which bytes were in the stream
	}
	v := expect(a.stream, a.ships, s.dialect, s.limit, p == lockstep)
	if a.blurred {
		v.mustFiles = -1
		for i := range v.all {
			v.all[i].sure = false
		}
	}
	for _, m := range v.all[:min(len(s.got), v.whole)] {
		if m.Mark && s.files {
			s.marked++
			if m.sure {
				s.certain++
			}
		}
	}
	return v.compare(a.ships, s)
}
