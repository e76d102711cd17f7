//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Flags say how a transfer is made.
type Flags int

// DontWait makes a call fail with EAGAIN instead of waiting, also if fd is
// blocking: whoever holds a duplicate of fd can change its mode at any time.
const DontWait Flags = unix.MSG_DONTWAIT

// Read receives up to len(p) bytes with one recvmsg(2), or on Linux with one
// recvfrom(2), and returns their number. Zero bytes and a nil error mean the end
// of the stream; therefore an empty p is refused with EINVAL. A file that travels
// with the bytes is closed by the kernel: use Recv where files are allowed.
//
// fd must be a socket. The error is syscall.EAGAIN if nothing is there and fd is
// non-blocking or flags say DontWait, else an *os.SyscallError.
func Read(fd int, p []byte, flags Flags) (int, error) {
	if len(p) == 0 {
		return 0, fail("recvmsg", unix.EINVAL)
	}
	for {
		n, err := recvPlain(fd, p, flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fail("recvmsg", err)
		}
		raceReceived(p[:n])
		return n, nil
	}
}
