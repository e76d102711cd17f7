//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// maxIovecs is how many buffers one call sends: IOV_MAX is 1024 or more, but the
// vectors must fit the stack.
const maxIovecs = 64

// Send sends the bytes of bufs in order with one sendmsg(2) or, on Linux where
// that is enough, one sendto(2), together with the file if file is not negative,
// and returns how many bytes were taken, which may be fewer than all: always if
// there are more than 64 buffers. If that is at least one byte, the file went
// with it and must not be sent again with the rest. An error means that nothing
// was sent. Empty buffers are allowed.
//
// file stays the caller's, who may close it when Send has returned: the kernel
// holds the file until the peer takes it. Its blocking mode is not touched; the
// peer shares it. A file needs at least one byte to travel with: without any,
// Send fails with EINVAL, and without a file it does nothing.
//
// fd must be a socket. A peer that is gone is EPIPE and never a signal. The
// error is syscall.EAGAIN if the socket is full and fd is non-blocking or
// flags say DontWait, else an *os.SyscallError: ETOOMANYREFS if a user without
// privileges has too many files under way (send again when the peer has read),
// EPERM if the peer refuses files (see SetPassRights).
func Send(fd int, bufs [][]byte, file int, flags Flags) (int, error) {
	bufs = trim(bufs)
	if len(bufs) == 0 {
		if file < 0 {
			return 0, nil
		}
		return 0, fail("sendmsg", unix.EINVAL)
	}
	var r rights
	var control []byte
	if file >= 0 {
		control = r.set(file)
	}
	raceSending()
	for {
		n, err := sysSend(fd, bufs, control, flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fail("sendmsg", err)
		}
		raceSent(bufs, n)
		return n, nil
	}
}

// trim drops the empty buffers in front, so that the first one left has bytes,
// and cuts the list to what one call takes.
func trim(bufs [][]byte) [][]byte {
	for len(bufs) > 0 && len(bufs[0]) == 0 {
		bufs = bufs[1:]
	}
	return bufs[:min(len(bufs), maxIovecs)]
}
