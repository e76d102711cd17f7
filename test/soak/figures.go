package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg/imsgtest"
)

// figures are what the run has moved on channels that have ended.
type figures struct {
	begin                    time.Time
	open, started, forwarded atomic.Int64
	ended                    [workerCloses + 1]atomic.Int64 // by ending
	told, received, bytes    atomic.Uint64
	unread, late             atomic.Uint64 // sent and not received before a kill or close; received without having been told sent
	lost                     atomic.Uint64
	filesGot                 atomic.Uint64
}

// settle compares what both sides of a channel know that has ended.
func (s *soak) settle(o *order, parent, worker *ledger) error {
	s.ended[o.ending].Add(1)
	if o.ending == orderly {
		s.mu.Lock()
		s.allowed[o.channel] = parent.filesFailed.Load() + worker.filesFailed.Load()
		s.mu.Unlock()
	}
	// Who was not killed and did not close must have all that the other was
	// told is sent, whatever became of the other.
	err := errors.Join(
		s.direction("parent to worker", parent, worker, o.ending != killed && o.ending != workerCloses),
		s.direction("worker to parent", worker, parent, o.ending != parentCloses))
	if o.ending == orderly {
		err = errors.Join(err, auditStats(parent, worker), auditStats(worker, parent))
	}
	return err
}

// judgeExit judges how a worker has ended.
func judgeExit(o *order, err error) error {
	var exit *exec.ExitError
	if o.ending == killed && errors.As(err, &exit) {
		if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() && w.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

func (s *soak) direction(name string, from, to *ledger, all bool) error {
	for i := range from.lane {
		told, got := from.lane[i].nTold.Load(), to.lane[i].nGot.Load()
		s.told.Add(told)
		s.received.Add(got)
		s.late.Add(max(got, told) - told)
		s.unread.Add(max(got, told) - got)
	}
	s.bytes.Add(to.bytes.Load())
	s.filesGot.Add(to.filesGot.Load())
	lost, err := audit(from, to, all)
	if s.lost.Add(lost); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// auditFiles compares what the pipes tell with what the channels tell, when
// everything is over.
func (s *soak) auditFiles() error {
	p := &s.pipes
	if sent, out := p.sent.Load(), p.delivered.Load()+p.closed.Load(); sent != out {
		return fmt.Errorf("seed %d: %d descriptors sent, %d delivered or closed", s.seed, sent, out)
	}
	// A worker may be killed between its statement and its entry.
	if d, got := p.delivered.Load(), int64(s.filesGot.Load()); d < got || d > got+s.ended[killed].Load() {
		return fmt.Errorf("seed %d: %d descriptors delivered, channels know of %d", s.seed, d, got)
	}
	for channel, n := range p.closes {
		if most, ok := s.allowed[channel]; ok && n > most {
			return fmt.Errorf("seed %d, channel %d: orderly, but %d descriptors did not arrive, %d were not sent", s.seed, channel, n, most)
		}
	}
	return nil
}

// left waits until nothing more is open or running than before.
func left(before map[int]string, goroutines int) error {
	for end := time.Now().Add(grace); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			return fmt.Errorf("%d goroutines, %d at the beginning\n%s", runtime.NumGoroutine(), goroutines, stacks[:runtime.Stack(stacks, true)])
		}
	}
	for fd, name := range imsgtest.OpenFDs() {
		if _, ok := before[fd]; !ok {
			return fmt.Errorf("descriptor %d (%s) is left", fd, name)
		}
	}
	return nil
}

// line is the figures of now.
func (s *soak) line() string {
	p := &s.pipes
	return fmt.Sprintf("soak %.1fs: %d channels, %d processes started, %d killed, %d orderly, %d closed in the middle; "+
		"messages: %d sent + %d after all = %d received + %d unread at a kill or close, %d forwarded, lost %d; %.1f MB; "+
		"descriptors: %d sent = %d delivered + %d closed with a channel + %d under way; parent %s",
		time.Since(s.begin).Seconds(), s.open.Load(), s.started.Load(), s.ended[killed].Load(), s.ended[orderly].Load(),
		s.ended[parentCloses].Load()+s.ended[workerCloses].Load(),
		s.told.Load(), s.late.Load(), s.received.Load(), s.unread.Load(), s.forwarded.Load(), s.lost.Load(), float64(s.bytes.Load())/1e6,
		p.sent.Load(), p.delivered.Load(), p.closed.Load(), p.sent.Load()-p.delivered.Load()-p.closed.Load(), worstRSS())
}

// worstRSS is the most memory this process had, where the system tells. Its
// rusage would count the program that started it.
func worstRSS() string {
	p, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := bytes.Cut(p, []byte("VmHWM:"))
	if f := bytes.Fields(rest); len(f) > 0 {
		if kib, err := strconv.Atoi(string(f[0])); err == nil {
			return fmt.Sprintf("worst RSS %.1f MB", float64(kib)*1024/1e6)
		}
	}
	return "worst RSS unknown"
}
