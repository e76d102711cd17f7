package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Native returns the mechanisms that this system can have.
func Native() Mechanism { return Pledge | Unveil }

// prepare leaves everything to the system that the vocabulary comes from. This
// file is compiled by the tests, not run.
func prepare(p Policy, w words, _ string) (plan, error) {
	promises := p.Promises
	if p.Debug && !w["error"] {
		promises += " error"
	}
	pledge := State{Mechanism: Pledge, Asked: len(w) > 0, InForce: len(w) > 0, Detail: "no promises given"}
	if pledge.InForce {
		pledge.Detail = promises
	}
	if p.Ports != nil {
		pledge.Missing, pledge.Gaps = []string{"ports"}, []string{"ports"}
	}
	// Without paths pledge alone decides which files can be opened.
	unveil := State{Mechanism: Unveil, Asked: p.Paths != nil, InForce: p.Paths != nil, Detail: "no paths given"}
	if unveil.InForce {
		unveil.Detail = fmt.Sprintf("%d paths", len(p.Paths))
	}
	do := plan{states: []State{pledge, unveil}}
	if unveil.InForce {
		do.inside = func() error { return hideAllBut(p.Paths) }
	}
	if pledge.InForce {
		do.calls = func() error { return os.NewSyscallError("pledge", unix.PledgePromises(promises)) }
	}
	return do, nil
}

// hideAllBut begins with "/", since a process that has unveiled nothing sees everything.
func hideAllBut(paths []Path) error {
	if err := unix.Unveil("/", ""); err != nil {
		return os.NewSyscallError("unveil /", err)
	}
	for _, path := range paths {
		if err := unix.Unveil(path.Name, path.Perm); err != nil {
			return fmt.Errorf("sandbox: unveil %s: %w", path.Name, err)
		}
	}
	return os.NewSyscallError("unveil", unix.UnveilBlock())
}
