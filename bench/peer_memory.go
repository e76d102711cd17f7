package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// An idleConn is a Conn and the bare descriptor of its other side.
type idleConn struct {
	*imsg.Conn
	far int
}

const burstSize = 64 << 20

// connIdle returns the memory of n Conns that have sent and received a message
// of 16 KiB and then have waited in vain, connBurst of those whose message had
// 64 MiB.
func connIdle(n int) (int64, error)  { return idle(n, maxMessage-imsg.HeaderSize) }
func connBurst(n int) (int64, error) { return idle(n, burstSize) }

func idle(n, size int) (int64, error) {
	group := min(250, n) // so many wait at a time
	payload, buf := make([]byte, size), make([]byte, imsg.HeaderSize+size)
	use := func(conns []idleConn) error { return use(conns, payload, buf) }
	trial, conns := make([]idleConn, group), make([]idleConn, n)
	if err := use(trial); err != nil { // the goroutines leave memory behind
		return 0, err
	}
	for _, c := range trial {
		c.Close()
		unix.Close(c.far)
	}
	var least int64
	for try := range 1 + 32/n { // a thread that the runtime starts meanwhile is as large as a Conn
		before := memory()
		for rest := conns; len(rest) > 0; rest = rest[min(group, len(rest)):] {
			if err := use(rest[:min(group, len(rest))]); err != nil {
				return 0, err
			}
		}
		if used := memory() - before; try == 0 || used < least {
			least = used
		}
		for i, c := range conns {
			c.Close()
			unix.Close(c.far)
			conns[i] = idleConn{}
		}
	}
	runtime.KeepAlive(payload)
	runtime.KeepAlive(buf)
	return least, nil
}

// memory returns the bytes of the heap when a few runs of
// the garbage collector find nothing more: what is kept for a while goes then.
func memory() (least int64) {
	for same := 0; same < 5; same++ {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if n := int64(m.HeapAlloc); least == 0 || n < least {
			least, same = n, 0
		}
	}
	return least
}

// use opens Conns, moves a message each way, and lets them become idle.
func use(conns []idleConn, payload, buf []byte) error {
	for i := range conns {
		fds, err := socketpair()
		if err != nil {
			return err
		}
		c, err := imsg.NewConn(fds[0], nil)
		if err != nil {
			return err
		}
		conns[i] = idleConn{c, fds[1]}
		if err := c.SetMaxSize(max(len(payload), maxMessage)); err != nil {
			return err
		}
		if err := conns[i].thereAndBack(payload, buf); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			return err
		}
	}
	errs := make(chan error)
	for _, c := range conns {
		go func() {
			_, err := c.Receive(background)
			errs <- err
		}()
	}
	var failed error
	for range conns {
		if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) {
			failed = fmt.Errorf("an idle Conn's Receive: %w", err)
		}
	}
	return failed
}

// thereAndBack sends a message whose bytes come back.
func (c idleConn) thereAndBack(payload, buf []byte) error {
	done := make(chan error, 1)
	go func() { done <- c.Send(background, imsg.Header{Type: typeData}, nil, payload) }()
	if err := far(unix.Read, c.far, buf); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	go func() { done <- far(unix.Write, c.far, buf) }()
	m, err := c.Receive(background)
	if err != nil {
		return err
	}
	m.Close()
	return <-done
}

// far reads or writes all of p.
func far(call func(fd int, p []byte) (int, error), fd int, p []byte) error {
	for len(p) > 0 {
		n, err := call(fd, p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
