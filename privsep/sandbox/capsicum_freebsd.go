package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Native returns the mechanisms that this system can have.
func Native() Mechanism { return Capsicum }

// capsicumWords are the promises that hold without opening anything by name.
// Capability mode cannot allow more, and would forbid any other promise whole.
const capsicumWords = "stdio recvfd sendfd error unveil " + tcpAccept

// prepare uses capability mode if nothing is promised that it would break.
// This file is compiled by the tests, not run.
func prepare(p Policy, w words, _ string) (plan, error) {
	state := State{Mechanism: Capsicum, Asked: true, InForce: true, Detail: "capability mode"}
	switch {
	case len(w) == 0:
		state.Asked = p.Paths != nil
		state.InForce, state.Detail = false, "no promises given"
	case !w.within(capsicumWords):
		state.InForce, state.Detail = false, "only with promises among "+capsicumWords
	}
	do := plan{states: []State{state}}
	if state.InForce {
		do.calls = capabilityMode
	}
	return do, nil
}

// capabilityMode first takes from the standard descriptors all but input and output.
func capabilityMode() error {
	rights, err := unix.CapRightsInit([]uint64{
		unix.CAP_READ, unix.CAP_WRITE, unix.CAP_SEEK, unix.CAP_FSTAT, unix.CAP_FCNTL, unix.CAP_EVENT, unix.CAP_SHUTDOWN,
	})
	if err != nil {
		return fmt.Errorf("sandbox: capability rights: %w", err)
	}
	for fd := range uintptr(3) {
		if err := unix.CapRightsLimit(fd, rights); err != nil && !errors.Is(err, unix.EBADF) {
			return fmt.Errorf("sandbox: capability rights of descriptor %d: %w", fd, err)
		}
	}
	return os.NewSyscallError("cap_enter", unix.CapEnter())
}

// within reports whether nothing but the words in list was promised.
func (w words) within(list string) bool {
	n := 0
	for _, word := range strings.Fields(list) {
		if w[word] {
			n++
		}
	}
	return n == len(w)
}
