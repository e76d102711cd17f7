package privsep

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// A plan is a role with its names looked up.
type plan struct {
	role   *Role
	uid    int // -1: stays
	gid    int
	extra  []int  // more groups
	chroot string // as it is declared, EmptyDir included; "" stays
	peers  []peerRole

	chroots    bool     // it is changed
	alone      bool     // no other role has the user
	keepGroups bool     // they cannot be changed
	missing    []string // what the daemon has no right to do
}

// check looks at what Prepare cannot change.
func (d *Daemon) check() error {
	if d.Name == "" || strings.ContainsAny(d.Name, "/\x00") {
		return fmt.Errorf("privsep: the daemon's name %q is empty or has a slash in it", d.Name)
	}
	if len(d.Roles) == 0 {
		return errors.New("privsep: a daemon without roles")
	}
	if d.Privileged && os.Geteuid() != 0 {
		return fmt.Errorf("privsep: %w, not by user %d", ErrUnprivileged, os.Geteuid())
	}
	return nil
}

// plans checks the declaration, and looks up what it names.
func (d *Daemon) plans() ([]*plan, error) {
	if err := d.checkParent(); err != nil {
		return nil, &ChildError{Role: Parent, Step: "plan", Err: err}
	}
	root := os.Geteuid() == 0
	var plans []*plan
	for i := range d.Roles {
		r := &d.Roles[i]
		p, err := d.plan(r, root)
		if err != nil {
			return nil, &ChildError{Role: r.Name, Step: "plan", Err: err}
		}
		plans = append(plans, p)
	}
	for i, p := range plans {
		p.alone = p.uid > 0
		for j, q := range plans {
			p.alone = p.alone && (i == j || p.uid != q.uid)
			if d.linked(p.role, q.role) {
				p.peers = append(p.peers, peerRole{q.role.Name, q.role.instances(), p.role.passes() && q.role.passes(), j < i})
			}
		}
	}
	return plans, nil
}

// checkParent sees to it that the parent can do what it is there for.
func (d *Daemon) checkParent() error {
	if err := d.ParentSandbox.Check(); err != nil {
		return err
	}
	words := strings.Fields(d.ParentSandbox.Promises)
	if len(words) > 0 && !slices.Contains(words, "proc") {
		return errors.New("without the promise \"proc\" it could not end its children")
	}
	if d.needsStarter() {
		for _, word := range []string{"sendfd", "recvfd"} {
			if len(words) > 0 && !slices.Contains(words, word) {
				return fmt.Errorf("without the promise %q it could not start children later", word)
			}
		}
	}
	_, err := capabilityBits(d.ParentCapabilities)
	return err
}

// needsStarter says whether children are started when the parent has no right to
// do it any more.
func (d *Daemon) needsStarter() bool {
	confined := d.ParentCapabilities != nil || d.ParentSandbox.Promises != "" || d.ParentSandbox.Paths != nil
	return confined && slices.ContainsFunc(d.Roles, func(r Role) bool { return r.OnExit == Restart || r.OnDemand })
}

