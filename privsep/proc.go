package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"example.org/imsg"
	"example.org/imsg/peer"
)

// ErrorType is the type of the message that answers a request which failed;
// the programs' own messages have others.
const ErrorType = peer.DefaultErrorType

// A Proc is this process as its own code sees it: the parent or a child. Its
// methods may be called from many goroutines.
type Proc struct {
	self   peerName
	log    *slog.Logger
	root   string // what Path puts before names
	dirs   bool   // may be passed
	known  map[string]peerRole
	ending context.Context                   // ends when the daemon does
	report func(peerName, *peer.Peer, error) // of a violation
	work   int                               // peer.Config.Workers

	// What a child was given. Complete before its code runs.
	config []byte
	files  map[string]*os.File

	parent *parentProc // of the parent only

	mu      sync.Mutex
	peers   map[peerName]*peer.Peer
	rules   map[string][]peer.Rule
	changed chan struct{} // closed when peers changes
	closing sync.WaitGroup
}

func newProc(self peerName, log *slog.Logger, peers []peerRole) *Proc {
	p := &Proc{
		self: self, log: log, files: make(map[string]*os.File), known: make(map[string]peerRole),
		peers: make(map[peerName]*peer.Peer), rules: make(map[string][]peer.Rule), changed: make(chan struct{}),
	}
	p.know(peers...)
	return p
}

// know adds roles to whose processes there are channels.
func (p *Proc) know(roles ...peerRole) {
	for _, r := range roles {
		p.known[r.Name] = r
	}
}

// Role returns the role of this process, Parent in the parent.
func (p *Proc) Role() string { return p.self.Role }

// Instance returns the number of this process among those of its role, from 0.
func (p *Proc) Instance() int { return p.self.Instance }

// Logger returns the log: the daemon's, which children reach through their
// channel. In a child it is slog's default as well.
func (p *Proc) Logger() *slog.Logger { return p.log }

// Parent returns the channel to the parent, nil in the parent.
func (p *Proc) Parent() *peer.Peer {
	if p.self.Role == Parent {
		return nil
	}
	return p.Peer(Parent)
}

// Peer returns the channel to the first instance of a role. It panics if there
// is none by the daemon's declaration. After that process has ended it is a
// channel that has ended, until the process is started again. The channel
// belongs to the Proc, which keeps it open.
func (p *Proc) Peer(role string) *peer.Peer { return p.Peers(role)[0] }

// Peers returns the channels to all instances of a role, as Peer does; of a role
// OnDemand to those that there are.
func (p *Proc) Peers(role string) []*peer.Peer {
	list := make([]*peer.Peer, p.declared(role).Instances)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onDemand(role) != nil {
		names := slices.SortedFunc(maps.Keys(p.peers), func(a, b peerName) int { return a.Instance - b.Instance })
		for _, name := range names {
			if name.Role == role {
				list = append(list, p.peers[name])
			}
		}
	}
	for i := range list {
		if list[i] = p.peers[peerName{role, i}]; list[i] == nil {
			panic(fmt.Sprintf("privsep: %s has no channel to %s[%d] yet", p.self.Role, role, i))
		}
	}
	return list
}

// declared returns a role to which there are channels.
func (p *Proc) declared(role string) peerRole {
	r, ok := p.known[role]
	if !ok {
		panic(fmt.Sprintf("privsep: %s is no peer of %s", role, p.self.Role))
	}
	return r
}

