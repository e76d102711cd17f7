package privsep

import (
	"fmt"
	"os"
	"slices"
)

// A gift is what the children of a role are given.
type gift struct {
	config []byte
	files  []namedFile
}

type namedFile struct {
	name string
	file *os.File
}

// AddFile lets every child of a role that is started from now on have a file under
// a name, to be found with File there; in place of the one before of that name,
// which is closed. It belongs to the daemon from here on. For the parent: in
// Prepare, or later for those that are started again.
func (p *Proc) AddFile(role, name string, f *os.File) {
	s := p.giver(role)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gifts[role]
	i := slices.IndexFunc(g.files, func(n namedFile) bool { return n.name == name })
	if i >= 0 {
		g.files[i].file.Close()
		g.files = slices.Delete(g.files, i, i+1)
	}
	g.files = append(g.files, namedFile{name, f})
	s.gifts[role] = g
}

// Configure sets what Config returns in the children of a role that are started
// from now on. The data is not copied; more than 1 MiB is an error. For the
// parent, as Give.
func (p *Proc) Configure(role string, data []byte) error {
	s := p.giver(role)
	if len(data) > maxConfig {
		return fmt.Errorf("privsep: a configuration of %d bytes for %s is longer than %d", len(data), role, maxConfig)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gifts[role]
	g.config = data
	s.gifts[role] = g
	return nil
}

func (p *Proc) giver(role string) *supervisor {
	if p.super == nil || p.super.d.role(role) == nil {
		panic(fmt.Sprintf("privsep: only the parent gives, and not to %s, which is no role", role))
	}
	return p.super
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
