package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/peer"
	"example.org/imsg/privsep/sandbox"
)

// shared is what the supervisor and all its processes use.
type shared struct {
	d        *Daemon
	build    string
	log      *slog.Logger
	launcher *launcher
	starter  *starter // starts children in place of launcher, if there is one
	grants   *grants
	level    atomic.Pointer[slog.Level] // SetLogLevel's

	events  chan event
	over    chan struct{} // closed when nobody listens to events any more
	running sync.WaitGroup
}

// post tells the supervisor what happened, if it still wants to know.
func (s *shared) post(e event) {
	select {
	case s.events <- e:
	case <-s.over:
	}
}

// A process is a child as the parent sees it. Its goroutines, receive, output and
// wait, tell the supervisor when it is ready and when it is gone.
type process struct {
	*shared
	plan  *plan
	name  peerName
	ctl   *imsg.Conn
	child *Child     // for who has asked for it, if the role is OnDemand
	peer  *peer.Peer // the parent's own channel to it
	far   int        // the child's end of ctl, until it was started; then -1
	root  fileID     // that it changes to
	os    *os.Process
	since time.Time
	session

	// The supervisor's.
	up     bool        // ready
	silent atomic.Bool // has not answered the last ping
	broken error       // why it was killed

	late    *time.Timer // when it should be ready
	leaving sync.Once
	left    chan struct{} // closed when it is to end by itself

	mu       sync.Mutex
	verified bool // it was ready
	status   Status
	err      error
}

