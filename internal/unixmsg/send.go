//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Send sends the bytes of bufs in order with one sendmsg(2), together with the
// file if file is not negative, and returns how many bytes were taken, which
// may be fewer than all. If that is at least one byte, the file went with it and
// must not be sent again with the rest. An error means that nothing was sent.
//
// file stays the caller's, who may close it when Send has returned: the kernel
// holds the file until the peer takes it. Its blocking mode is not touched; the
// peer shares it. A file needs at least one byte to travel with: without any,
// Send fails with EINVAL, and without a file it does nothing.
//
// fd must be a socket. A peer that is gone is EPIPE and never a signal. The
// error is syscall.EAGAIN if fd is non-blocking and full, else an
// *os.SyscallError: ETOOMANYREFS if a user without privileges has too many
// files under way (send again when the peer has read), EPERM if the peer
// refuses files (see SetPassRights).
func Send(fd int, bufs [][]byte, file int) (int, error) {
	bufs = trim(bufs)
	if len(bufs) == 0 {
		if file < 0 {
			return 0, nil
		}
		return 0, fail("sendmsg", unix.EINVAL)
	}
	var c control
	var rights []byte
	if file >= 0 {
		rights = c.set(file)
	}
	raceSending()
	for {
		n, err := sysSend(fd, bufs, rights)
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
