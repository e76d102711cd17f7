package unixmsg

import (
	"errors"

	"golang.org/x/sys/unix"
)

// SetPassRights says whether the peer of the socket fd may attach files to what
// it sends; at first it may. If not, its sendmsg fails with EPERM, so that no
// file is ever under way to us. This is SO_PASSRIGHTS of Linux 6.16; the error
// is errors.ErrUnsupported on an older kernel and on other systems, else an
// *os.SyscallError.
func SetPassRights(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := sysPassRights(fd, value)
	if err == unix.ENOPROTOOPT || err == unix.EINVAL {
		return errors.ErrUnsupported
	}
	return fail("setsockopt", err)
}
