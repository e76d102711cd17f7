package hostile_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendEmpty sends descriptors with no byte at all, which the wrappers in
// x/sys/unix avoid.
func sendEmpty(fd int, fds ...int) error {
	oob := unix.UnixRights(fds...)
	msg := unix.Msghdr{Control: &oob[0]}
	msg.SetControllen(len(oob))
	if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT); errno != 0 {
		return errno
	}
	return nil
}

// claimCredentials turns a control message made of three descriptors into one
// that says who the sender is.
func claimCredentials(oob []byte) []byte {
	(*unix.Cmsghdr)(unsafe.Pointer(&oob[0])).Type = unix.SCM_CREDENTIALS
	return oob
}
