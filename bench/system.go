package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketpair returns two connected sockets that no child inherits unasked.
func socketpair() (fds [2]int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fds, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	return fds, nil
}

// spareFiles is how many descriptors are left for everything else.
const spareFiles = 24

// raiseFileLimit makes room for the many sockets of some cases, as far as it is
// allowed. Workers inherit it.
func raiseFileLimit() {
	const want = 2*idleConns + spareFiles
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil || lim.Cur >= want {
		return
	}
	more := lim
	more.Cur, more.Max = want, max(lim.Max, want)
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) != nil { // not root
		lim.Cur = min(lim.Max, want)
		unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	}
}

// fileLimit returns how many descriptors a process may have.
func fileLimit() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 256
	}
	return int(min(lim.Cur, 1<<30))
}
