package sandbox

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// A Mechanism is a set of ways in which a system restricts a process.
type Mechanism uint

// The mechanisms. They have the same values on every system.
const (
	Pledge     Mechanism = 1 << iota // OpenBSD: system calls by promise
	Unveil                           // OpenBSD: paths
	Seccomp                          // Linux: system calls and their arguments
	Landlock                         // Linux: paths, TCP ports, signals, abstract sockets
	NoNewPrivs                       // Linux: set-user-ID programs give no rights
	Capsicum                         // FreeBSD: nothing but the open descriptors
)

const mechanismNames = "pledge unveil seccomp landlock no_new_privs capsicum"

// String returns the names joined by "|", or "none".
func (m Mechanism) String() string {
	if m == 0 {
		return "none"
	}
	names := strings.Fields(mechanismNames)
	var s []string
	for ; m != 0; m &= m - 1 {
		if i := bits.TrailingZeros(uint(m)); i < len(names) {
			s = append(s, names[i])
		} else {
			s = append(s, fmt.Sprintf("bit %d", i))
		}
	}
	return strings.Join(s, "|")
}

// MarshalText writes the form of String.
func (m Mechanism) MarshalText() ([]byte, error) {
	if m >= 1<<len(strings.Fields(mechanismNames)) {
		return nil, fmt.Errorf("sandbox: mechanism %#x is unknown", uint(m))
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText writes; an unknown name is an error.
func (m *Mechanism) UnmarshalText(text []byte) error {
	*m = 0
	if string(text) == "none" {
		return nil
	}
next:
	for i, name := range strings.Split(string(text), "|") {
		for bit, known := range strings.Fields(mechanismNames) {
			if name == known {
				*m |= 1 << bit
				continue next
			}
		}
		return fmt.Errorf("sandbox: mechanism %d: unknown name %q", i+1, name)
	}
	return nil
}

// A Status says what is in force in a process. It encodes to JSON and back
// without loss, so that a child can report it to its parent.
type Status struct {
	System string  // GOOS/GOARCH
	States []State // one for each mechanism of that system; none after a policy that restricts nothing
}

// A State is what became of one mechanism.
type State struct {
	Mechanism Mechanism
	Asked     bool     // the policy needs it
	InForce   bool     // in full or in part
	Detail    string   // how it is in force, or why not
	Missing   []string `json:",omitempty"` // asked of it, but not known to this system
	Gaps      []string `json:",omitempty"` // those of Missing that nothing else forbids either
}

// InForce returns the mechanisms that are in force, fully or in part.
func (s Status) InForce() Mechanism {
	var m Mechanism
	for _, st := range s.States {
		if st.InForce {
			m |= st.Mechanism
		}
	}
	return m
}

// String returns one line, such as "linux/amd64: no_new_privs; seccomp: 106 calls,
// others EPERM; landlock: ABI 7, not known here: udp".
func (s Status) String() string {
	if len(s.States) == 0 {
		return s.System + ": no restriction"
	}
	var parts []string
	for _, st := range s.States {
		parts = append(parts, st.String())
	}
	return s.System + ": " + strings.Join(parts, "; ")
}

// String returns the state as it stands in the line of a Status.
func (s State) String() string {
	text := s.Mechanism.String()
	switch {
	case !s.InForce:
		text += ": none"
		if s.Detail != "" {
			text += ", " + s.Detail
		}
	case s.Detail != "":
		text += ": " + s.Detail
	}
	if len(s.Missing) > 0 {
		text += ", not known here: " + strings.Join(s.Missing, ", ")
	}
	if len(s.Gaps) > 0 {
		text += ", left open: " + strings.Join(s.Gaps, ", ")
	}
	return text
}

// Satisfies returns an error that names what is missing for the required
// mechanisms; see Policy.Require.
func (s Status) Satisfies(required Mechanism) error {
	var errs []error
	for _, st := range s.States {
		if required&st.Mechanism != 0 && (st.Asked && !st.InForce || len(st.Gaps) > 0) {
			errs = append(errs, fmt.Errorf("sandbox: required %v", st))
		}
		required &^= st.Mechanism
	}
	if required != 0 {
		errs = append(errs, fmt.Errorf("sandbox: required %v: not known on %s", required, s.System))
	}
	return errors.Join(errs...)
}
