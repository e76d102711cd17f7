package privsep

import (
	"fmt"
	"strings"

	"example.org/imsg/privsep/sandbox"
)

// A Status is what is in force in a child, as it found out itself before it
// was ready, and the parent then by looking at it from outside.
type Status struct {
	Role     string
	Instance int
	PID      int

	UID, GID int
	Groups   []int

	// Chroot is the directory that is its root, or EmptyDir; "" without a change.
	Chroot string

	// Capabilities are the parent's, by name.
	Capabilities []string

	// Dumpable says whether processes of the same user may look into its memory
	// and take its descriptors.
	Dumpable bool

	// Threads is the number of threads whose ids, groups, no_new_privs and
	// seccomp mode the parent has read from the kernel, and found equal and as
	// said here; 0 where there is no /proc to read.
	Threads int

	// Sandbox is what Role.Sandbox has become.
	Sandbox sandbox.Status

	// Memory is Role.Memory if that is in force.
	Memory int64

	// Missing is what was declared and is not in force, and why.
	Missing []string
}

// printableStatus is a status that a child has sent, fit for a terminal.
func printableStatus(s sandbox.Status) sandbox.Status {
	s.System = printable(s.System)
	for i := range s.States {
		st := &s.States[i]
		st.Detail = printable(st.Detail)
		for _, list := range [][]string{st.Missing, st.Gaps} {
			for j := range list {
				list[j] = printable(list[j])
			}
		}
	}
	return s
}

// String is the status in one line.
func (s Status) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", s.Role)
	if s.Instance > 0 {
		fmt.Fprintf(&b, "[%d]", s.Instance)
	}
	fmt.Fprintf(&b, ": pid %d, uid %d, gid %d, groups %v", s.PID, s.UID, s.GID, s.Groups)
	if s.Chroot == EmptyDir {
		b.WriteString(", in an empty directory")
	} else if s.Chroot != "" {
		fmt.Fprintf(&b, ", chroot %s", s.Chroot)
	}
	if n := len(s.Capabilities); n > 0 && n < len(strings.Fields(capabilityNames)) {
		fmt.Fprintf(&b, ", %s", strings.Join(s.Capabilities, " "))
	}
	if s.Dumpable {
		b.WriteString(", dumpable")
	}
	if s.Memory > 0 {
		fmt.Fprintf(&b, ", memory %d KiB", s.Memory>>10)
	}
	if s.Threads > 0 {
		fmt.Fprintf(&b, ", %d threads checked", s.Threads)
	}
	fmt.Fprintf(&b, "; %v", s.Sandbox)
	for _, m := range s.Missing {
		fmt.Fprintf(&b, "; missing %s", m)
	}
	return b.String()
}
