package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
)

// A process is a child as the parent sees it. Its two goroutines, talk and wait,
// tell the supervisor when it is ready and when it is gone.
type process struct {
	s      *supervisor
	plan   *plan
	name   peerName
	ctl    *imsg.Conn
	far    int    // the child's end of it, until it was started; then -1
	empty  string // its directory, if it has an EmptyDir
	root   string // that it changes to
	rootIs os.FileInfo
	os     *os.Process
	since  time.Time

	// The supervisor's.
	up     bool  // ready
	broken error // why it was killed

	// talk's, until the process is gone.
	greeted bool // said that it is ready
	leaving sync.Once
	left    chan struct{} // closed when it is to end by itself
	done    bool
	status  Status
	err     error
}

// newProcess makes a child's control channel and queues what it must be told
// first. Nothing runs yet.
func (s *supervisor) newProcess(plan *plan, instance int) (*process, error) {
	near, far, err := unixmsg.Pair(true)
	if err != nil {
		return nil, err
	}
	ctl, err := newConn(near, true)
	if err != nil {
		unix.Close(far)
		return nil, err
	}
	p := &process{s: s, plan: plan, name: peerName{plan.role.Name, instance}, ctl: ctl, far: far, left: make(chan struct{})}
	if err := p.introduce(); err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// introduce queues hello, the configuration and the files. The channels follow.
func (p *process) introduce() error {
	plan := p.plan
	chroot := plan.chroot
	if chroot == EmptyDir {
		chroot = ""
		if plan.root {
			dir, err := os.MkdirTemp("", p.s.d.Name+"-")
			if err != nil {
				return err
			}
			p.empty, chroot = dir, dir
			if err := os.Chmod(dir, 0o555); err != nil {
				return err
			}
		}
	}
	if plan.root && chroot != "" {
		var err error
		if p.rootIs, err = os.Stat(chroot); err != nil {
			return err
		}
		p.root = chroot
	}
	level := lowest(p.s.proc.log)
	p.s.mu.Lock() // Give closes files
	defer p.s.mu.Unlock()
	gift := p.s.gifts[p.name.Role]
	h := hello{
		Protocol: protocol, Build: p.s.build, Role: p.name.Role, Instance: p.name.Instance,
		Root: plan.root, UID: plan.uid, GID: plan.gid, Chroot: chroot, Sandbox: plan.role.Sandbox,
		Peers: plan.peers, Files: len(gift.files), Config: len(gift.config),
		Dirs: p.s.d.Directories, Workers: plan.role.Workers, Level: level, Grace: p.s.d.grace(),
	}
	if err := p.tell(ctlHello, -1, marshal(h)); err != nil {
		return err
	}
	for data := gift.config; len(data) > 0; {
		n := min(len(data), maxPayload)
		if err := p.tell(ctlConfig, -1, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	for _, f := range gift.files {
		fd, err := duplicate(f.file)
		if err == nil {
			err = p.tell(ctlFile, fd, []byte(f.name))
		}
		if err != nil {
			return fmt.Errorf("file %s: %w", f.name, err)
		}
	}
	return nil
}

// duplicate leaves the blocking mode alone, as Fd would not.
func duplicate(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if cerr := raw.Control(func(n uintptr) { fd, err = unixmsg.Dup(int(n)) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// tell queues a message, with a descriptor if fd is not negative, which it takes
// in any case; and sends it, if the child runs, without waiting for it. A child
// that is not there is told nothing.
func (p *process) tell(typ uint32, fd int, data []byte) error {
	var f *os.File
	if fd >= 0 {
		f = os.NewFile(uintptr(fd), "")
	}
	if p.ctl == nil {
		return f.Close()
	}
	err := p.ctl.Queue(imsg.Header{Type: typ}, f, data)
	if err != nil && f != nil {
		f.Close()
	}
	if err == nil && p.os != nil {
		p.s.running.Go(func() { p.ctl.Flush(context.Background()) })
	}
	return err
}

// alwaysInherited is what only the Go runtime reads, for debugging and tests.
var alwaysInherited = []string{"GOTRACEBACK", "GORACE", "GOCOVERDIR"}

// launch starts the process: the same program, with nothing of the parent's but
// its output and one channel, in a session of its own, so that ^C in a terminal
// is for the parent alone.
func (p *process) launch() error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	env := []string{fmt.Sprintf("%s=%s/%s/%d", envRole, p.s.d.Name, p.name.Role, p.name.Instance)}
	for _, name := range slices.Concat(alwaysInherited, p.s.d.Env) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	title := p.s.d.Name + ": " + p.name.Role
	if p.plan.role.instances() > 1 {
		title = fmt.Sprintf("%s %d", title, p.name.Instance)
	}
	p.since = time.Now()
	pid, err := syscall.ForkExec(self, []string{title}, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{uintptr(null), 1, 2, uintptr(p.far)},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return &os.PathError{Op: "exec", Path: self, Err: err}
	}
	unix.Close(p.far)
	p.far = -1
	p.os, _ = os.FindProcess(pid)
	talked := make(chan struct{})
	p.s.running.Go(func() { p.talk(); close(talked) })
	p.s.running.Go(func() { p.wait(talked) })
	return nil
}

// discard gives up a process that was never started.
func (p *process) discard() {
	p.ctl.Close()
	if p.far >= 0 {
		unix.Close(p.far)
	}
	p.removeEmpty()
}

func (p *process) removeEmpty() {
	if p.empty != "" {
		os.Remove(p.empty)
		p.empty = ""
	}
}

// talk listens to the child until its end of the channel is closed, and kills it
// when it says something else than it may.
func (p *process) talk() {
	defer p.leave()
	p.s.running.Go(func() { p.ctl.Flush(context.Background()) })
	for m, err := range p.ctl.All(context.Background()) {
		if err == nil {
			err = p.take(m)
			m.Close()
		} else if died(err) {
			return // or wait has lost patience
		} else {
			err = fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if err != nil {
			if p.err == nil {
				p.err = err
			}
			p.os.Kill()
			return
		}
	}
}

// died says whether a channel has ended as it does when a process dies.
func died(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// leave: the child has no reason to live for longer than the grace.
func (p *process) leave() { p.leaving.Do(func() { close(p.left) }) }

// take deals with a message of the child: every one is allowed in one state only.
func (p *process) take(m imsg.Message) error {
	over := p.done || p.err != nil
	switch typ := m.Type(); {
	case m.HasFile() || m.FileErr() != nil:
	case typ == ctlReady && !p.greeted && !over:
		if err := unmarshal(m, &p.status); err != nil {
			return err
		}
		switch err := p.verify(); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
			p.leave() // it is dead: wait will tell
			return nil
		case err != nil:
			return fmt.Errorf("it says it is ready: %w", err)
		}
		p.greeted = true
		p.s.post(event{kind: ready, process: p})
		return nil
	case (typ == ctlFail && !p.greeted || typ == ctlDone && p.greeted) && !over:
		var f failure
		if err := unmarshal(m, &f); err != nil {
			return err
		}
		if p.done = true; f.Text != "" || typ == ctlFail {
			p.err = p.failed(f.err())
			if typ == ctlFail && slices.Contains(steps, f.Step) {
				p.err.(*ChildError).Step = f.Step
			}
		}
		p.leave()
		return nil
	case typ == ctlBroken && p.greeted && !over:
		return p.accuse(m)
	case typ == ctlLog:
		return relay(p.s.proc.log, p.name, p.os.Pid, m.Bytes())
	}
	return fmt.Errorf("%w: message type %d, file %t, ready %t, done %t", ErrProtocol, m.Type(), m.HasFile(), p.greeted, over)
}

// accuse tells the supervisor what a child says of a peer.
func (p *process) accuse(m imsg.Message) error {
	var b broken
	if err := unmarshal(m, &b); err != nil {
		return err
	}
	if b.Role == Parent {
		p.s.proc.log.Error("the parent broke the rules", "says", p.name.Role, "err", printable(b.Text))
		return nil
	}
	if !slices.ContainsFunc(p.plan.peers, func(r peerRole) bool {
		return r.Name == b.Role && b.Instance >= 0 && b.Instance < r.Instances
	}) {
		return fmt.Errorf("%w: %s[%d] is no peer", ErrProtocol, printable(b.Role), b.Instance)
	}
	p.s.post(event{kind: violated, process: p, name: b.peerName, err: fmt.Errorf("%s[%d] says: %s", p.name.Role, p.name.Instance, printable(b.Text))})
	return nil
}

// steps are those of a child's start.
var steps = []string{"hello", "peers", "setup", "chroot", "groups", "ids", "dumpable", "proof", "sandbox", "ready"}

// verify looks at the child from outside, and believes the kernel. What only the
// child can know is its word.
func (p *process) verify() error {
	st, want := &p.status, wanted(p.plan.uid, p.plan.gid)
	if err := want.check(*st); err != nil {
		return err
	}
	st.Sandbox = printableStatus(st.Sandbox)
	if err := st.Sandbox.Satisfies(p.plan.role.Sandbox.Require); err != nil {
		return err
	}
	st.Role, st.Instance, st.PID, st.Groups = p.name.Role, p.name.Instance, p.os.Pid, want.groups
	st.Chroot, st.Missing = "", p.plan.miss
	states, err := readThreads(p.os.Pid)
	if err != nil {
		return err
	}
	st.Threads = 0
	force := st.Sandbox.InForce()
	for s, n := range states {
		if err := want.checkThread(s); err != nil {
			return err
		}
		if force&sandbox.NoNewPrivs != 0 && s.noNewPrivs != "1" || force&sandbox.Seccomp != 0 && s.seccomp != "2" {
			return fmt.Errorf("a thread has no_new_privs %s and seccomp %s, but the status is %v", s.noNewPrivs, s.seccomp, st.Sandbox)
		}
		st.Threads += n
	}
	if p.root == "" {
		return nil
	}
	if st.Chroot = p.root; p.empty != "" {
		st.Chroot = EmptyDir
	}
	return p.verifyRoot(states != nil)
}

func (p *process) verifyRoot(visible bool) error {
	if !visible {
		return nil
	}
	is, err := rootOf(p.os.Pid)
	if err == nil && !os.SameFile(p.rootIs, is) {
		err = fmt.Errorf("its root is not %s", p.root)
	}
	return err
}

// wait reaps the process. What it said before it died still counts; but a process
// of its own that has the channel does not keep it alive.
func (p *process) wait(talked <-chan struct{}) {
	reaped := make(chan struct{})
	p.s.running.Go(func() {
		<-p.left
		select {
		case <-reaped:
		case <-time.After(p.s.d.grace()):
			p.os.Kill()
		}
	})
	state, err := p.os.Wait()
	close(reaped)
	p.ctl.SetReadDeadline(time.Now().Add(p.s.d.grace() / 8)) // less than what the end leaves for it
	<-talked
	p.ctl.Close()
	switch {
	case err != nil:
		p.err = err
	case p.err == nil && (!state.Success() || !p.greeted):
		p.err = errors.New(state.String())
	}
	if _, ok := p.err.(*ChildError); p.err != nil && !ok {
		p.err = p.failed(p.err)
	}
	p.s.post(event{kind: gone, process: p})
}

// failed says that the child did, for a reason that it did not say itself.
func (p *process) failed(err error) error {
	step := "start"
	if p.greeted {
		step = "run"
	}
	return &ChildError{p.name.Role, p.name.Instance, step, err}
}
