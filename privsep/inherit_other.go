//go:build !linux

package privsep

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// keepFiles makes every descriptor above 2 close-on-exec: what the parent has
// inherited is not for the children. Not run.
func keepFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	for fd := 3; fd < int(min(limit.Cur, 1<<16)); fd++ {
		syscall.CloseOnExec(fd)
	}
	return nil
}
