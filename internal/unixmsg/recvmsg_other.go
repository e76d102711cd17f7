//go:build darwin || dragonfly || freebsd || illumos || netbsd || openbsd || solaris

package unixmsg

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// recvmsg returns the number of bytes put in p and in control, and msg_flags
// (always 0 on illumos and solaris). refused is true if the kernel could not
// install the file: the BSDs then fail with EMSGSIZE, close the file and keep
// the bytes, so we fetch those without asking for a file again. Compiled, not
// run.
//
// This is the syscall package's Recvmsg because the one of x/sys/unix v0.49
// does not tell solaris and illumos where the control buffer is.
func recvmsg(fd int, p, control []byte, flags Flags) (n, size, msgFlags int, refused bool, err error) {
	for {
		n, size, msgFlags, _, err = syscall.Recvmsg(fd, p, control, int(flags))
		switch {
		case n >= 0:
			// Also if the peer's address, which nobody wants, made no sense.
			return n, min(max(size, 0), len(control)), msgFlags, refused, nil
		case err == unix.EMSGSIZE && !refused:
			refused = true
			control = nil
		case err == unix.EINTR && refused:
			// Here, because the caller would forget that a file was refused.
		default:
			return 0, 0, 0, refused, err
		}
	}
}

// recvPlain is one recvmsg(2) without room for control messages. Compiled, not
// run.
func recvPlain(fd int, p []byte, flags Flags) (int, error) {
	n, _, _, _, err := recvmsg(fd, p, nil, flags)
	return n, err
}
