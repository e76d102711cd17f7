package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Native returns the mechanisms that this system can have.
func Native() Mechanism { return Seccomp | Landlock | NoNewPrivs }

// prepare looks at the present kernel.
func prepare(p Policy, w words, root string) (plan, error) {
	k, err := thisKernel()
	if err != nil {
		return plan{}, err
	}
	return k.prepare(p, w, root)
}

// A kernel is what a Linux offers.
type kernel struct {
	goarch   string
	seccomp  string // why there is none
	landlock landlockKernel
}

func thisKernel() (kernel, error) {
	k := kernel{goarch: runtime.GOARCH, landlock: thisLandlock()}
	err := seccompError()
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		k.seccomp = err.Error()
	case err != nil: // a sandbox around us
		return k, fmt.Errorf("sandbox: seccomp cannot be used here: %w", err)
	}
	return k, nil
}

func (k kernel) prepare(p Policy, w words, root string) (plan, error) {
	// Without promises, or without a table for this architecture, a filter
	// that allows everything still brings no_new_privs to every thread.
	program := []bpf.Instruction{bpf.RetConstant{Val: retAllow}}
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
	if nnp.InForce && k.seccomp == "" {
		do.calls = func() error { return load(program) }
	}
	return do, nil
}
