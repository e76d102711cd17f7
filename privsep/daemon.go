package privsep

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.org/imsg/privsep/sandbox"
)

const (
	// Parent is the name under which children know the parent.
	Parent = "parent"

	// NoUser as Role.User lets a role stay root although Daemon.User names a user.
	NoUser = "-"

	// NoChroot as Role.Chroot leaves a role where it is although Daemon.Chroot
	// names a directory.
	NoChroot = "-"

	// EmptyDir as a Chroot stands for an empty directory that the parent makes
	// for the start, and that is gone when the role runs: nothing can be found
	// there or put there.
	EmptyDir = "empty:"

	defaultGrace   = 5 * time.Second
	defaultBackoff = 100 * time.Millisecond
	maxBackoff     = time.Minute
)

// A Daemon is a program that is split into processes with different rights,
// declared as data: the same declaration is there in the parent and in every
// child, which runs the same program. A child goes by the names and functions in
// its own, and is told everything else by the parent.
type Daemon struct {
	// Name is the daemon's: children are "Name: role" in ps(1).
	Name string

	// User and Chroot are the roles' defaults. "" leaves ids and root alone.
	User   string
	Chroot string

	Roles []Role

	// Prepare, if not nil, runs in the parent before anything else: the place to
	// read flags and configuration, to bind ports and to say with Proc.AddFile and
	// Proc.Configure what the roles get. It may also change the declaration: for
	// a user or a directory that the configuration names.
	Prepare func(context.Context, *Proc) error

	// Parent, if not nil, runs in the parent when every child has given up its
	// rights and runs. The daemon ends, with its error, when it returns.
	Parent func(context.Context, *Proc) error

	// Reload, if not nil, runs in the parent at SIGHUP, which Main looks for.
	// An error is logged. Without it SIGHUP ends the daemon as SIGTERM does.
	//
	// What it sets with Configure and AddFile is for processes that are started
	// later: those of Start, and those that Stop has ended and OnExit starts
	// again. What is to reach a running child goes over its channel, as any
	// message, with descriptors if need be; the child's table says so.
	Reload func(context.Context, *Proc) error

	// ParentSandbox is what the parent keeps for itself when the children run.
	// Promises must have "proc", to end them, and "sendfd recvfd" if a role is
	// OnDemand or is restarted: its processes are then started by another process,
	// which is made for that before; on Linux only. What they are left with is that process's to say,
	// which the parent cannot change any more, but it can start them and
	// configure them: their Setup should expect what Run expects.
	ParentSandbox sandbox.Policy

	// ParentCapabilities are the capabilities that the parent keeps when the
	// children run, such as "CAP_NET_BIND_SERVICE", and CAP_KILL if it needs that to
	// end children of other users; nil is all that it has. Linux only.
	ParentCapabilities []string

	// Privileged makes the start fail for an ordinary user. Otherwise the same
	// program runs without changing root and ids, and Status says so.
	Privileged bool

	// Directories lets directories be passed between the processes. Who has
	// one can open what lies below, and above: past its own root.
	Directories bool

	// Env names the variables that children inherit, besides GOTRACEBACK,
	// GORACE, GOCOVERDIR and TZ; none if the program is set-user-ID.
	Env []string

	// Grace is how long the end may take, 0 means 5 seconds: children are asked
	// to end, and killed after three quarters of it. They ignore SIGTERM, SIGINT
	// and SIGHUP, which are the parent's to deal with, whoever gets them; so do
	// programs that they execute.
	Grace time.Duration

	// StartTimeout is how long a child's Setup may take, 0 means a minute. Then
	// its start has failed.
	StartTimeout time.Duration

	// Logger gets the children's records and what there is to say of them; nil
	// means slog.Default.
	Logger *slog.Logger
}

