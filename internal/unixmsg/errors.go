//go:build unix && !aix

package unixmsg

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fail names the call that failed. Would-block stays a bare errno, which needs
// no memory.
func fail(call string, err error) error {
	if err == unix.EAGAIN {
		return syscall.EAGAIN
	}
	return os.NewSyscallError(call, err)
}
