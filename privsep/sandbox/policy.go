package sandbox

import (
	"errors"
	"fmt"
	"strings"
)

// A Policy says what a process may still do. The zero Policy restricts
// nothing. A Policy is plain data: it may be copied, compared field by field
// and sent as JSON, and Enter keeps no reference to it.
type Policy struct {
	// Promises are the words of pledge(2), separated by spaces, such as
	// "stdio rpath inet". The empty string restricts no system calls; any
	// other list has to contain "stdio", without which no Go program runs.
	Promises string

	// Paths are the only files the process may open, as with unveil(2),
	// named as they are seen inside a chroot. Nil leaves every path open
	// that the promises allow; non-nil but empty leaves none. What a path
	// allows is never more than what the promises allow.
	Paths []Path

	// Ports narrow the promise "inet" to TCP, and to these ports. Nil leaves it
	// as it is; non-nil but empty leaves only sockets that are there already,
	// which can still accept: what a server needs that was given its listeners.
	Ports []Port

	// Limits are set first. See [Limits].
	Limits Limits

	// Require names mechanisms that have to be enforced fully. If one of
	// them cannot, Enter fails before it restricts anything. Native stands
	// for all that the present system has.
	Require Mechanism

	// Debug is for finding out which promise is missing. On Linux the
	// process dies with a traceback that shows the call, on OpenBSD the
	// promise "error" is added.
	Debug bool
}

// A Path opens one file or everything below one directory.
type Path struct {
	Name string // absolute
	Perm string // letters as in unveil(2): r read, w write, x execute, c create and remove
}

// A Port opens one TCP port, of every address.
type Port struct {
	Number uint16 // 0, to bind only: one that the system chooses
	Perm   string // letters: b bind and listen, c connect
}

// Check reports whether p makes sense: unknown words, bad permissions and
// contradictions are errors that name the word and its position, counted from
// 1. It answers the same on every system and changes nothing.
func (p Policy) Check() error {
	w, err := parse(p.Promises)
	if err != nil {
		return err
	}
	if p.Require != 0 && !p.restricts() {
		return fmt.Errorf("sandbox: %v required of a policy that restricts nothing", p.Require)
	}
	if calls := p.Require & (Pledge | Seccomp | Capsicum); calls != 0 && len(w) == 0 {
		return fmt.Errorf("sandbox: %v required of a policy without promises", calls)
	}
	if len(p.Paths) > 0 && len(w) > 0 && !w.any(pathWords) {
		return fmt.Errorf("sandbox: %d paths, but no promise that uses a path (%s)", len(p.Paths), pathWords)
	}
	if p.Ports != nil && !w["inet"] {
		return fmt.Errorf("sandbox: %d ports, but no promise \"inet\" to narrow", len(p.Ports))
	}
	for i, port := range p.Ports {
		if err := checkLetters(port.Perm, "bc"); err != nil {
			return fmt.Errorf("sandbox: port %d: %d: %w", i+1, port.Number, err)
		}
		if port.Number == 0 && port.Perm != "b" {
			return fmt.Errorf("sandbox: port %d: nothing can connect to 0", i+1)
		}
	}
	for i, path := range p.Paths {
		if err := path.check(); err != nil {
			return fmt.Errorf("sandbox: path %d: %w", i+1, err)
		}
	}
	return nil
}

func (p Path) check() error {
	switch {
	case !strings.HasPrefix(p.Name, "/"):
		return fmt.Errorf("name %q is not absolute", p.Name)
	case strings.ContainsRune(p.Name, 0):
		return fmt.Errorf("name %q contains a NUL", p.Name)
	}
	if err := checkLetters(p.Perm, "rwxc"); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// checkLetters reports what is wrong with a permission of the known letters.
func checkLetters(perm, known string) error {
	if perm == "" {
		return errors.New("no permission")
	}
	for i, c := range perm {
		if !strings.ContainsRune(known, c) {
			return fmt.Errorf("permission %d of %q is none of %s", i+1, perm, strings.Join(strings.Split(known, ""), " "))
		}
		if strings.ContainsRune(perm[:i], c) {
			return fmt.Errorf("permission %d of %q appears twice", i+1, perm)
		}
	}
	return nil
}

// restricts reports whether p takes anything away.
func (p Policy) restricts() bool {
	return p.Promises != "" || p.Paths != nil || p.Limits != Limits{}
}
