//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Read reads up to len(p) bytes with one read(2) and returns their number. Zero
// bytes and a nil error mean the end of the stream; therefore an empty p is
// refused with EINVAL. A file that travels with the bytes is closed by the
// kernel: use Recv where files are allowed.
//
// fd may be any readable descriptor. The error is syscall.EAGAIN if fd is
// non-blocking and nothing is there, else an *os.SyscallError.
func Read(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, fail("read", unix.EINVAL)
	}
	for {
		n, err := sysRead(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fail("read", err)
		}
		raceReceived(p[:n])
		return n, nil
	}
}
