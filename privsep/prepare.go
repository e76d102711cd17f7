package privsep

import (
	"fmt"
	"os"
)

// A gift is what Prepare lets the children of a role have.
type gift struct {
	config []byte
	files  []namedFile
}

type namedFile struct {
	name string
	file *os.File
}

// Give lets every child of a role have a file under a name, to be found with
// File there, and given again to one that is started again. It belongs to the
// daemon from here on. For Prepare, in the parent.
func (p *Proc) Give(role, name string, f *os.File) {
	g := p.gift(role)
	g.files = append(g.files, namedFile{name, f})
}

// Configure sets what Config returns in the children of a role. The data is not
// copied; more than 1 MiB is an error. For Prepare, in the parent.
func (p *Proc) Configure(role string, data []byte) error {
	if len(data) > maxConfig {
		return fmt.Errorf("privsep: a configuration of %d bytes for %s is longer than %d", len(data), role, maxConfig)
	}
	p.gift(role).config = data
	return nil
}

func (p *Proc) gift(role string) *gift {
	if p.super == nil || p.super.plans != nil {
		panic("privsep: Give and Configure are for Daemon.Prepare")
	}
	if p.super.d.role(role) == nil {
		panic(fmt.Sprintf("privsep: there is no role %s", role))
	}
	g := p.super.gifts[role]
	if g == nil {
		g = new(gift)
		p.super.gifts[role] = g
	}
	return g
}

// Listeners returns what the service manager has opened for the daemon
// (LISTEN_FDS), by name; nil in children. Those not given to a role with Give
// belong to the daemon and stay open in the parent.
func (p *Proc) Listeners() map[string][]*os.File {
	if p.super == nil {
		return nil
	}
	return p.super.listeners
}

// Status returns what is in force: first in the parent, and then in the children
// that are ready, in the order of their declaration; nil in children.
func (p *Proc) Status() []Status {
	if p.super == nil {
		return nil
	}
	return p.super.statuses()
}
