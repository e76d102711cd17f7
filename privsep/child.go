package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/privsep/sandbox"
)

// Child is the whole life of a child, if this process is one of d's: then it
// does not return. Main calls it; a program that calls Run, and TestMain in
// tests, must call it before anything else.
func (d *Daemon) Child() {
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
	return imsg.NewConn(controlFD, &imsg.Config{AllowFDPass: true})
}

// child is a process on its way from the parent's rights to its own.
type child struct {
	d        *Daemon
	ctl      *imsg.Conn
	name     peerName
	role     *Role
	hello    hello
	proc     *Proc
	root     os.FileInfo // what must be at "/" after chroot
	status   Status
	run      chan struct{} // closed when the parent says go
	ctx      context.Context
	cancel   context.CancelFunc
	listened bool
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
func (e *stepError) Unwrap() error { return e.err }

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
		select {
		case <-c.run: // first go and then stop
		default:
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

// send tells the parent. If it is gone there is nobody to tell.
func (c *child) send(typ uint32, v any) error {
	return c.ctl.Send(context.Background(), imsg.Header{Type: typ}, nil, marshal(v))
}

// greet learns who this process is to be.
func (c *child) greet() error {
	m, err := expect(c.ctx, c.ctl, ctlHello, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := unmarshal(m, &c.hello); err != nil {
		return err
	}
	build, err := fingerprint()
	if err != nil {
		return err
	}
	if c.hello.Protocol != protocol || c.hello.Build != build {
		return fmt.Errorf("%w: %s, protocol %d, and %s, protocol %d", ErrBuild, c.hello.Build, c.hello.Protocol, build, protocol)
	}
	c.role = c.d.role(c.name.Role)
	if c.role == nil || c.hello.Role != c.name.Role || c.hello.Instance != c.name.Instance {
		return fmt.Errorf("%w: started as %s[%d], greeted as %s[%d]", ErrProtocol, c.name.Role, c.name.Instance, c.hello.Role, c.hello.Instance)
	}
	setTitle(c.name.Role)
	c.proc = newProc(c.name, slog.New(newLogHandler(c.ctl, c.hello.Level)), c.hello.Peers)
	c.proc.dirs, c.proc.work = c.hello.Dirs, c.hello.Workers
	c.proc.report = c.report
	c.proc.ending = c.ctx
	c.proc.know(peerRole{Name: Parent, Instances: 1, Passes: passes(c.hello.Sandbox)})
	if !c.hello.Root {
		c.proc.root = c.hello.Chroot
	}
	slog.SetDefault(c.proc.log)
	return nil
}

// receive takes the configuration, the files and the channels. From then on
// the parent may say go or stop at any time.
func (c *child) receive() error {
	for len(c.proc.config) < c.hello.Config {
		m, err := expect(c.ctx, c.ctl, ctlConfig, false)
		if err != nil {
			return err
		}
		c.proc.config = append(c.proc.config, m.Bytes()...)
		m.Close()
	}
	for range c.hello.Files {
		m, err := expect(c.ctx, c.ctl, ctlFile, true)
		if err != nil {
			return err
		}
		c.proc.files[string(m.Bytes())] = m.TakeFile()
		m.Close()
	}
	for range c.hello.channels() {
		m, err := expect(c.ctx, c.ctl, ctlPeer, true)
		if err != nil {
			return err
		}
		err = c.meet(m)
		m.Close()
		if err != nil {
			return err
		}
	}
	go c.listen()
	return nil
}

// report tells the parent who has broken the rules.
func (c *child) report(name peerName, err error) {
	c.send(ctlBroken, broken{name, err.Error()[:min(len(err.Error()), maxText)]})
}

// meet takes the end of a channel.
func (c *child) meet(m imsg.Message) error {
	var name peerName
	if err := unmarshal(m, &name); err != nil {
		return err
	}
	r, ok := c.proc.known[name.Role]
	if !ok || name.Instance < 0 || name.Instance >= r.Instances {
		return fmt.Errorf("%w: a channel to %s[%d]", ErrProtocol, name.Role, name.Instance)
	}
	conn, err := newConn(m.TakeFD(), r.Passes)
	if err != nil {
		return err
	}
	c.proc.put(name, conn)
	return nil
}

// listen waits for what the parent says, until it says stop or is gone. A child
// does not outlive its parent for longer than the grace.
func (c *child) listen() {
	for m, err := range c.ctl.All(context.Background()) {
		if err != nil {
			break
		}
		typ := m.Type()
		switch {
		case typ == ctlGo && !c.listened:
			c.listened = true
			close(c.run)
		case typ == ctlPeer:
			if err = m.FileErr(); err == nil {
				err = c.meet(m)
			}
		case typ == ctlStop:
			c.cancel()
		default:
			err = fmt.Errorf("%w: message type %d", ErrProtocol, typ)
		}
		m.Close()
		if err != nil {
			c.proc.log.Error("control channel", "err", err)
			break
		}
	}
	c.cancel()
	time.AfterFunc(c.hello.Grace, func() { os.Exit(1) })
}

// setup prepares what the role asks for, and what the standard library reads
// when it is first needed: there may be no file to read it from later.
func (c *child) setup() error {
	_ = time.Now().Local().String() // the time zone
	if c.role.Setup == nil {
		return nil
	}
	return c.role.Setup(c.ctx, c.proc)
}

// change becomes what the role is to be. The sandbox has the paths already: they
// are there only now.
func (c *child) change() error {
	return through(
		step{"chroot", c.chroot},
		step{"groups", c.groups},
		step{"ids", c.ids},
		step{"dumpable", setUndumpable},
		step{"proof", c.prove},
	)
}

func (c *child) chroot() error {
	if !c.hello.Root || c.hello.Chroot == "" {
		return nil
	}
	var err error
	if c.root, err = os.Stat(c.hello.Chroot); err != nil {
		return err
	}
	if err := syscall.Chroot(c.hello.Chroot); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	return os.Chdir("/")
}

func (c *child) groups() error {
	if c.hello.GID < 0 {
		return nil
	}
	return os.NewSyscallError("setgroups", syscall.Setgroups([]int{c.hello.GID}))
}

func (c *child) ids() error {
	if c.hello.GID >= 0 {
		if err := setGID(c.hello.GID); err != nil {
			return fmt.Errorf("gid %d: %w", c.hello.GID, err)
		}
	}
	if c.hello.UID >= 0 {
		if err := setUID(c.hello.UID); err != nil {
			return fmt.Errorf("uid %d: %w", c.hello.UID, err)
		}
	}
	return nil
}

// confine gives up what can be given up without being root, and the rest in
// between.
func (c *child) confine() error {
	policy, root := c.hello.Sandbox, c.hello.Chroot
	if !c.hello.Root { // and no change of root
		root = ""
		policy.Paths = slices.Clone(policy.Paths)
		for i := range policy.Paths {
			policy.Paths[i].Name = c.proc.Path(policy.Paths[i].Name)
		}
	}
	status, err := sandbox.EnterWith(policy, root, c.change)
	c.status.Sandbox = status
	return err
}

func (c *child) ready() error { return c.send(ctlReady, c.status) }
