package sandbox

import "runtime"

// Enter restricts the present process, all its threads and everything it will
// start, for good: it checks p, finds out what the system can enforce, fails if
// that is less than p.Require, and then restricts files, sets the limits and
// restricts system calls. A policy that restricts nothing changes nothing.
//
// Without Require, Enter does what the system can: a nil error says that p was
// applied as far as possible, and the Status how far that is. After an error the
// process may be restricted in part: it should exit.
//
// Call it once, when everything is open that the promises do not allow to open.
// A second call needs what the first one took away, and fails on most systems.
func Enter(p Policy) (Status, error) { return EnterWith(p, "", nil) }

// EnterWith is Enter for a process that also changes its root directory to root
// and gives up its user: change does that, between the files and the system
// calls. The names in p are those inside root. On Linux what the kernel has to
// be told about files is found while it can still be seen, so that a symbolic
// link in root must not lead out of it.
//
// An error of change is returned as it is. Whatever p is, change is called,
// unless something failed before.
func EnterWith(p Policy, root string, change func() error) (Status, error) {
	return enter(p, root, change, prepare)
}

// A preparer finds out what the system will enforce of a valid policy, and how.
// It restricts nothing by itself.
type preparer func(p Policy, w words, root string) (plan, error)

// A plan is what Enter will do. A nil function does nothing.
type plan struct {
	states []State
	files  func() error // restricts files by what is below the root to be; needs descriptors, so it comes before the limits
	limits func() error
	inside func() error // restricts files by what is there after the change of root
	calls  func() error // restricts system calls, setrlimit among them, so it comes last
}

func enter(p Policy, root string, change func() error, prepare preparer) (Status, error) {
	status := Status{System: runtime.GOOS + "/" + runtime.GOARCH}
	if err := p.Check(); err != nil {
		return Status{}, err
	}
	do := plan{}
	if p.restricts() {
		w, err := p.words()
		if err != nil {
			return Status{}, err
		}
		if do, err = prepare(p, w, root); err != nil {
			return Status{}, err
		}
		status.States = do.states
		if err := status.Satisfies(p.Require); err != nil {
			return Status{}, err
		}
		do.limits = p.Limits.Set
	}
	if err := first(do.files, do.limits, change, do.inside, do.calls); err != nil {
		return Status{}, err
	}
	return status, nil
}

// first calls the functions one after the other until one fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if step == nil {
			continue
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
