package privsep

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
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
	ctl, far, err := newChannel(true)
	if err != nil {
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
	err := p.ctl.Compose(imsg.Header{Type: typ}, f, data)
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
