//go:build dragonfly || freebsd || netbsd || (solaris && !illumos)

package unixmsg

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// writevCall is the call that writev makes.
const writevCall = "sendmsg"

// writev writes bufs, which must not be empty. x/sys/unix has no writev here,
// so a socket gets a sendmsg and anything else only the first buffer. Solaris
// may take no more than 16. Compiled, not run.
func writev(fd int, bufs [][]byte) (int, error) {
	if runtime.GOOS == "solaris" {
		bufs = bufs[:min(len(bufs), 16)]
	}
	n, err := unix.SendmsgBuffers(fd, bufs, nil, nil, unix.MSG_NOSIGNAL)
	if err == unix.ENOTSOCK {
		return unix.Write(fd, bufs[0])
	}
	return n, err
}
