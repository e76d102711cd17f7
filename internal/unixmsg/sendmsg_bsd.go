//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package unixmsg

import "golang.org/x/sys/unix"

// sendmsg sends bufs, which must not be empty, and control, which may be.
// Compiled, not run.
func sendmsg(fd int, bufs [][]byte, control []byte, flags Flags) (int, error) {
	return unix.SendmsgBuffers(fd, bufs, control, nil, unix.MSG_NOSIGNAL|int(flags))
}
