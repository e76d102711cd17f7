package hostile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

const (
	honestChannels = 2
	attackingUser  = 64534 // whom no other test is, where we may choose
	serverUser     = 64533
)

// TestHostileServer attacks one channel of a process while others ping-pong.
// These must go on, the process's memory and descriptors must stay bounded, and
// it must sleep while there is nothing to do. The rates and the processor's time
// are printed: they say how many cores there are and what else runs on them
// rather than whether something is wrong.
func TestHostileServer(t *testing.T) {
	switch os.Getenv(testutil.ChildEnv) {
	case "attacker":
		attackerProcess(t)
		return
	case "server buf":
		serveBufs(t)
		return
	case "server conn":
		serveConns(t)
		return
	}
	trips := 40
	if *hostileCount > 0 {
		trips = 2000
	}
	for _, kind := range []string{"buf", "conn"} {
		t.Run(kind, func(t *testing.T) { runScenario(t, kind, trips) })
	}
}

// A scenario is a server with its honest peers and its attacker.
type scenario struct {
	t        *testing.T
	server   *process
	attacker *process
	honest   []*imsg.Conn
	null     *os.File
	n        int // trips
	base     report
	alone    time.Duration // without an attack
	gone     int           // channels that have ended
}

// runScenario lets the attacker do everything to one server, one after the other.
func runScenario(t *testing.T, kind string, n int) {
	testutil.NoLeak(t)
	s := &scenario{t: t, attacker: startRole(t, "attacker", attackingUser), server: startRole(t, "server "+kind, serverUser), null: testutil.DevNull(t), n: n}
	defer s.null.Close()
	for id := range uint32(honestChannels) {
		fd, err := s.server.add(id+1, imsg.Current)
		testutil.Must(t, err)
		c := testutil.NewConn(t, fd, &imsg.Config{AllowFDPass: true})
		s.honest = append(s.honest, c)
	}
	trips(t, s.honest, n, s.null, 0) // warm
	s.base = s.server.report()
	for range 3 { // the best of which is what there is to lose
		if d := trips(t, s.honest, n, s.null, 0); s.alone == 0 || d < s.alone {
			s.alone = d
		}
	}
	calm := s.quietly("no attack", s.null)
	t.Logf("%-26s %6.0f trips/s; %d descriptors, %d KiB of heap, %d MiB RSS; %.0f%% of a core when nearly idle",
		"no attack", rate(n, s.alone), s.base.FDs, s.base.Heap>>10, s.base.RSS>>20, calm.share())
	for i, a := range attacks {
		if a.run == nil {
			s.garbage()
		} else {
			s.attack(i)
		}
		s.server.waitGone(s.gone)
	}
	after := s.server.report()
	t.Logf("%-26s %d descriptors, %d KiB of heap, %d MiB RSS, %d channels ended", "afterwards", after.FDs, after.Heap>>10, after.RSS>>20, s.gone)
	if after.FDs != s.base.FDs || after.Heap > s.base.Heap+1<<20 {
		t.Errorf("afterwards: %d descriptors and a heap of %d bytes, %d and %d before", after.FDs, after.Heap, s.base.FDs, s.base.Heap)
	}
}

