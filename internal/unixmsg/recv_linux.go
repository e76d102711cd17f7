package unixmsg

import "golang.org/x/sys/unix"

// recv is one recvmsg(2). A full descriptor table and a refusal by a security
// module look alike: the bytes, no file, MSG_CTRUNC.
func recv(fd int, p []byte, flags Flags) (n, file int, lost bool, err error) {
	var c control
	b := c.bytes()
	n, size, got, errno := sysRecv(fd, p, b, unix.MSG_CMSG_CLOEXEC|flags)
	if errno != 0 {
		return 0, -1, false, errno
	}
	file = keepFirst(b[:size])
	return n, file, file < 0 && got&unix.MSG_CTRUNC != 0, nil
}

// recvPlain is one recvmsg(2) without room for control messages.
func recvPlain(fd int, p []byte, flags Flags) (int, error) {
	n, _, _, errno := sysRecv(fd, p, nil, flags)
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}
