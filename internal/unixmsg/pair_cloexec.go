//go:build dragonfly || freebsd || illumos || linux || netbsd || openbsd || solaris

package unixmsg

import "golang.org/x/sys/unix"

// socket returns a new AF_UNIX socket, non-blocking and close-on-exec.
func socket(typ int) (int, error) {
	return unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// Pair returns the two ends of a new AF_UNIX stream, close-on-exec, and
// non-blocking if nonblock is set. Both belong to the caller.
func Pair(nonblock bool) (a, b int, err error) {
	typ := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if nonblock {
		typ |= unix.SOCK_NONBLOCK
	}
	fds, err := sysSocketpair(unix.AF_UNIX, typ, 0)
	if err != nil {
		return -1, -1, fail("socketpair", err)
	}
	return fds[0], fds[1], nil
}
