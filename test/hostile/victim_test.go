package hostile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

const (
	honestChannels = 2
	attackingUser  = 64534 // whom no other test is, where we may choose
	victimUser     = 64533
)

// TestHostileVictim attacks one channel of a process while others ping-pong.
// These must go on, the process's memory and descriptors must stay bounded, and
// it must sleep while there is nothing to do. The rates and the processor's time
// are printed: they say how many cores there are and what else runs on them
// rather than whether something is wrong.
func TestHostileVictim(t *testing.T) {
	switch os.Getenv(testutil.ChildEnv) {
	case "attacker":
		attackerProcess(t)
		return
	case "victim buf":
		victimOfBufs(t)
		return
	case "victim conn":
		victimOfConns(t)
		return
	}
	trips := 40
	if *hostileCount > 0 {
		trips = 2000
	}
	for _, kind := range []string{"buf", "conn"} {
		t.Run(kind, func(t *testing.T) { besiege(t, kind, trips) })
	}
}

// A town is a victim with its honest peers and its attacker.
type town struct {
	t        *testing.T
	victim   *controlled
	attacker *controlled
	honest   []*imsg.Conn
	null     *os.File
	n        int // trips
	base     report
	alone    time.Duration // without an attack
	gone     int           // channels that have ended
}

// besiege lets the attacker do everything to one victim, one after the other.
func besiege(t *testing.T, kind string, n int) {
	testutil.NoLeak(t)
	w := &town{t: t, attacker: startRole(t, "attacker", attackingUser), victim: startRole(t, "victim "+kind, victimUser), null: testutil.DevNull(t), n: n}
	defer w.null.Close()
	for id := range uint32(honestChannels) {
		fd, err := w.victim.add(id+1, imsg.Current)
		if err != nil {
			t.Fatal(err)
		}
		c, err := imsg.NewConn(fd, &imsg.Config{AllowFDPass: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.honest = append(w.honest, c)
	}
	trips(t, w.honest, n, w.null, 0) // warm
	w.base = w.victim.report()
	for range 3 { // the best of which is what there is to lose
		if d := trips(t, w.honest, n, w.null, 0); w.alone == 0 || d < w.alone {
			w.alone = d
		}
	}
	calm := w.quietly("no attack", w.null)
	t.Logf("%-26s %6.0f trips/s; %d descriptors, %d KiB of heap, %d MiB RSS; %.0f%% of a core when nearly idle",
		"no attack", rate(n, w.alone), w.base.FDs, w.base.Heap>>10, w.base.RSS>>20, calm.share())
	for i, s := range sieges {
		if s.run == nil {
			w.garbage()
		} else {
			w.siege(i)
		}
		w.victim.waitGone(w.gone)
	}
	after := w.victim.report()
	t.Logf("%-26s %d descriptors, %d KiB of heap, %d MiB RSS, %d channels ended", "afterwards", after.FDs, after.Heap>>10, after.RSS>>20, w.gone)
	if after.FDs != w.base.FDs || after.Heap > w.base.Heap+1<<20 {
		t.Errorf("afterwards: %d descriptors and a heap of %d bytes, %d and %d before", after.FDs, after.Heap, w.base.FDs, w.base.Heap)
	}
}

// siege makes one attack.
func (w *town) siege(i int) {
	t, s, id := w.t, sieges[i], uint32(100+i)
	null, n := w.null, w.n
	if s.limit == victims {
		n = min(n, 200) // an event loop sleeps for a millisecond at each try
	}
	if s.limit == victims || s.limit == attackers && os.Getuid() != 0 {
		null = nil
	}
	fd, err := w.victim.add(id, s.dialect)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "channel")
	w.attacker.must(imsg.Header{Type: ctlAttack, ID: uint32(i)}, f, ctlReady)
	f.Close()
	took := trips(t, w.honest, n, null, 0)
	during := w.victim.report()
	text := ""
	if s.quiet {
		q := w.quietly(s.name, null)
		text = fmt.Sprintf("; %.0f%% of a core when nearly idle", q.share())
		if most := 5*honestChannels*quietTrips + 3*int(q.wall/time.Millisecond); q.rounds > most {
			t.Errorf("%s: the event loop went round %d times, want at most %d", s.name, q.rounds, most)
		}
	}
	var did [2]int
	if err := json.Unmarshal(w.attacker.must(imsg.Header{Type: ctlStop}, nil, ctlStop), &did); err != nil {
		t.Fatal(err)
	}
	w.gone++
	traffic := during.Channels[id]
	t.Logf("%-26s %6.0f trips/s, ratio %.2f; %d descriptors, %d KiB of heap; %d bytes and %d files sent%s",
		s.name, rate(n, took), w.ratio(n, took), during.FDs, during.Heap>>10, did[0], did[1], text)
	if did[0] == 0 || traffic.Received.Bytes == 0 {
		t.Errorf("%s: nothing was sent or received", s.name)
	}
	// The queue, what was read behind it, and the message in between.
	if n := int(traffic.Received.Bytes) - int(traffic.Sent.Bytes); s.answered && n > 3*256<<10 {
		t.Errorf("%s: %d bytes wait in the victim", s.name, n)
	}
	// The channel itself, what it holds, and what waits to be sent.
	if most := w.base.FDs + 1 + maxHeld + 2 + 8 + 2; during.FDs > most {
		t.Errorf("%s: %d descriptors, %d before", s.name, during.FDs, w.base.FDs)
	}
	if during.Heap > w.base.Heap+2<<20 {
		t.Errorf("%s: a heap of %d bytes, %d before", s.name, during.Heap, w.base.Heap)
	}
}

func rate(n int, d time.Duration) float64 { return float64(n*honestChannels) / d.Seconds() }

// ratio compares with the rate without an attack.
func (w *town) ratio(n int, d time.Duration) float64 { return rate(n, d) / rate(w.n, w.alone) }

// quietTrips is for how many trips nobody but a few honest peers does anything.
const quietTrips = 20

// A quiet time is when a victim should hardly do anything.
type quiet struct {
	cpu, wall time.Duration
	rounds    int
}

func (q quiet) share() float64 { return 100 * float64(q.cpu) / float64(q.wall) }

// quietly makes few trips, so that the victim has nothing to do most of the
// time, and then none, so that it must sleep.
func (w *town) quietly(who string, null *os.File) quiet {
	pace := max(time.Millisecond, 10*w.alone/time.Duration(w.n))
	beg, before := time.Now(), w.victim.report(1)
	trips(w.t, w.honest, quietTrips, null, pace)
	after := w.victim.report(1)
	q := quiet{time.Duration(after.CPU-before.CPU) * time.Microsecond, time.Since(beg), after.Rounds - before.Rounds}
	waitAsleep(w.t, who, w.victim.pid)
	return q
}

// garbage opens one channel after the other and sends what is no message, while
// the honest ones go on.
func (w *town) garbage() {
	t, victim := w.t, w.victim
	var over atomic.Bool
	done := make(chan error, 1)
	ended := 0
	go func() {
		p := append(testutil.Frame(imsg.Current, sayThank, 10, false), bytes.Repeat([]byte{0xa5}, 100)...)
		for ended == 0 || !over.Load() {
			fd, err := victim.add(1000, imsg.Auto)
			if err != nil {
				done <- err
				return
			}
			unix.Write(fd, p)
			err = hungUp(fd)
			unix.Close(fd)
			if ended++; err != nil {
				done <- fmt.Errorf("channel %d of garbage: %w", ended, err)
				return
			}
		}
		done <- nil
	}()
	took := trips(t, w.honest, w.n, w.null, 0)
	over.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.gone += ended
	t.Logf("%-26s %6.0f trips/s, ratio %.2f; %d channels", "garbage", rate(w.n, took), w.ratio(w.n, took), ended)
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
