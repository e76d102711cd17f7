//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// maxIovecs is IOV_MAX.
const maxIovecs = 1024

// Write writes the bytes of bufs in order with one system call and returns how
// many were taken, which may be fewer than all: always if there are more than
// 1024 buffers, and possibly if fd is non-blocking or, outside Linux, not a
// socket. Empty buffers are allowed; without any byte nothing is called.
//
// fd may be a socket or any other writable descriptor. A peer that is gone is
// EPIPE and not a signal: the Go runtime catches SIGPIPE, and only os.File
// raises it again, for descriptors 1 and 2. The error is syscall.EAGAIN if fd
// is non-blocking and full, else an *os.SyscallError.
func Write(fd int, bufs [][]byte) (int, error) {
	bufs = trim(bufs)
	if len(bufs) == 0 {
		return 0, nil
	}
	raceSending()
	for {
		var n int
		var err error
		call := writevCall
		if len(bufs) == 1 {
			call = "write"
			n, err = sysWrite(fd, bufs[0])
		} else {
			n, err = sysWritev(fd, bufs)
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fail(call, err)
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