// WaitPeer returns the channel to the same process of a role as old, and waits while
// it is old itself, which has ended: until the process was started again. The
// error is ctx's.
func (p *Proc) WaitPeer(ctx context.Context, role string, instance int, old *peer.Peer) (*peer.Peer, error) {
	for {
		peers, changed := p.all()
		if q := peers[peerName{role, instance}]; q != nil && q != old {
			return q, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Handle adds to the table of requests that the instances of a role may make,
// and will be able to make after they were started again; see peer.Rule.
// Everything else ends the channel and its process; see Serve. It panics where
// Peer does, and where a type is there already.
func (p *Proc) Handle(role string, rules ...peer.Rule) {
	p.declared(role)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules[role] = append(p.rules[role], rules...)
	for name, q := range p.peers {
		if name.Role == role {
			q.Handle(rules...)
		}
	}
}

// Config returns what the parent has set for this child with Configure.
func (p *Proc) Config() []byte { return p.config }

// File returns the file that the parent has given to this child under that
// name, or nil. It belongs to the Proc.
func (p *Proc) File(name string) *os.File { return p.files[name] }

// Path returns where to find what has the given absolute name inside the
// child's Chroot: the same, or in the directory itself if an ordinary user has
// started the daemon.
func (p *Proc) Path(name string) string {
	if p.root == "" || p.root == EmptyDir {
		return name
	}
	return filepath.Join(p.root, name)
}

// put sets the channel to a peer, in place of the one before.
func (p *Proc) put(name peerName, conn *imsg.Conn) *peer.Peer {
	q := peer.New(conn, &peer.Config{Directories: p.dirs, Workers: p.work, Report: func(err error) { p.logRequest(name, err) }})
	p.mu.Lock()
	defer p.mu.Unlock()
	q.Handle(p.rules[name.Role]...)
	if old := p.peers[name]; old != nil {
		p.closing.Go(func() { old.Close() })
	}
	p.peers[name] = q
	close(p.changed)
	p.changed = make(chan struct{})
	return q
}

// logRequest logs an error of a request that no caller is told of.
func (p *Proc) logRequest(name peerName, err error) {
	args := []any{"role", name.Role, "instance", name.Instance, "err", err}
	if panicked := (*peer.PanicError)(nil); errors.As(err, &panicked) {
		args = append(args, "stack", string(panicked.Stack))
	}
	p.log.Error("a request failed", args...)
}

// remove closes the channel to a process that is gone for good.
func (p *Proc) remove(name peerName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.peers[name]; q != nil {
		p.closing.Go(func() { q.Close() })
		delete(p.peers, name)
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// all returns the channels, and what is closed when there are others.
func (p *Proc) all() (map[peerName]*peer.Peer, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.peers), p.changed
}

func (p *Proc) close() {
	peers, _ := p.all()
	for _, q := range peers {
		q.Close()
	}
	p.closing.Wait()
	for _, f := range p.files {
		f.Close()
	}
}

// parentProc is what only the parent's Proc has.
type parentProc struct {
	grants    *grants
	listeners map[string][]*os.File
	status    func() []Status
	role      func(string) *Role
	process   func(peerName) *process
	post      func(event)
	over      <-chan struct{}
	notify    *notifier
	setLevel  func(slog.Level)
}

// grants are what the children of each role are given.
type grants struct {
	mu    sync.Mutex
	roles map[string]grant
}

type grant struct {
	config []byte
	files  []namedFile
}

type namedFile struct {
	name string
	file *os.File
}

func newGrants() *grants { return &grants{roles: make(map[string]grant)} }

func (g *grants) close() {
	for _, role := range g.roles {
		for _, f := range role.files {
			f.file.Close()
		}
	}
}

// AddFile lets every child of a role that is started from now on have a file under
// a name, to be found with File there; in place of the one before of that name,
// which is closed. It belongs to the daemon from here on. For the parent: in
// Prepare, or later for those that are started again.
func (p *Proc) AddFile(role, name string, f *os.File) {
	g := p.grants(role)
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.roles[role]
	i := slices.IndexFunc(r.files, func(n namedFile) bool { return n.name == name })
	if i >= 0 {
		r.files[i].file.Close()
		r.files = slices.Delete(r.files, i, i+1)
	}
	r.files = append(r.files, namedFile{name, f})
	g.roles[role] = r
}

// Configure sets what Config returns in the children of a role that are started
// from now on. The data is not copied; more than 1 MiB is an error. For the
// parent, as AddFile.
func (p *Proc) Configure(role string, data []byte) error {
	g := p.grants(role)
	if len(data) > maxConfig {
		return fmt.Errorf("privsep: a configuration of %d bytes for %s is longer than %d", len(data), role, maxConfig)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.roles[role]
	r.config = data
	g.roles[role] = r
	return nil
}

// grants returns those of the parent. It panics in a child, and for what is no role.
func (p *Proc) grants(role string) *grants {
	if p.parent == nil || p.parent.role(role) == nil {
		panic(fmt.Sprintf("privsep: only the parent gives, and not to %s, which is no role", role))
	}
	return p.parent.grants
}

// Notify tells the service manager something, as sd_notify(3) does: "STATUS=text",
// or "EXTEND_TIMEOUT_USEC=n". READY, STOPPING, RELOADING and WATCHDOG are sent by
// the daemon itself: the last as long as all children answer a question of the
// parent's, if WATCHDOG_USEC is set. It waits for at most 100 ms, and does nothing
// in children, or without a service manager.
func (p *Proc) Notify(state string) {
	if p.parent != nil {
		p.parent.notify.send(state)
	}
}

// StoreFile gives the service manager a descriptor to keep when the daemon ends
// (FDSTORE=1; see FileDescriptorStoreMax= in systemd.service(5)): when it is started
// again, Listeners has it under that name. Until then, Notify("FDSTOREREMOVE=1\nFDNAME=name")
// takes it back. The file stays the caller's. The error is os.ErrInvalid for a name that the service manager would not
// take, or a system call's; it does nothing as Notify does.
func (p *Proc) StoreFile(name string, f *os.File) error {
	if p.parent == nil {
		return nil
	}
	return p.parent.notify.store(name, f)
}

// SetLogLevel sets from which level on children log, those that run and those
// that are started later. Before, it is the level of Daemon.Logger, which
// decides what of it is written: that it has another one is its owner's to see
// to (with a slog.LevelVar). It does nothing in children.
func (p *Proc) SetLogLevel(level slog.Level) {
	if p.parent != nil {
		p.parent.setLevel(level)
	}
}

// Listener returns a net.Listener of the first socket that the service manager
// has opened under that name (FileDescriptorName= in systemd.socket(5)), which is the
// caller's. The error is os.ErrNotExist if there is none, as in children.
func (p *Proc) Listener(name string) (net.Listener, error) {
	list := p.Listeners()[name]
	if len(list) == 0 {
		return nil, fmt.Errorf("listener %s: %w", name, os.ErrNotExist)
	}
	return net.FileListener(list[0])
}

// Listeners returns what the service manager has opened for the daemon
// (LISTEN_FDS), by name; nil in children. Those not given to a role with AddFile
// belong to the daemon and stay open in the parent.
func (p *Proc) Listeners() map[string][]*os.File {
	if p.parent == nil {
		return nil
	}
	return p.parent.listeners
}

// Status returns what is in force: first in the parent, and then in the children
// that are ready, in the order of their declaration; nil in children.
func (p *Proc) Status() []Status {
	if p.parent == nil {
		return nil
	}
	return p.parent.status()
}

// Serve answers the requests of all peers by the tables that Handle has made,
// also of those that are started again, until ctx ends, which is no error. At
// the daemon's end it answers the roles that are declared before its own, and
// the parent answers all, until their channels have ended, so that nothing is
// lost that they said last. What the others said last may be.
//
// A peer that asks for something else has broken the rules, and its channel is
// closed. The parent kills a child that breaks the rules of its requests to the
// parent; the child's role says what follows. Between two children the channel
// alone is replaced, after a while that gets longer each time: the parent cannot
// know who is right. A channel that ends otherwise has lost its process: the
// supervisor deals with that.
func (p *Proc) Serve(ctx context.Context) error {
	// Those that end before this process are heard to their end.
	late, stopLate := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLate()
	var running sync.WaitGroup
	serving := make(map[*peer.Peer]bool)
	for over := false; !over; {
		peers, changed := p.all()
		present := make(map[*peer.Peer]bool)
		for _, q := range peers {
			present[q] = true
		}
		maps.DeleteFunc(serving, func(q *peer.Peer, _ bool) bool { return !present[q] })
		for name, q := range peers {
			if serving[q] {
				continue
			}
			serving[q] = true
			until := ctx
			if p.known[name.Role].Before {
				until = late
			}
			running.Go(func() {
				if err := q.Serve(until); errors.Is(err, peer.ErrViolation) {
					p.report(name, q, err)
				}
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			over = true
		}
	}
	if p.ending.Err() == nil {
		stopLate()
	}
	running.Wait()
	return nil
}
