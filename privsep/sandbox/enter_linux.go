package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Native returns the mechanisms that this system can have.
func Native() Mechanism { return Seccomp | Landlock | NoNewPrivs }

// prepare looks at the present kernel.
func prepare(p Policy, w words, root string) (plan, error) {
	return thisKernel().prepare(p, w, root)
}

// A kernel is what a Linux offers.
type kernel struct {
	goarch   string
	seccomp  string // why there is none
	landlock landlockKernel
}

func thisKernel() kernel {
	k := kernel{goarch: runtime.GOARCH, landlock: thisLandlock()}
	if err := seccompError(); err != nil { // not in this kernel, or forbidden by a sandbox around us
		k.seccomp = err.Error()
	}
	return k
}

func (k kernel) prepare(p Policy, w words, root string) (plan, error) {
	// Without promises, or without a table for this architecture, a filter
	// that allows everything still brings no_new_privs to every thread.
	program := []unix.SockFilter{{Code: returns, K: retAllow}}
	calls := State{Mechanism: Seccomp, Asked: len(w) > 0}
	switch {
	case !calls.Asked:
		calls.Detail = "no promises given"
	case k.seccomp != "":
		calls.Detail = k.seccomp
	case !known(k.goarch):
		calls.Detail = "no list of system calls for " + k.goarch
	default:
		f, err := compile(w, k.goarch, os.Getpid(), p.denial())
		if err != nil {
			return plan{}, err
		}
		calls.InForce = true
		calls.Detail = fmt.Sprintf("%d calls, others %s", f.calls, p.denialName())
		program = f.program
	}
	nnp := State{Mechanism: NoNewPrivs, Asked: p.Promises != "" || p.Paths != nil || p.Require&NoNewPrivs != 0}
	nnp.InForce = nnp.Asked && k.seccomp == ""
	paths, restrict, err := k.landlock.prepare(p, w, root, calls.InForce)
	if err != nil {
		return plan{}, err
	}
	if k.seccomp != "" {
		nnp.InForce, nnp.Detail = paths.InForce, k.seccomp // Landlock sets it too
	}
	do := plan{states: []State{nnp, calls, paths}, files: restrict}
	if nnp.InForce && k.seccomp == "" { // Landlock comes first, and needs no_new_privs
		do.calls = func() error { return load(program, paths.InForce) }
	}
	return do, nil
}
