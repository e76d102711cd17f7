//go:build illumos || solaris

package unixmsg

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// sendmsg sends the first of bufs, which must not be empty, and control, which
// may be. x/sys/unix v0.49 could send all of bufs, but forgets to say where the
// control message is; the syscall package takes one buffer. Compiled, not run.
func sendmsg(fd int, bufs [][]byte, control []byte) (int, error) {
	return syscall.SendmsgN(fd, bufs[0], control, nil, unix.MSG_NOSIGNAL)
}