func (d *Daemon) plan(r *Role, root bool) (*plan, error) {
	switch {
	case r.Name == "" || r.Name == Parent || strings.ContainsAny(r.Name, "/\x00"):
		return nil, fmt.Errorf("%q cannot be the name of a role", r.Name)
	case d.role(r.Name) != r:
		return nil, errors.New("there are two roles of this name")
	case r.Run == nil:
		return nil, errors.New("it has no Run")
	case r.Memory < 0 || r.OOMScore < -1000 || r.OOMScore > 1000:
		return nil, fmt.Errorf("it cannot have Memory %d, OOMScore %d", r.Memory, r.OOMScore)
	case r.OnExit > Ignore:
		return nil, fmt.Errorf("there is no exit policy %d", r.OnExit)
	}
	for _, name := range r.Peers {
		if name == r.Name || d.role(name) == nil {
			return nil, fmt.Errorf("it cannot have the peer %q", name)
		}
	}
	for i := range d.Roles {
		if q := &d.Roles[i]; d.linked(r, q) && (r.OnDemand || q.OnDemand) {
			return nil, fmt.Errorf("it cannot have the peer %q: one of them is OnDemand", q.Name)
		}
	}
	if err := r.Sandbox.Check(); err != nil {
		return nil, err
	}
	p := &plan{role: r, uid: -1, gid: -1}
	if err := p.ids(override(r.User, d.User, NoUser), r.Group); err != nil {
		return nil, err
	}
	if len(r.Groups) > 0 && p.gid < 0 {
		return nil, errors.New("it has Groups, but no User and no Group")
	}
	for _, name := range r.Groups {
		gid, err := groupID(name)
		if err != nil {
			return nil, err
		}
		p.extra = append(p.extra, gid)
	}
	if p.chroot = override(r.Chroot, d.Chroot, NoChroot); p.chroot != "" && p.chroot != EmptyDir {
		f, err := openRoot(p.chroot, root)
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	p.limit()
	return p, nil
}

// limit leaves out what the daemon has no right to do, and notes it.
func (p *plan) limit() {
	miss := func(what, why string) bool {
		if why != "" {
			p.missing = append(p.missing, what+": "+why)
		}
		return why != ""
	}
	if p.uid >= 0 || p.gid >= 0 {
		if miss("ids", cannotChangeIDs(p.uid, p.gid)) {
			p.uid, p.gid, p.extra = -1, -1, nil
		}
	}
	if p.gid >= 0 {
		p.keepGroups = miss("groups", cannotChangeGroups())
	}
	if p.uid > 0 {
		miss("kill", cannotKill())
	}
	if p.chroot != "" {
		p.chroots = !miss("chroot", cannotChroot())
	}
}

// rights are what its processes are left with.
func (p *plan) rights(d *Daemon) rights {
	return rights{
		Root: p.chroots, Chroot: p.chroot, UID: p.uid, GID: p.gid, Groups: !p.keepGroups, Extra: p.extra, Processes: p.processes(),
		Memory: p.role.Memory, OOMScore: p.role.OOMScore,
		Sandbox: p.role.Sandbox, Dirs: d.Directories,
	}
}

// maxProcesses is how many threads and processes one instance of a role may have:
// more than a Go program needs, and less than a system has. The kernel counts those
// of a user.
const maxProcesses = 1024

// processes is the limit for the user, 0 for none.
func (p *plan) processes() int {
	if !p.alone {
		return 0
	}
	return maxProcesses * p.role.instances()
}

// openRoot opens the directory that is to be the root.
func (r *rights) openRoot(daemon string) (*os.File, error) {
	if r.Chroot == EmptyDir {
		return emptyRoot(daemon)
	}
	return openRoot(r.Chroot, true)
}

// checkMissing is what Daemon.Privileged is for.
func (d *Daemon) checkMissing(plans []*plan) error {
	for _, p := range plans {
		if d.Privileged && len(p.missing) > 0 {
			return &ChildError{Role: p.role.Name, Step: "plan", Err: fmt.Errorf("%w: %s", ErrUnprivileged, strings.Join(p.missing, "; "))}
		}
	}
	return nil
}

// override is a role's own value, or the daemon's.
func override(own, general, none string) string {
	switch own {
	case "":
		return general
	case none:
		return ""
	}
	return own
}

// ids looks up a user and a group; numbers need not be known.
func (p *plan) ids(name, group string) (err error) {
	if name != "" {
		u, lookup := user.Lookup(name)
		if lookup == nil {
			if p.uid, err = strconv.Atoi(u.Uid); err != nil {
				return err
			}
			if p.gid, err = strconv.Atoi(u.Gid); err != nil {
				return err
			}
		} else if p.uid, err = number(name); err != nil {
			return lookup
		} else if p.gid = p.uid; group == "" {
			if u, err := user.LookupId(name); err == nil {
				p.gid, _ = strconv.Atoi(u.Gid)
			}
		}
	}
	if group != "" {
		if p.gid, err = groupID(group); err != nil {
			return err
		}
	}
	if p.uid == 0 && name != "root" {
		return fmt.Errorf("user %s is user 0", name)
	}
	return nil
}

// groupID looks up a group.
func groupID(name string) (int, error) {
	g, lookup := user.LookupGroup(name)
	if lookup == nil {
		return strconv.Atoi(g.Gid)
	}
	gid, err := number(name)
	if err != nil {
		return 0, lookup
	}
	return gid, nil
}

// number is a user or a group given as one.
func number(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
}
