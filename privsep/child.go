package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"example.org/imsg"
)

// RunChild is the whole life of a child, if this process is one of d's: then it
// does not return. Main calls it; a program that calls Run, and TestMain in
// tests, must call it before anything else.
func (d *Daemon) RunChild() {
	text, ok := os.LookupEnv(envRole)
	if !ok {
		return
	}
	name, rest, _ := strings.Cut(text, "/")
	role, instance, ok := strings.Cut(rest, "/")
	n, err := strconv.Atoi(instance)
	if !ok || err != nil || name != d.Name {
		return
	}
	os.Unsetenv(envRole)
	ctl, err := openControl()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s is %q: %v\n", d.Name, envRole, text, err)
		os.Exit(1)
	}
	os.Exit(newChild(d, ctl, role, n).live())
}

// openControl checks that descriptor 3 is what a parent leaves there.
func openControl() (*imsg.Conn, error) {
	kind, err := unix.GetsockoptInt(controlFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("%w: descriptor %d: %w", ErrNotChild, controlFD, err)
	}
	addr, err := unix.Getsockname(controlFD)
	if _, local := addr.(*unix.SockaddrUnix); err != nil || !local || kind != unix.SOCK_STREAM {
		return nil, fmt.Errorf("%w: descriptor %d is no stream socket of the unix domain", ErrNotChild, controlFD)
	}
	return newConn(controlFD, true)
}

// child is a process on its way from the parent's rights to its own.
type child struct {
	d      *Daemon
	ctl    *imsg.Conn
	name   peerName
	role   *Role
	hello  hello
	proc   *Proc
	root   os.FileInfo // what must be at "/" after chroot
	status Status
	run    chan struct{} // closed when the parent says go
	ctx    context.Context
	cancel context.CancelFunc
}

func newChild(d *Daemon, ctl *imsg.Conn, role string, instance int) *child {
	c := &child{d: d, ctl: ctl, name: peerName{role, instance}, run: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return c
}

// A step of the start has a name, for the parent to know what failed.
type step struct {
	name string
	do   func() error
}

type stepError struct {
	name string
	err  error
}

func (e *stepError) Error() string { return e.err.Error() }

// through does one step after the other.
func through(steps ...step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			if _, inner := err.(*stepError); inner {
				return err
			}
			return &stepError{s.name, err}
		}
	}
	return nil
}

// live goes through the steps, runs, and returns the exit status.
func (c *child) live() int {
	err := through(
		step{"hello", c.greet},
		step{"peers", c.receive},
		step{"setup", c.setup},
		step{"sandbox", c.confine}, // with those of change in between
		step{"ready", c.ready},
	)
	if e, ok := err.(*stepError); ok {
		if c.send(ctlFail, newFailure(e.name, e.err)) != nil { // no parent
			fmt.Fprintf(os.Stderr, "%s: %s: %s: %v\n", c.d.Name, c.name.Role, e.name, err)
		}
		return 1
	}
	select {
	case <-c.run:
	case <-c.ctx.Done():
		if !c.mayRun() { // it may be first go and then stop
			return 0
		}
	}
	f := failure{}
	if err := c.role.Run(c.ctx, c.proc); err != nil && !(errors.Is(err, context.Canceled) && c.ctx.Err() != nil) {
		f = newFailure("run", err)
	}
	c.proc.close()
	c.send(ctlDone, f)
	if f.Text != "" {
		return 1
	}
	return 0
}

// mayRun says whether the parent has said go.
func (c *child) mayRun() bool {
	select {
	case <-c.run:
		return true
	default:
		return false
	}
}

// send tells the parent. If it is gone there is nobody to tell.
func (c *child) send(typ uint32, v any) error {
	return c.ctl.Send(context.Background(), imsg.Header{Type: typ}, nil, marshal(v))
}

func (c *child) ready() error { return c.send(ctlReady, c.status) }
