package hostile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// A bufTarget is an event loop that runs when it is told to.
type bufTarget struct {
	*seen
	b  *imsg.Buf
	fd int
}

func newBufTarget(s *seen, fd int) (*bufTarget, error) {
	b := imsg.NewBuf(fd, &imsg.Config{Dialect: s.dialect, AllowFDPass: s.files, MaxQueueFiles: maxHeld, MaxPendingBytes: s.pending})
	return &bufTarget{s, b, fd}, b.SetMaxSize(s.limit - imsg.HeaderSize)
}

// catchUp reads everything there is.
func (v *bufTarget) catchUp() {
	for v.err == nil && v.end == "" {
		before := v.b.Stats().Received
		err := v.b.ReadSocket()
		for m := range v.b.All() {
			if !v.message(m, func(h imsg.Header, data ...[]byte) error { return v.b.Compose(h, nil, data...) }) {
				v.end = endQuit
				v.close()
				return
			}
		}
		if v.serr == nil {
			v.serr = v.b.WriteSocket()
		}
		after := v.b.Stats().Received
		switch {
		case errors.Is(err, imsg.ErrQueueFull):
			if after.Messages == before.Messages {
				v.wrong("nothing to take: %v", err)
				return
			}
		case err != nil:
			v.err = err
			if again := v.b.ReadSocket(); again != err {
				v.wrong("a later call returns %v, want %v", again, err)
			}
		case after == before:
			return
		}
	}
}

// finish ends the target.
func (v *bufTarget) finish() {
	v.catchUp()
	if v.err == nil && v.end == "" {
		v.end = endSilent
	}
	v.close()
	v.over()
}

func (v *bufTarget) close() {
	if v.fd >= 0 {
		v.stats = v.b.Stats()
		v.b.Clear()
		unix.Close(v.fd)
		v.fd = -1
	}
}

// A connTarget is a goroutine.
type connTarget struct {
	*seen
	c    *imsg.Conn
	done chan struct{} // nil: not started
	late error
}

func newConnTarget(s *seen, fd int) (*connTarget, error) {
	c, err := imsg.NewConn(fd, &imsg.Config{Dialect: s.dialect, AllowFDPass: s.files, MaxQueueFiles: maxHeld})
	if err != nil {
		return nil, err
	}
	return &connTarget{seen: s, c: c}, c.SetMaxSize(s.limit - imsg.HeaderSize)
}

func (v *connTarget) start() {
	v.done = make(chan struct{})
	go v.run()
}

func (v *connTarget) run() {
	defer close(v.done)
	ctx := context.Background()
	if v.ctx {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, testutil.Bound)
		defer cancel()
	} else {
		v.c.SetDeadline(time.Now().Add(testutil.Bound))
	}
	send := func(h imsg.Header, data ...[]byte) error { return v.c.Send(ctx, h, nil, data...) }
	if v.all {
		for m, err := range v.c.All(ctx) {
			if err != nil {
				v.err = err
			} else if !v.message(m, send) {
				v.end = endQuit
				break
			}
		}
		if v.err == nil && v.end == "" {
			v.err = io.EOF // where All just ends
		}
	} else {
		for v.err == nil && v.end == "" {
			m, err := v.c.Receive(ctx)
			if v.err = err; err == nil && !v.message(m, send) {
				v.end = endQuit
			}
		}
	}
	if v.err != nil {
		if _, again := v.c.Receive(ctx); again != v.err && !errors.Is(again, net.ErrClosed) {
			v.wrong("a later call returns %v, want %v", again, v.err)
		}
	}
	if v.stats = v.c.Stats(); v.end == endQuit {
		v.c.Close()
	}
}

// caughtUp waits until n bytes have arrived, or the target is done. It hardly
// ever gives up its core, because waking up would take most of the test's time.
func (v *connTarget) caughtUp(n int) {
	for end := time.Now().Add(testutil.Bound); ; runtime.Gosched() {
		for range 1000 {
			if v.c.Stats().Received.Bytes >= uint64(n) {
				return
			}
		}
		select {
		case <-v.done:
			return
		default:
		}
		if time.Now().After(end) {
			v.late = fmt.Errorf("%d bytes of %d have arrived", v.c.Stats().Received.Bytes, n)
			return
		}
	}
}

func (v *connTarget) finish() {
	if v.done == nil {
		v.start()
	}
	if v.abrupt {
		v.c.Close()
	}
	<-v.done
	v.c.Close()
	v.over()
	if v.problem == nil {
		v.problem = v.late
	}
}
