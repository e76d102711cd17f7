package unixmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// RecvMany receives like Recv, up to len(parts) times with one recvmmsg(2): the
// stream of a peer that passes files comes in short pieces, because a receive
// ends behind a file. It waits for the first piece only.
//
// It returns the number of parts, at least one if the error is nil. Their bytes
// are at the beginning of p, one part behind the other. The first may fill half
// of p, and the others share the rest; where that is too little for a message,
// there is one part, which may fill p. The end of the stream is one part
// without bytes. The files belong to the caller, and fd and the errors are as
// with Recv. An error together with a part, ECONNRESET, is how the stream ends,
// behind what is still to be received. Where recvmmsg(2) is missing or forbidden
// this is Recv.
func RecvMany(fd int, p []byte, parts []Part, flags Flags) (int, error) {
	k := min(len(parts), MaxParts)
	room := len(p) / 2 / max(k-1, 1)
	if k == 1 || room < minPart {
		return recvOne(fd, p, parts, flags)
	}
	// About the pointers, see recvmsg. Stored through another pointer they would
	// go to the heap.
	var msgs [MaxParts]mmsghdr
	var vecs [MaxParts]unix.Iovec
	var controls [MaxParts]control
	beg := 0
	for i := range k {
		end := len(p) - (k-1-i)*room
		vecs[i].Base = &p[beg]
		vecs[i].SetLen(end - beg)
		beg = end
		msgs[i].hdr.Iov = &vecs[i]
		msgs[i].hdr.SetIovlen(1)
		msgs[i].hdr.Control = (*byte)(unsafe.Pointer(&controls[i]))
		msgs[i].hdr.SetControllen(len(controls[i].bytes()))
	}
	n, errno := sysRecvMany(fd, msgs[:k], flags)
	switch errno {
	case 0:
	case unix.EAGAIN:
		return 0, fail("recvmmsg", errno)
	case unix.ECONNRESET:
		// recvmmsg tells first, and once, what recvmsg tells behind the last byte.
		if n, err := recvOne(fd, p, parts, flags); err != nil {
			return n, err
		}
		return 1, fail("recvmmsg", errno)
	default:
		// Interrupted, or the call is missing or forbidden; or, for what has
		// failed before, it fails once more. recvmsg tells what is the case now.
		return recvOne(fd, p, parts, flags)
	}
	used, w := 0, 0 // parts, and their bytes at the beginning of p
	eof := false
	beg = 0
	for i := range n {
		m := &msgs[i]
		size, room := int(m.n), int(vecs[i].Len)
		file := keepFirst(controls[i].bytes()[:m.hdr.Controllen])
		switch {
		case size > 0:
			lost := file < 0 && m.hdr.Flags&unix.MSG_CTRUNC != 0
			parts[used] = Part{int32(size), int32(file), lost, size == room}
			used++
			w += copy(p[w:], p[beg:beg+size])
			clear(p[max(w, beg) : beg+size]) // it was moved
		case file >= 0:
			unix.Close(file) // as in Recv
		default:
			eof = true
		}
		beg += room
	}
	raceReceived(p[:w])
	switch {
	case used > 0:
		return used, nil
	case eof:
		parts[0] = Part{File: -1}
		return 1, nil
	}
	return recvOne(fd, p, parts, flags)
}

func recvmmsg(fd int, msgs []mmsghdr, flags Flags) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITFORONE|uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendmmsg returns how many of msgs were sent; the last one perhaps in part.
func sendmmsg(fd int, msgs []mmsghdr, flags Flags) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_NOSIGNAL|uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
