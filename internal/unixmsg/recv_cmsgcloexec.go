//go:build dragonfly || freebsd || netbsd || openbsd

package unixmsg

import "golang.org/x/sys/unix"

// recv is one recvmsg(2), or two if the first could not install a file.
// Compiled, not run.
func recv(fd int, p []byte, flags Flags) (n, file int, lost bool, err error) {
	var c control
	b := c.bytes()
	n, size, got, refused, err := recvmsg(fd, p, b, unix.MSG_CMSG_CLOEXEC|flags)
	if err != nil {
		return 0, -1, refused, err
	}
	file = keepFirst(b[:size])
	return n, file, file < 0 && (refused || got&unix.MSG_CTRUNC != 0), nil
}
