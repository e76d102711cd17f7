package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
)

// The starter is a process that starts children for a parent which is confined
// when they are needed. It is made before that, and told then which roles there
// are and what each is left with; later it takes only the name of one of them, and
// says to the new process itself what it is left with, on a descriptor of its own.
//
// Who has taken over the parent can have it start these processes, as many as the
// declaration allows instances, again and again, give them files, a configuration
// and channels, as the parent does, and read what they print. It cannot
// change what they run, nor keep them from giving up their rights; but their Setup
// runs before that, with what the parent gives.
//
// The children are the parent's, which waits for them and ends them: the starter
// has no state but the declaration. It ends when the parent does.

const starterName = "starter"

// The messages of the starter's channel.
const (
	starterSeat    uint32 = 1 + iota // a role; none comes after the first start
	starterStart                     // start a process, whose end of the control channel comes with it
	starterStarted                   // the answer, with the read end of the pipe for its output, or with what failed
)

// A seat is what the starter knows of a role.
type seat struct {
	Role     string
	Numbered bool // instances have their number in the title
	Most     int  // instances, 0: no limit
	Trace    bool
	Rights   rights
}

type started struct {
	PID     int
	Root    fileID
	Failure failure
}

func (r *Role) seat(trace bool, rights rights) seat {
	return seat{r.Name, r.instances() != 1, max(r.Instances, r.instances()), trace, rights}
}

// title is what ps(1) shows.
func (s *seat) title(daemon string, instance int) string {
	if s.Numbered {
		return fmt.Sprintf("%s: %s %d", daemon, s.Role, instance)
	}
	return daemon + ": " + s.Role
}

// environment is that of a process of the role.
func (s *seat) environment(common []string, daemon string, instance int, bound string) []string {
	env := append(slices.Clip(common), fmt.Sprintf("%s=%s/%s/%d%s", envRole, daemon, s.Role, instance, bound))
	if s.Trace {
		env = append(env, imsg.TraceVar+"=1")
	}
	return env
}

// A fileID tells files apart.
type fileID struct{ Dev, Ino uint64 }

func identify(info os.FileInfo, err error) (id fileID, _ error) {
	if err == nil {
		st, _ := info.Sys().(*syscall.Stat_t)
		id = fileID{uint64(st.Dev), uint64(st.Ino)} //nolint:unconvert // they differ from system to system
	}
	return id, err
}

// starter is the starter as the parent sees it.
type starter struct {
	conn *imsg.Conn
	os   *os.Process
	wait time.Duration   // for an answer
	ctx  context.Context // or until the daemon is to end
}

// makeStarter makes the starter.
func (s *supervisor) makeStarter(ctx context.Context) error {
	conn, far, err := newChannel(true, true)
	if err != nil {
		return err
	}
	if err := conn.SetMaxSize(maxHello); err != nil {
		conn.Close()
		unix.Close(far)
		return err
	}
	pid, out, err := s.launcher.spawn(s.d.Name+": "+starterName, append(s.environment(), fmt.Sprintf("%s=%s//0", envRole, s.d.Name)), nil, far)
	if err != nil {
		conn.Close()
		return err
	}
	t := &starter{conn: conn, wait: s.d.startTimeout(), ctx: ctx}
	t.os, _ = os.FindProcess(pid)
	s.running.Go(func() { logOutput(s.log.With("role", starterName, "pid", pid), out) })
	s.running.Go(func() {
		state, err := t.os.Wait()
		if err == nil {
			err = errors.New(state.String())
		}
		conn.Close()
		s.post(event{kind: starterGone, err: &ChildError{Role: starterName, Step: "run", Err: err}})
	})
	s.starter = t
	for _, plan := range s.plans {
		m := plan.role.seat(isTraced(os.Getenv(imsg.TraceVar), plan.role.Name), plan.rights(s.d))
		if err := conn.Send(ctx, imsg.Header{Type: starterSeat}, nil, marshal(m)); err != nil {
			return err
		}
	}
	return nil
}

// start has a process started whose end of the control channel is far, which it
// takes. It waits for the starter, whose end is the daemon's if it does not answer.
func (t *starter) start(name peerName, far int) (s started, out *os.File, err error) {
	end := os.NewFile(uintptr(far), "")
	defer end.Close()
	ctx, cancel := context.WithTimeout(t.ctx, t.wait)
	defer cancel()
	if err = t.conn.Send(ctx, imsg.Header{Type: starterStart}, end, marshal(name)); err != nil {
		t.os.Kill()
		return s, nil, err
	}
	m, err := t.conn.Receive(ctx)
	if err != nil {
		t.os.Kill() // what it may say later is for nobody
		return s, nil, err
	}
	defer m.Close()
	if err = unmarshal(m, &s); err == nil && s.Failure.Text != "" {
		err = s.Failure.err()
	}
	if err == nil {
		out = m.TakeFile()
	}
	if err == nil && out == nil {
		err = fmt.Errorf("%w: no pipe", ErrProtocol)
	}
	return s, out, err
}