// A Role is what one kind of child process does and may do.
type Role struct {
	Name string

	// Instances is the number of processes, 0 means 1. For a role OnDemand it is
	// the most at a time, and 0 means no limit.
	Instances int

	// OnDemand processes are started by Proc.Start while the daemon runs: one for
	// each connection, say. They have a channel to the parent only.
	OnDemand bool

	// User, Group and Chroot override the daemon's. The group is the user's
	// own if it is not named, and the only one but for Groups. All are looked up in the parent;
	// numbers need not be known. A user that only one role has may have 1024
	// threads and processes for each instance. The directory and those on the way
	// to it must belong to root, and nobody else may write there.
	User, Group, Chroot string

	// Groups are further groups; it must have a User or a Group.
	Groups []string

	// Memory is how many bytes a process may use more than it does when its Setup
	// has ended, 0 means no limit. The garbage collector works harder from half of it on
	// (debug.SetMemoryLimit), and a process that needs more ends with a fatal error
	// (RLIMIT_DATA, which also counts what was used before: twice what a process
	// has at a time is a good limit, and 32 MiB the least). In a cgo program the
	// stacks of further threads than it has then count, 8 MiB each. Linux only.
	Memory int64

	// OOMScore is written to oom_score_adj, -1000 to 1000, 0 leaves the parent's:
	// the greater, the sooner the process is ended when the system is out of
	// memory. Linux only; less than the parent's takes CAP_SYS_RESOURCE.
	OOMScore int

	// Sandbox restricts files and sets limits just before the change of root and
	// ids, and system calls last. Its Paths are as seen inside Chroot, also when
	// there is no change because the daemon was started by an ordinary user.
	Sandbox sandbox.Policy

	// Peers are the roles to which this one has a channel. It is enough to
	// declare it on one side. Every instance is connected with every other.
	Peers []string

	// Workers is peer.Config.Workers of this role's channels: how many requests
	// of one peer it handles at a time, 0 means 1.
	Workers int

	// Setup, if not nil, runs in the child while it is still privileged: the
	// place to open what cannot be opened later. Run runs when every child
	// has given up its rights. The context ends when the daemon does.
	Setup func(context.Context, *Proc) error
	Run   func(context.Context, *Proc) error

	// OnExit says what follows when a process of this role ends, for whatever
	// reason. Before all children run, every end is the daemon's.
	OnExit ExitPolicy

	// Backoff is the time before the first restart, 0 means 100 ms. It doubles
	// up to a minute, and begins again when a process has lasted longer.
	Backoff time.Duration
}

// An ExitPolicy says what follows the end of a child.
type ExitPolicy uint8

const (
	// EndAll ends the daemon, with the child's error if it had one.
	EndAll ExitPolicy = iota

	// Restart starts it again, after Role.Backoff; it gets new channels, as do its
	// peers.
	Restart

	// Ignore lets the others go on; its channels have ended.
	Ignore
)

// Main is the whole main function: of the parent, and of the children, which
// are the same program. It runs until the daemon ends, or SIGINT or SIGTERM end
// it, prints the error that Run returns, and exits with status 1 if there is one
// and otherwise 0. It must be called before anything else in main, in
// particular before flags are parsed: that is for Prepare.
func (d *Daemon) Main() {
	d.RunChild()
	if v, ok := os.LookupEnv(envRole); ok {
		fmt.Fprintf(os.Stderr, "%s: %s is %q: %v\n", d.Name, envRole, v, ErrNotChild)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	hup := make(chan os.Signal, 1)
	if d.Reload != nil {
		signal.Notify(hup, syscall.SIGHUP)
	} else {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	if err := d.run(ctx, hup); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", d.Name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Run is the parent: it starts the children, and returns when the daemon has
// ended and no child is left. The error is nil if ctx ended it, if Parent or a
// role's Run returned nil, and otherwise says what went wrong, mostly as a
// *ChildError. A program that calls Run must call
// RunChild first; ErrNotChild says that it has not.
//
// Run changes the process: descriptors above 2 become close-on-exec, others of its
// user cannot look into it any more, and until Run returns it is the reaper of the
// orphans of its children, and does not die of SIGPIPE.
func (d *Daemon) Run(ctx context.Context) error { return d.run(ctx, nil) }

func (d *Daemon) grace() time.Duration {
	if d.Grace > 0 {
		return d.Grace
	}
	return defaultGrace
}

// The stages of an end, counted from when the children are asked to: what is left
// is killed, and at last not waited for any more.
func (d *Daemon) killAfter() time.Duration   { return d.grace() / 4 * 3 }
func (d *Daemon) giveUpAfter() time.Duration { return max(d.grace(), d.killAfter()+time.Second) }

// lastWords is how long the channels of a dead child are read: another process
// may hold them.
func (d *Daemon) lastWords() time.Duration { return d.grace() / 8 }

func (d *Daemon) startTimeout() time.Duration {
	if d.StartTimeout > 0 {
		return d.StartTimeout
	}
	return time.Minute
}

func (d *Daemon) logger() *slog.Logger {
	if d.Logger != nil {
		return d.Logger
	}
	return slog.Default()
}

// role returns the role of that name, or nil.
func (d *Daemon) role(name string) *Role {
	for i := range d.Roles {
		if d.Roles[i].Name == name {
			return &d.Roles[i]
		}
	}
	return nil
}

// instances is the number of processes that there always are.
func (r *Role) instances() int {
	if r.OnDemand {
		return 0
	}
	return max(r.Instances, 1)
}

// linked says whether there is a channel between the two roles.
func (d *Daemon) linked(a, b *Role) bool {
	return a != b && (slices.Contains(a.Peers, b.Name) || slices.Contains(b.Peers, a.Name))
}

func (r *Role) passes() bool { return passes(r.Sandbox) }

// sends says whether a process of the role may send descriptors.
func (r *Role) sends() bool {
	words := strings.Fields(r.Sandbox.Promises)
	return len(words) == 0 || slices.Contains(words, "sendfd")
}

// passes says whether a process may send or receive descriptors.
func passes(p sandbox.Policy) bool {
	words := strings.Fields(p.Promises)
	return len(words) == 0 || slices.Contains(words, "sendfd") || slices.Contains(words, "recvfd")
}
