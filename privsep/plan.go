package privsep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A plan is a role with its names looked up.
type plan struct {
	role   *Role
	root   bool // change ids and root
	uid    int  // -1: stays
	gid    int
	chroot string   // as it is declared, EmptyDir included; "" stays
	miss   []string // what an ordinary user cannot do
	peers  []peerRole
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
		for j, q := range plans {
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
	if (len(words) > 0 || d.ParentSandbox.Paths != nil) && slices.ContainsFunc(d.Roles, func(r Role) bool { return r.OnExit == Restart }) {
		return errors.New("ParentSandbox and Restart: a child that is started again would inherit the sandbox")
	}
	return nil
}

func (d *Daemon) plan(r *Role, root bool) (*plan, error) {
	switch {
	case r.Name == "" || r.Name == Parent || strings.ContainsAny(r.Name, "/\x00"):
		return nil, fmt.Errorf("%q cannot be the name of a role", r.Name)
	case d.role(r.Name) != r:
		return nil, errors.New("there are two roles of this name")
	case r.Run == nil:
		return nil, errors.New("it has no Run")
	case r.OnExit > Ignore:
		return nil, fmt.Errorf("there is no exit policy %d", r.OnExit)
	}
	for _, name := range r.Peers {
		if name == r.Name || d.role(name) == nil {
			return nil, fmt.Errorf("it cannot have the peer %q", name)
		}
	}
	if err := r.Sandbox.Check(); err != nil {
		return nil, err
	}
	p := &plan{role: r, root: root, uid: -1, gid: -1}
	if err := p.ids(override(r.User, d.User, NoUser), r.Group); err != nil {
		return nil, err
	}
	if p.chroot = override(r.Chroot, d.Chroot, NoChroot); p.chroot != "" && p.chroot != EmptyDir {
		if err := checkRoot(p.chroot, root); err != nil {
			return nil, err
		}
	}
	if !root {
		who := fmt.Sprintf("user %d is not root", os.Geteuid())
		if p.uid >= 0 || p.gid >= 0 {
			p.miss = append(p.miss, "ids: "+who)
			p.uid, p.gid = -1, -1
		}
		if p.chroot != "" {
			p.miss = append(p.miss, "chroot: "+who)
		}
	}
	return p, nil
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

// ids looks up a user and a group.
func (p *plan) ids(name, group string) error {
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return err
		}
		if p.uid, err = strconv.Atoi(u.Uid); err != nil {
			return err
		}
		if p.gid, err = strconv.Atoi(u.Gid); err != nil {
			return err
		}
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return err
		}
		if p.gid, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	if p.uid == 0 && name != "root" {
		return fmt.Errorf("user %s is user 0", name)
	}
	return nil
}

// checkRoot says whether a directory can be a child's root: who can write there
// decides what the child finds.
func checkRoot(dir string, root bool) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("chroot %s: %w", dir, syscall.ENOTDIR)
	}
	if !root {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("chroot %s: mode %v, owner %d: others than root can write there: %w", dir, info.Mode(), st.Uid, fs.ErrPermission)
	}
	return nil
}