// newProcess makes a child's control channel and queues what it must be told
// first. Nothing runs yet.
func (s *shared) newProcess(plan *plan, instance int, given Given) (*process, error) {
	ctl, far, err := newChannel(true, false)
	if err != nil {
		return nil, err
	}
	if err := ctl.SetMaxSize(maxHello); err != nil {
		ctl.Close()
		unix.Close(far)
		return nil, err
	}
	p := &process{shared: s, plan: plan, name: peerName{plan.role.Name, instance}, ctl: ctl, far: far, session: newSession(), left: make(chan struct{})}
	if err := p.introduce(given); err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// send queues a message, with a descriptor if fd is not negative, which it takes
// in any case; and sends it, if the child runs, without waiting for it. A child
// that is not there is sent nothing.
func (p *process) send(typ uint32, fd int, data []byte) error {
	var f *os.File
	if fd >= 0 {
		f = os.NewFile(uintptr(fd), "")
	}
	if p.ctl == nil {
		return f.Close()
	}
	err := p.advance(byParent, typ, f != nil)
	if err == nil {
		err = p.ctl.Compose(imsg.Header{Type: typ}, f, data)
	}
	if err != nil && f != nil {
		f.Close()
	}
	if err == nil && p.os != nil {
		p.flush()
	}
	return err
}

func (p *process) flush() {
	p.running.Go(func() {
		if err := p.ctl.Flush(context.Background()); errors.Is(err, imsg.ErrFileNotSent) {
			p.notSent(err)
		} // other errors are those of a channel that has ended, which receive sees
	})
}

// notSent ends a child that waits for a file, or for the end of a channel, that the
// kernel does not pass. One that runs does without.
func (p *process) notSent(err error) {
	p.log.Error("a file could not be sent to a child", "role", p.name.Role, "instance", p.name.Instance, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.verified && p.err == nil {
		e := p.failed(false, err)
		e.Step = "peers"
		p.err = e
		p.os.Kill()
	}
}

// alwaysInherited is what only the Go runtime reads, and the time zone.
var alwaysInherited = []string{"GOTRACEBACK", "GORACE", "GOCOVERDIR", "TZ"}

// launch starts the process.
func (p *process) launch() error {
	p.since = time.Now()
	far := p.far
	p.far = -1
	var pid int
	var out *os.File
	var err error
	if p.starter != nil {
		var s started
		s, out, err = p.starter.start(p.name, far)
		pid, p.root = s.PID, s.Root
	} else {
		s := p.plan.role.seat(isTraced(os.Getenv(imsg.TraceVar), p.name.Role), rights{})
		pid, out, err = p.launcher.spawn(s.title(p.d.Name, p.name.Instance), s.environment(p.environment(), p.d.Name, p.name.Instance, ""), nil, far)
	}
	if err != nil {
		return err
	}
	p.os, _ = os.FindProcess(pid)
	var heard sync.WaitGroup // what it says, until the end of that
	p.late = time.AfterFunc(p.d.startTimeout()+p.d.grace(), p.notStarted)
	p.running.Go(p.killLate)
	p.flush()
	heard.Go(p.receive)
	heard.Go(func() { logOutput(p.log.With("role", p.name.Role, "instance", p.name.Instance, "pid", pid), out) })
	p.running.Go(heard.Wait)
	p.running.Go(func() { p.wait(&heard, out) })
	return nil
}

// discard gives up a process that was never started.
func (p *process) discard() {
	p.ctl.Close()
	if p.far >= 0 {
		unix.Close(p.far)
	}
}

// receive takes the child's messages until its end of the channel is closed, and
// kills it when one is not what the protocol allows.
func (p *process) receive() {
	defer p.startGrace()
	for m, err := range p.ctl.All(context.Background()) {
		if err == nil {
			if err = p.handle(m); err != nil {
				p.os.Kill() // first: closing a file may take as long as the child likes
			}
			m.Close()
		} else if isEnd(err) {
			return // or wait has lost patience
		} else {
			err = fmt.Errorf("%w: %w", ErrProtocol, err)
			p.os.Kill()
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
}

// isEnd says whether a channel has ended as it does when a process dies.
func isEnd(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// startGrace starts the child's grace period: it is killed if it has not exited
// when that ends.
func (p *process) startGrace() { p.leaving.Do(func() { close(p.left) }) }

// fail keeps the first error.
func (p *process) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// handle deals with a message of the child.
func (p *process) handle(m imsg.Message) error {
	if err := p.received(byChild, m); err != nil {
		return err
	}
	switch m.Type() {
	case ctlReady:
		var st Status
		if err := unmarshal(m, &st); err != nil {
			return err
		}
		switch err := p.verify(&st); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
			p.startGrace() // it is dead: wait will tell
		case err != nil:
			return p.failed(false, fmt.Errorf("it says it is ready: %w", err))
		default:
			p.mu.Lock()
			p.status, p.verified = st, true
			p.mu.Unlock()
			p.post(event{kind: isReady, process: p})
		}
	case ctlFail, ctlDone:
		var f failure
		if err := unmarshal(m, &f); err != nil {
			return err
		}
		if f.Text != "" || m.Type() == ctlFail {
			e := p.failed(m.Type() == ctlDone, f.err())
			if m.Type() == ctlFail && slices.Contains(stepNames, f.Step) {
				e.Step = f.Step
			}
			p.fail(e)
		}
		p.startGrace()
	case ctlLog:
		if m.Len() > maxPayload {
			return fmt.Errorf("%w: a log record of %d bytes", ErrProtocol, m.Len())
		}
		return relay(p.log, p.name, p.os.Pid, m.Bytes())
	case ctlPong:
		p.silent.Store(false)
	case ctlReplace:
		return p.replace(m)
	}
	return nil
}

// replace asks the supervisor for another channel between the child and a peer.
func (p *process) replace(m imsg.Message) error {
	var r replace
	if err := unmarshal(m, &r); err != nil {
		return err
	}
	if r.Role == Parent {
		p.log.Error("the parent broke the rules", "says", p.name.Role, "err", printable(r.Text))
		return nil
	}
	if !slices.ContainsFunc(p.plan.peers, func(q peerRole) bool {
		return q.Name == r.Role && r.Instance >= 0 && r.Instance < q.Instances
	}) {
		return fmt.Errorf("%w: %s[%d] is no peer", ErrProtocol, printable(r.Role), r.Instance)
	}
	text := "a child says that a peer broke the rules, and has closed the channel"
	if r.Lost {
		text = "a child says that its channel to a peer was lost"
	}
	p.log.Warn(text, "role", p.name.Role, "instance", p.name.Instance, "peer", r.Role, "peerinstance", r.Instance, "err", printable(r.Text))
	p.post(event{kind: closedChannel, process: p, name: r.peerName})
	return nil
}

// stepNames are those of a child's start.
var stepNames = []string{"hello", "peers", "setup", "chroot", "groups", "ids", "dumpable", "parent", "proof", "sandbox", "ready"}

// notStarted ends a child that is not ready, nor says what keeps it.
func (p *process) notStarted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.verified && p.err == nil {
		p.err = p.failed(false, fmt.Errorf("it is not ready after %v", p.d.startTimeout()+p.d.grace()))
		p.os.Kill()
	}
}

// killLate ends a child that had the grace to do it itself.
func (p *process) killLate() {
	select {
	case <-p.left:
	case <-p.over:
		return
	}
	timer := time.NewTimer(p.d.grace())
	defer timer.Stop()
	select {
	case <-p.over:
	case <-timer.C:
		p.os.Kill() // which does nothing to one that was waited for
	}
}

// wait reaps the process: its death is known by this, and not by its channel,
// which another process may hold, or which we may be unable to read. What it
// said before it died still counts.
func (p *process) wait(heard *sync.WaitGroup, out *os.File) {
	state, err := p.os.Wait()
	p.late.Stop()
	deadline := time.Now().Add(p.d.lastWords())
	p.ctl.SetReadDeadline(deadline)
	out.SetReadDeadline(deadline)
	done := make(chan struct{})
	p.running.Go(func() { heard.Wait(); p.ctl.Close(); close(done) })
	timer := time.NewTimer(2 * p.d.lastWords()) // a read may be stuck in the kernel
	select {
	case <-done:
	case <-timer.C:
	}
	timer.Stop()
	p.post(event{kind: isGone, process: p, err: p.outcome(state, err)})
}

// outcome is the child's error, when it has been waited for.
func (p *process) outcome(state *os.ProcessState, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.err = err
	case p.err == nil && (!state.Success() || !p.verified):
		p.err = errors.New(state.String())
	}
	if child := (*ChildError)(nil); p.err != nil && !errors.As(p.err, &child) {
		p.err = p.failed(p.verified, p.err)
	}
	return p.err
}

// failed says that the child did, before it was ready or after.
func (p *process) failed(ready bool, err error) *ChildError {
	step := "start"
	if ready {
		step = "run"
	}
	return &ChildError{p.name.Role, p.name.Instance, step, err}
}

// verify looks at the child from outside, and believes the kernel: it corrects
// st. What only the child can know is its word.
func (p *process) verify(st *Status) error {
	r := p.plan.rights(p.d)
	want := r.wanted()
	if err := want.check(*st); err != nil {
		return err
	}
	st.Sandbox = printableStatus(st.Sandbox)
	if err := st.Sandbox.Satisfies(p.plan.role.Sandbox.Require); err != nil {
		return err
	}
	st.Role, st.Instance, st.PID, st.Groups = p.name.Role, p.name.Instance, p.os.Pid, want.groups
	for i := range st.Missing {
		st.Missing[i] = printable(st.Missing[i])
	}
	st.Chroot, st.Missing = "", slices.Concat(p.plan.missing, p.launcher.missing, st.Missing)
	states, err := readThreads(p.os.Pid)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(p.os.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		err = nil // it is there, but /proc hides it
	}
	if errors.Is(err, fs.ErrPermission) && p.starter != nil {
		err = nil // this process is confined
	}
	if err != nil {
		return err
	}
	st.Threads = 0
	force := st.Sandbox.InForce()
	for s, n := range states {
		if err := want.checkThread(s); err != nil {
			return err
		}
		if s.noNewPrivs != "1" && (len(p.launcher.missing) == 0 || force&sandbox.NoNewPrivs != 0) || force&sandbox.Seccomp != 0 && s.seccomp != "2" {
			return fmt.Errorf("a thread has no_new_privs %s and seccomp %s, but the status is %v", s.noNewPrivs, s.seccomp, st.Sandbox)
		}
		st.Threads += n
	}
	if !p.plan.chroots {
		return nil
	}
	st.Chroot = p.plan.chroot
	if states == nil { // there is no /proc, or it is not for us
		return nil
	}
	is, err := identify(rootOf(p.os.Pid))
	if errors.Is(err, fs.ErrPermission) {
		return nil // that takes CAP_SYS_PTRACE; the child has seen it itself
	}
	if err == nil && p.root != is {
		err = fmt.Errorf("its root is not %s", p.plan.chroot)
	}
	return err
}
