//go:build dragonfly || freebsd || netbsd || (solaris && !illumos)

package unixmsg

import "golang.org/x/sys/unix"

// writevCall is the call that writev makes.
const writevCall = "sendmsg"

// writev writes bufs, which must not be empty. x/sys/unix has no writev here,
// so a socket gets a sendmsg and anything else only the first buffer. Compiled,
// not run.
func writev(fd int, bufs [][]byte) (int, error) {
	n, err := unix.SendmsgBuffers(fd, bufs, nil, nil, unix.MSG_NOSIGNAL)
	if err == unix.ENOTSOCK {
		return unix.Write(fd, bufs[0])
	}
	return n, err
}
