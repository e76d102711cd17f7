//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Recv reads up to len(p) bytes with one recvmsg(2) that has room for one file.
// n is the number of bytes; zero with a nil error means the end of the stream,
// and an empty p is refused with EINVAL.
//
// file is the descriptor that came with these bytes, or -1. It belongs to the
// caller and is close-on-exec. If the peer attached more than one, the first is
// kept and the others are closed.
//
// lost reports that a file came and could not be kept: the descriptor table is
// full, a security module refused it, or (on the BSDs) there were several. The
// bytes are intact. A truncated control message of which a file was kept is not
// a loss. lost may be true together with an error. On illumos and solaris Go does
// not see the flag that tells: such a file is just missing.
//
// Control messages that the kernel adds by itself, because somebody has set
// SO_PASSCRED, SO_PASSPIDFD or the like, are dropped, and their descriptors
// closed. There is room for them and the file (see control).
//
// fd must be a socket. The error is syscall.EAGAIN if nothing is there and fd is
// non-blocking or flags say DontWait, else an *os.SyscallError.
func Recv(fd int, p []byte, flags Flags) (n, file int, lost bool, err error) {
	if len(p) == 0 {
		return 0, -1, false, fail("recvmsg", unix.EINVAL)
	}
	for {
		n, file, lost, err = recv(fd, p, flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, -1, lost, fail("recvmsg", err)
		}
		if n == 0 && file >= 0 {
			// Some kernels carry a file without any byte. No message can
			// claim it, and it is not the end of the stream.
			unix.Close(file)
			continue
		}
		raceReceived(p[:n])
		return n, file, lost, nil
	}
}
