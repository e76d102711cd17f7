//go:build darwin || illumos || netbsd || openbsd || solaris

package unixmsg

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// accept sets both flags in steps of their own, so no process may be started in
// between. The listening socket is non-blocking: nobody waits with the lock held.
// Compiled, not run.
func accept(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, _, err := unix.Accept(fd)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(n)
	if err := unix.SetNonblock(n, true); err != nil {
		unix.Close(n)
		return -1, err
	}
	return n, nil
}