// close ends the starter, which has nothing to do at the end.
func (t *starter) close() {
	t.os.Kill()
	t.conn.Close()
}

// runStarter is the starter's main function.
func (d *Daemon) runStarter(ctl *imsg.Conn) int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	setTitle(starterName)
	if err := errors.Join(setUndumpable(), dieWithParent()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	makeThreads(runtime.GOMAXPROCS(0) + spareThreads)
	l := newLauncher()
	seats, sealed := make(map[string]*seat), false
	for m, err := range ctl.All(context.Background()) {
		if err != nil {
			return 0 // no parent
		}
		switch {
		case m.Type() == starterSeat && !sealed:
			s := new(seat)
			if err = unmarshal(m, s); err == nil {
				seats[s.Role] = s
			}
		case m.Type() == starterStart:
			sealed = true
			err = d.serveStart(ctl, l, seats, &m)
		default:
			err = fmt.Errorf("%w: message type %d", ErrProtocol, m.Type())
		}
		m.Close()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// serveStart starts a process. The error is that of the channel to the parent.
func (d *Daemon) serveStart(ctl *imsg.Conn, l *launcher, seats map[string]*seat, m *imsg.Message) error {
	var name peerName
	if err := unmarshal(*m, &name); err != nil {
		return err
	}
	s := seats[name.Role]
	if s == nil || name.Instance < 0 || s.Most > 0 && name.Instance >= s.Most || !m.HasFile() {
		return fmt.Errorf("%w: a start of %q[%d], file %t", ErrProtocol, name.Role, name.Instance, m.HasFile())
	}
	var reply started
	out, err := d.startBound(l, s, name.Instance, m.TakeFD(), &reply)
	if err != nil {
		reply.Failure = newFailure("start", err)
	} else {
		defer out.Close()
	}
	return ctl.Send(context.Background(), imsg.Header{Type: starterStarted}, out, marshal(reply))
}

// startBound starts a child of the parent's whose end of the control channel is
// far, which it takes, and tells it what it is left with.
func (d *Daemon) startBound(l *launcher, s *seat, instance, far int, reply *started) (out *os.File, err error) {
	near, end, err := newChannel(true, false)
	if err != nil {
		unix.Close(far)
		return nil, err
	}
	if err = near.SetMaxSize(maxHello); err == nil {
		err = s.sendRights(d.Name, near, reply)
	}
	if err != nil {
		unix.Close(far)
		unix.Close(end)
	} else {
		reply.PID, out, err = l.spawn(s.title(d.Name, instance), s.environment(os.Environ(), d.Name, instance, "/bound"), siblings(), far, end)
	}
	if err != nil {
		near.Close()
		return nil, err
	}
	go func() {
		defer near.Close()
		_ = near.Flush(context.Background()) // until it has them, or has died
	}()
	return out, nil
}

// sendRights queues what a process is left with, and its root directory.
func (s *seat) sendRights(daemon string, near *imsg.Conn, reply *started) error {
	var root *os.File
	if s.Rights.Root {
		f, err := s.Rights.openRoot(daemon)
		if err != nil {
			return err
		}
		defer f.Close()
		if reply.Root, err = identify(f.Stat()); err != nil {
			return err
		}
		fd, err := unixmsg.DupFile(f)
		if err != nil {
			return err
		}
		root = os.NewFile(uintptr(fd), "")
	}
	err := near.Compose(imsg.Header{Type: ctlRights}, root, marshal(s.Rights))
	if err != nil {
		root.Close()
	}
	return err
}

// isTraced says whether a role's channels are to be traced: all are if the variable
// is 1, and otherwise those of the roles that it lists.
func isTraced(variable, role string) bool {
	return !unixmsg.Secure() && (variable == "1" || slices.Contains(strings.Split(variable, ","), role))
}

// narrow says whether children begin with one processor for their goroutines:
// what is done on every thread is done sooner where there are few, and threads that look
// for work are in the way of those that have some. Who lists the variable decides.
func (d *Daemon) narrow() bool { return !slices.Contains(d.Env, envProcessors) }

// environment is that of children, but for what each has of its own.
func (s *shared) environment() (env []string) {
	for _, name := range slices.Concat(alwaysInherited, s.d.Env) {
		if v, ok := os.LookupEnv(name); ok && !unixmsg.Secure() { // else they are another user's
			env = append(env, name+"="+v)
		}
	}
	if s.d.narrow() {
		env = append(env, envProcessors+"=1")
	}
	return env
}
