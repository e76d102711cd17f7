package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/peer"
)

// RunChild runs this process as one of d's children and exits; in any other
// process it returns at once. Main calls it; a program that calls Run, and TestMain in
// tests, must call it before anything else.
func (d *Daemon) RunChild() {
	text, ok := os.LookupEnv(envRole)
	if !ok {
		return
	}
	name, rest, _ := strings.Cut(text, "/")
	role, instance, ok := strings.Cut(rest, "/")
	instance, bound, _ := strings.Cut(instance, "/")
	n, err := strconv.Atoi(instance)
	if !ok || err != nil || name != d.Name {
		return
	}
	os.Unsetenv(envRole)
	syscall.Umask(syscall.Umask(0o077) | 0o022)
	ctl, err := openControl()
	var rights *imsg.Conn
	if err == nil && bound != "" {
		if rights, err = newConn(rightsFD, true); err == nil {
			err = rights.SetMaxSize(maxHello)
		}
	}
	if err == nil {
		err = closeInherited(rights != nil)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s is %q: %v\n", d.Name, envRole, text, err)
		os.Exit(1)
	}
	if role == "" {
		os.Exit(d.runStarter(ctl))
	}
	os.Exit(newChild(d, ctl, rights, role, n).main())
}

// openControl checks that descriptor 3 is what the parent leaves there, and that
// who has made it is the process that started this one, with the same rights. A
// program that has more rights than who starts it (set-user-ID, or with file
// capabilities) is nobody's child: all that is said here is the starter's.
func openControl() (*imsg.Conn, error) {
	if unixmsg.Secure() && !isHarmless() {
		return nil, fmt.Errorf("%w: this program has rights that its starter has not", ErrNotChild)
	}
	kind, err := unix.GetsockoptInt(controlFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("%w: descriptor %d: %w", ErrNotChild, controlFD, err)
	}
	addr, err := unix.Getsockname(controlFD)
	if _, local := addr.(*unix.SockaddrUnix); err != nil || !local || kind != unix.SOCK_STREAM {
		return nil, fmt.Errorf("%w: descriptor %d is no stream socket of the unix domain", ErrNotChild, controlFD)
	}
	pid, uid, _, err := unixmsg.PeerCred(controlFD)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("%w: descriptor %d: %w", ErrNotChild, controlFD, err)
	}
	if err == nil && (int(uid) != os.Geteuid() || pid != os.Getppid() && (pid != 0 || runtime.GOOS == "linux")) {
		return nil, fmt.Errorf("%w: descriptor %d is of process %d and user %d", ErrNotChild, controlFD, pid, uid)
	}
	ctl, err := newConn(controlFD, true)
	if err != nil {
		return nil, err
	}
	return ctl, ctl.SetMaxSize(maxHello)
}

// child is a process on its way from the parent's rights to its own.
type child struct {
	d      *Daemon
	ctl    *imsg.Conn
	bound  *imsg.Conn // to the starter, if that has started this
	name   peerName
	role   *Role
	hello  hello
	proc   *Proc
	root   *os.File // what must be at "/" after chroot
	status Status
	level  slog.LevelVar

	limited int64    // memory
	missing []string // what could not be done

	run  chan struct{} // closed when the parent says go
	lost []replace     // listen's: what to ask for when the parent has said go
	session
	ctx    context.Context
	cancel context.CancelFunc
}

func newChild(d *Daemon, ctl, bound *imsg.Conn, role string, instance int) *child {
	c := &child{d: d, ctl: ctl, bound: bound, name: peerName{role, instance}, run: make(chan struct{}), session: newSession()}
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

// runSteps does one step after the other.
func runSteps(steps ...step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			if _, inner := errors.AsType[*stepError](err); inner {
				return err
			}
			return &stepError{s.name, err}
		}
	}
	return nil
}

