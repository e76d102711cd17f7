package sandbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// Limits bound what a process may use up. A nil field leaves that limit as it
// is; new(uint64(0)) is a limit of zero. Limits are only ever lowered: one that
// is already smaller stays. There is none for processes or address space,
// because both count what the Go runtime needs for itself.
type Limits struct {
	// FileSize is the largest file the process may write, in bytes. At zero
	// every write to a file fails (and raises SIGXFSZ, which Go ignores);
	// pipes, sockets and terminals are not files.
	FileSize *uint64 `json:",omitempty"`

	// OpenFiles is the number of descriptors: every one that is opened or
	// received has to be below it. At zero those that are open stay usable.
	OpenFiles *uint64 `json:",omitempty"`
}

// Set applies the limits to the present process, and turns core files off in
// any case. Setting them a second time changes nothing. On OpenBSD it has to
// come before pledge, which Enter does.
func (l Limits) Set() error {
	if err := lower(unix.RLIMIT_CORE, "core", 0); err != nil {
		return err
	}
	if l.FileSize != nil {
		if err := lower(unix.RLIMIT_FSIZE, "file size", *l.FileSize); err != nil {
			return err
		}
	}
	if l.OpenFiles != nil {
		return lower(unix.RLIMIT_NOFILE, "open files", *l.OpenFiles)
	}
	return nil
}

// lower sets both values of a limit to n unless they are smaller already.
func lower(resource int, name string, n uint64) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(resource, &r); err != nil {
		return os.NewSyscallError("getrlimit "+name, err)
	}
	if uint64(r.Cur) <= n && uint64(r.Max) <= n {
		return nil
	}
	setMin(&r.Cur, n)
	setMin(&r.Max, n)
	return os.NewSyscallError("setrlimit "+name, unix.Setrlimit(resource, &r))
}

// setMin exists because a limit is signed on some systems.
func setMin[T int64 | uint64](v *T, n uint64) {
	if uint64(*v) > n {
		*v = T(n)
	}
}
