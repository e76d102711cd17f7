package unixmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The wrappers in x/sys/unix also ask for the sender's address, which costs an
// allocation for every message from a socket that has a name, and they put the
// vectors on the heap. These do neither. The pointers in msg stay valid: it is
// alive until the call returns, and the stack of a goroutine does not move
// during a system call.

// recvmsg returns the number of bytes put in p and in control, and msg_flags.
// Without control it is recvfrom(2), which need not fetch a struct msghdr: that
// is a tenth of what a short receive costs.
func recvmsg(fd int, p, control []byte, flags Flags) (n, size, msgFlags int, errno unix.Errno) {
	if len(control) == 0 {
		r, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
		if errno != 0 {
			return 0, 0, 0, errno
		}
		return int(r), 0, 0, 0
	}
	var iov unix.Iovec
	iov.Base = unsafe.SliceData(p)
	iov.SetLen(len(p))
	var msg unix.Msghdr
	msg.Iov = &iov
	msg.SetIovlen(1)
	msg.Control = unsafe.SliceData(control)
	msg.SetControllen(len(control))
	r, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), uintptr(flags))
	if errno != 0 {
		return 0, 0, 0, errno
	}
	return int(r), int(msg.Controllen), int(msg.Flags), 0
}

// sendmsg sends bufs, which must not be empty, and control, which may be. The
// vectors are filled where they are: through a slice of them the caller's
// buffers would go to the heap. Without control it is sendto(2), as in recvmsg,
// if the bytes are in one piece, or so few that it pays to make them one.
func sendmsg(fd int, bufs [][]byte, control []byte, flags Flags) (int, error) {
	if len(control) == 0 {
		if len(bufs) == 1 {
			return sendto(fd, bufs[0], flags)
		}
		if fewBytes(bufs) {
			return sendCopy(fd, bufs, flags)
		}
	}
	if len(bufs) > fewIovecs {
		return sendmsgMany(fd, bufs, control, flags)
	}
	var vecs [fewIovecs]unix.Iovec
	for i, b := range bufs {
		vecs[i].Base = unsafe.SliceData(b)
		vecs[i].SetLen(len(b))
	}
	return sendVecs(fd, vecs[:len(bufs)], control, flags)
}

func sendto(fd int, p []byte, flags Flags) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL|uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// copyBytes is up to how many bytes a copy costs less than it saves.
const copyBytes = 512

func fewBytes(bufs [][]byte) bool {
	n := 0
	for _, b := range bufs {
		if n += len(b); n > copyBytes {
			return false
		}
	}
	return true
}

// sendCopy sends fewBytes.
func sendCopy(fd int, bufs [][]byte, flags Flags) (int, error) {
	var p [copyBytes]byte
	n := 0
	for _, b := range bufs {
		n += copy(p[n:], b)
	}
	sent, err := sendto(fd, p[:n], flags)
	clear(p[:n]) // secrets travel here
	return sent, err
}

// fewIovecs is how many vectors a call of sendmsg mostly needs.
const fewIovecs = 8

// sendmsgMany is sendmsg, with more stack to clear.
func sendmsgMany(fd int, bufs [][]byte, control []byte, flags Flags) (int, error) {
	var vecs [maxIovecs]unix.Iovec
	for i, b := range bufs {
		vecs[i].Base = unsafe.SliceData(b)
		vecs[i].SetLen(len(b))
	}
	return sendVecs(fd, vecs[:len(bufs)], control, flags)
}

func sendVecs(fd int, vecs []unix.Iovec, control []byte, flags Flags) (int, error) {
	var msg unix.Msghdr
	msg.Iov = &vecs[0]
	msg.SetIovlen(len(vecs))
	if len(control) > 0 {
		msg.Control = &control[0]
		msg.SetControllen(len(control))
	}
	n, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL|uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