// main goes through the steps, runs, and returns the exit status.
func (c *child) main() int {
	err := runSteps(
		step{"hello", c.readHello},
		step{"peers", c.receive},
		step{"setup", c.setup},
		step{"sandbox", c.confine}, // with those of change in between
		step{"ready", c.ready},
	)
	c.widen()
	if e, ok := errors.AsType[*stepError](err); ok {
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

// widen takes as many processors as there are, before code of the role's runs.
func (c *child) widen() {
	if c.hello.Narrow {
		c.hello.Narrow = false
		runtime.SetDefaultGOMAXPROCS()
	}
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
	if err := c.advance(byChild, typ, false); err != nil {
		return err
	}
	return c.ctl.Send(context.Background(), imsg.Header{Type: typ}, nil, marshal(v))
}

func (c *child) ready() error { return c.send(ctlReady, c.status) }

// expect receives a message of one type.
func (c *child) expect(typ uint32) (imsg.Message, error) {
	m, err := c.ctl.Receive(c.ctx)
	if err != nil {
		return m, err
	}
	if err = c.received(byParent, m); err == nil && m.Type() != typ {
		err = fmt.Errorf("%w: message type %d instead of type %d", ErrProtocol, m.Type(), typ)
	}
	if err != nil {
		m.Close()
		return imsg.Message{}, err
	}
	return m, nil
}

// readHello learns who this process is to be.
func (c *child) readHello() error {
	m, err := c.expect(ctlHello)
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
	if c.hello.Narrow {
		os.Unsetenv(envProcessors)
	}
	if c.hello.Protocol != protocol || c.hello.Build != build {
		return fmt.Errorf("%w: %s, protocol %d, and %s, protocol %d", ErrBuild, c.hello.Build, c.hello.Protocol, build, protocol)
	}
	if c.bound != nil {
		if err := c.readRights(); err != nil {
			return err
		}
	}
	c.role = c.d.role(c.name.Role)
	if c.role == nil || c.hello.Role != c.name.Role || c.hello.Instance != c.name.Instance {
		return fmt.Errorf("%w: started as %s[%d], greeted as %s[%d]", ErrProtocol, c.name.Role, c.name.Instance, c.hello.Role, c.hello.Instance)
	}
	setTitle(c.name.Role)
	c.level.Set(c.hello.Level)
	c.proc = newProc(c.name, slog.New(newLogHandler(c.ctl, &c.level)), c.hello.Peers)
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

// readRights learns from the starter what the parent has no say in.
func (c *child) readRights() error {
	defer c.bound.Close()
	m, err := c.bound.Receive(c.ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	c.hello.rights = rights{}
	c.root = m.TakeFile()
	if m.Type() != ctlRights || m.FileErr() != nil {
		return fmt.Errorf("%w: message type %d of the starter, %w", ErrProtocol, m.Type(), m.FileErr())
	}
	return unmarshal(m, &c.hello.rights)
}

// receive takes the configuration, the files and the channels. From then on
// the parent may say go or stop at any time.
func (c *child) receive() error {
	if c.hello.Root && c.bound == nil {
		m, err := c.expect(ctlRoot)
		if err != nil {
			return err
		}
		c.root = m.TakeFile()
		m.Close()
	}
	for len(c.proc.config) < c.hello.Config {
		m, err := c.expect(ctlConfig)
		if err != nil {
			return err
		}
		c.proc.config = append(c.proc.config, m.Bytes()...)
		m.Close()
	}
	for range c.hello.Files {
		m, err := c.expect(ctlFile)
		if err != nil {
			return err
		}
		c.proc.files[string(m.Bytes())] = m.TakeFile()
		m.Close()
	}
	for range c.hello.channels() {
		m, err := c.expect(ctlPeer)
		if err != nil {
			return err
		}
		err = c.addPeer(m)
		m.Close()
		if err != nil {
			return err
		}
	}
	go c.listen()
	return nil
}

// report closes the channel to a peer that has broken the rules, and asks the
// parent for another one. (The channel to the parent is the parent's to replace.)
func (c *child) report(name peerName, q *peer.Peer, err error) {
	q.Close()
	c.send(ctlReplace, newReplace(name, err, false))
}

// peerOf returns to which peer the channel is whose end comes with m.
func (c *child) peerOf(m imsg.Message) (name peerName, r peerRole, err error) {
	if err := unmarshal(m, &name); err != nil {
		return name, r, err
	}
	r, ok := c.proc.known[name.Role]
	if !ok || name.Instance < 0 || name.Instance >= r.Instances {
		return name, r, fmt.Errorf("%w: a channel to %s[%d]", ErrProtocol, name.Role, name.Instance)
	}
	return name, r, nil
}

// addPeer takes the end of a channel.
func (c *child) addPeer(m imsg.Message) error {
	name, r, err := c.peerOf(m)
	if err != nil {
		return err
	}
	conn, err := newConn(m.TakeFD(), r.Passes)
	if err != nil {
		return err
	}
	c.proc.put(name, conn)
	return nil
}

// lostPeer asks for another channel in place of that of m, whose end was lost on
// the way, as when no descriptor was free. The parent waits before it makes
// another, longer each time.
func (c *child) lostPeer(m imsg.Message, cause error) error {
	name, _, err := c.peerOf(m)
	if err != nil {
		return err
	}
	if name.Role == Parent { // which makes one only at the start
		return cause
	}
	c.proc.log.Warn("a channel was lost", "peer", name.Role, "peerinstance", name.Instance, "err", cause)
	c.lost = append(c.lost, newReplace(name, cause, true))
	c.askLost()
	return nil
}

// askLost asks for the channels that were lost, once it may.
func (c *child) askLost() {
	if !c.mayRun() {
		return
	}
	for _, r := range c.lost {
		c.send(ctlReplace, r)
	}
	c.lost = nil
}

// listen waits for what the parent says, until it says stop or is gone. A child
// does not outlive its parent for longer than the grace.
func (c *child) listen() {
	for m, err := range c.ctl.All(context.Background()) {
		if err != nil {
			break
		}
		if err = c.received(byParent, m); !errors.Is(err, ErrProtocol) {
			switch m.Type() {
			case ctlGo:
				close(c.run)
				c.askLost()
			case ctlPeer:
				if err == nil {
					err = c.addPeer(m)
				}
				if err != nil && !errors.Is(err, ErrProtocol) {
					err = c.lostPeer(m, err)
				}
			case ctlStop:
				c.cancel()
			case ctlLevel:
				var level slog.Level
				if err = unmarshal(m, &level); err == nil {
					c.level.Set(level)
				}
			case ctlPing:
				c.send(ctlPong, nil)
			default: // late
				err = fmt.Errorf("%w: message type %d", ErrProtocol, m.Type())
			}
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
