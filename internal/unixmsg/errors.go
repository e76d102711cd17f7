//go:build unix && !aix

package unixmsg

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// WouldBlock reports whether err says that the call can succeed later without
// anything being wrong: EAGAIN, EWOULDBLOCK or ENOBUFS, bare or wrapped. The
// BSDs and macOS answer ENOBUFS when the kernel is short of buffers; Poll may
// then say at once that the socket is writable, so do not loop on it without a
// pause. ETOOMANYREFS is "later" as well, but it is the peer that must read
// first, so it is not included.
func WouldBlock(err error) bool {
	if err == nil {
		return false
	}
	// The bare form first: it is the one that ends every loop.
	return err == syscall.EAGAIN ||
		errors.Is(err, syscall.EAGAIN) ||
		errors.Is(err, syscall.EWOULDBLOCK) ||
		errors.Is(err, syscall.ENOBUFS)
}

// fail names the call that failed. Would-block stays a bare errno, which needs
// no memory.
func fail(call string, err error) error {
	if err == unix.EAGAIN {
		return syscall.EAGAIN
	}
	return os.NewSyscallError(call, err)
}
