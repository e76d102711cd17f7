package unixmsg

import "golang.org/x/sys/unix"

// recv is one recvmsg(2). A full descriptor table and a refusal by a security
// module look alike: the bytes, no file, MSG_CTRUNC.
func recv(fd int, p []byte) (n, file int, lost bool, err error) {
	var c control
	b := c.bytes()
	n, size, flags, errno := sysRecv(fd, p, b, unix.MSG_CMSG_CLOEXEC)
	if errno != 0 {
		return 0, -1, false, errno
	}
	file = keepFirst(b[:size])
	return n, file, file < 0 && flags&unix.MSG_CTRUNC != 0, nil
}