// attack makes one attack.
func (s *scenario) attack(i int) {
	t, a, id := s.t, attacks[i], uint32(100+i)
	null, n := s.null, s.n
	if a.limit == servers {
		n = min(n, 200) // an event loop sleeps for a millisecond at each try
	}
	if a.limit == servers || a.limit == attackers && os.Getuid() != 0 {
		null = nil
	}
	fd, err := s.server.add(id, a.dialect)
	testutil.Must(t, err)
	f := os.NewFile(uintptr(fd), "channel")
	s.attacker.must(imsg.Header{Type: ctlAttack, ID: uint32(i)}, f, ctlReady)
	f.Close()
	took := trips(t, s.honest, n, null, 0)
	during := s.server.report()
	// The channel itself, what it holds, and what waits to be sent. What one
	// read brings is in the table for a moment: see SECURITY.md.
	most := s.base.FDs + 1 + maxHeld + 2 + 8 + 2
	for end := time.Now().Add(testutil.Bound); (during.Channels[id].Received.Bytes == 0 || during.FDs > most) && time.Now().Before(end); {
		during = s.server.report() // it has not come to read yet
	}
	text := ""
	if a.quiet {
		q := s.quietly(a.name, null)
		text = fmt.Sprintf("; %.0f%% of a core when nearly idle", q.share())
		if most := 5*honestChannels*quietTrips + 3*int(q.wall/time.Millisecond); q.rounds > most {
			t.Errorf("%s: the event loop went round %d times, want at most %d", a.name, q.rounds, most)
		}
	}
	var did [2]int
	testutil.Must(t, json.Unmarshal(s.attacker.must(imsg.Header{Type: ctlStop}, nil, ctlStop), &did))
	s.gone++
	traffic := during.Channels[id]
	t.Logf("%-26s %6.0f trips/s, ratio %.2f; %d descriptors, %d KiB of heap; %d bytes and %d files sent%s",
		a.name, rate(n, took), s.ratio(n, took), during.FDs, during.Heap>>10, did[0], did[1], text)
	if did[0] == 0 || traffic.Received.Bytes == 0 {
		t.Errorf("%s: nothing was sent or received", a.name)
	}
	// The queue, what was read behind it, and the message in between.
	if n := int(traffic.Received.Bytes) - int(traffic.Sent.Bytes); a.answered && n > 3*256<<10 {
		t.Errorf("%s: %d bytes wait in the server", a.name, n)
	}
	if during.FDs > most {
		t.Errorf("%s: %d descriptors, %d before", a.name, during.FDs, s.base.FDs)
	}
	if during.Heap > s.base.Heap+2<<20 {
		t.Errorf("%s: a heap of %d bytes, %d before", a.name, during.Heap, s.base.Heap)
	}
}

func rate(n int, d time.Duration) float64 { return float64(n*honestChannels) / d.Seconds() }

// ratio compares with the rate without an attack.
func (s *scenario) ratio(n int, d time.Duration) float64 { return rate(n, d) / rate(s.n, s.alone) }

// quietTrips is for how many trips nobody but a few honest peers does anything.
const quietTrips = 20

// A quiet time is when a server should hardly do anything.
type quiet struct {
	cpu, wall time.Duration
	rounds    int
}

func (q quiet) share() float64 { return 100 * float64(q.cpu) / float64(q.wall) }

// quietly makes few trips, so that the server has nothing to do most of the
// time, and then none, so that it must sleep.
func (s *scenario) quietly(who string, null *os.File) quiet {
	pace := max(time.Millisecond, 10*s.alone/time.Duration(s.n))
	beg, before := time.Now(), s.server.report(1)
	trips(s.t, s.honest, quietTrips, null, pace)
	after := s.server.report(1)
	q := quiet{time.Duration(after.CPU-before.CPU) * time.Microsecond, time.Since(beg), after.Rounds - before.Rounds}
	waitAsleep(s.t, who, s.server.pid)
	return q
}

// garbage opens one channel after the other and sends what is no message, while
// the honest ones go on.
func (s *scenario) garbage() {
	t, server := s.t, s.server
	var over atomic.Bool
	ended := 0
	done := testutil.Go(func() error {
		p := append(testutil.Frame(imsg.Current, sayThank, 10, false), bytes.Repeat([]byte{0xa5}, 100)...)
		for ended == 0 || !over.Load() {
			fd, err := server.add(1000, imsg.Auto)
			if err != nil {
				return err
			}
			unix.Write(fd, p)
			err = hungUp(fd)
			unix.Close(fd)
			if ended++; err != nil {
				return fmt.Errorf("channel %d of garbage: %w", ended, err)
			}
		}
		return nil
	})
	took := trips(t, s.honest, s.n, s.null, 0)
	over.Store(true)
	testutil.Must(t, <-done)
	s.gone += ended
	t.Logf("%-26s %6.0f trips/s, ratio %.2f; %d channels", "garbage", rate(s.n, took), s.ratio(s.n, took), ended)
}

// hungUp waits until the peer has closed the socket.
func hungUp(fd int) error {
	for end := time.Now().Add(testutil.Bound); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, int(testutil.Bound/time.Millisecond))
		switch {
		case n == 1:
			return nil
		case err != unix.EINTR || time.Now().After(end):
			return fmt.Errorf("still open: %v", err)
		}
	}
}
