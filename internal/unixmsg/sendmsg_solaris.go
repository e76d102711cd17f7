//go:build illumos || solaris

package unixmsg

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// sendmsg sends bufs, which must not be empty, and control, which may be. With
// control it sends the first of bufs only: x/sys/unix v0.49 could send them all,
// but does not tell the kernel where the control message is, and the syscall
// package takes one buffer. Solaris may take no more than 16 buffers. Compiled,
// not run.
func sendmsg(fd int, bufs [][]byte, control []byte, flags Flags) (int, error) {
	if len(control) > 0 {
		return syscall.SendmsgN(fd, bufs[0], control, nil, unix.MSG_NOSIGNAL|int(flags))
	}
	return unix.SendmsgBuffers(fd, bufs[:min(len(bufs), 16)], nil, nil, unix.MSG_NOSIGNAL|int(flags))
}
