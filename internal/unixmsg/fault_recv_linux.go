//go:build imsgfault

package unixmsg

import (
	"encoding/binary"
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that descriptors arrive with. Those that a Fault leaves no room for
// are closed, as the kernel would have done.

func sysRecv(fd int, p, control []byte, flags Flags) (n, size, msgFlags int, errno unix.Errno) {
	r := intercept(Call{Name: "recvmsg", FD: fd, Size: len(p)}, func(most int, files Files) (r Result) {
		if n, size, msgFlags, errno = recvmsg(fd, p[:most], control, flags); errno != 0 {
			return Result{Err: errno}
		}
		r.N = n
		room := files.room()
		if k := fit(control[:size], &room, &r); files != KeepFiles && size > 0 {
			size = k
			msgFlags |= unix.MSG_CTRUNC
		}
		return r
	})
	if r.Err != nil {
		return 0, 0, 0, r.Err.(unix.Errno)
	}
	return n, size, msgFlags, 0
}

// sysRecvMany receives piece by piece if there is a limit, which the pieces share.
func sysRecvMany(fd int, msgs []mmsghdr, flags Flags) (n int, errno unix.Errno) {
	size := 0
	for i := range msgs {
		size += int(msgs[i].hdr.Iov.Len)
	}
	r := intercept(Call{Name: "recvmmsg", FD: fd, Size: size}, func(most int, files Files) (r Result) {
		if most == size {
			n, errno = recvmmsg(fd, msgs, flags)
		} else {
			n, errno = recvPieces(fd, msgs, most, flags)
		}
		if errno != 0 {
			return Result{Err: errno}
		}
		room := files.room()
		for i := range msgs[:n] {
			r.N += int(msgs[i].n)
			h := &msgs[i].hdr
			if h.Controllen == 0 {
				continue
			}
			if k := fit(unsafe.Slice(h.Control, h.Controllen), &room, &r); files != KeepFiles {
				h.SetControllen(k)
				h.Flags |= unix.MSG_CTRUNC
			}
		}
		return r
	})
	if r.Err != nil {
		return 0, r.Err.(unix.Errno)
	}
	return n, 0
}

func recvPieces(fd int, msgs []mmsghdr, most int, flags Flags) (n int, errno unix.Errno) {
	for i := range msgs {
		iov := msgs[i].hdr.Iov
		room := iov.Len
		iov.SetLen(min(most, int(room)))
		_, errno = recvmmsg(fd, msgs[i:i+1], flags)
		iov.Len = room
		if errno != 0 {
			break
		}
		n++
		if most -= int(msgs[i].n); most == 0 || msgs[i].n == 0 {
			break
		}
	}
	if n > 0 {
		errno = 0
	}
	return n, errno
}

// room is for how many descriptors there is room.
func (f Files) room() int {
	switch f {
	case LoseFiles:
		return 0
	case LoseButOne:
		return 1
	}
	return math.MaxInt
}

// fit closes what there is no room for of the descriptors in b, which is one
// control message or nothing (no test of faults sets an option that makes the
// kernel add more), and returns how long that is without them.
func fit(b []byte, room *int, r *Result) int {
	if len(b) == 0 {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	data := b[unix.CmsgLen(0):h.Len]
	came := len(data) / sizeofFD
	keep := min(came, *room)
	*room -= keep
	r.Files += keep
	r.Dropped += came - keep
	for i := keep; i < came; i++ {
		unix.Close(int(int32(binary.NativeEndian.Uint32(data[i*sizeofFD:]))))
	}
	if keep == 0 {
		r.Lost++
		return 0
	}
	h.SetLen(unix.CmsgLen(keep * sizeofFD))
	return unix.CmsgSpace(keep * sizeofFD)
}
