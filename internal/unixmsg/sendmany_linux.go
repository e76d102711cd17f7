//go:build !nosendmmsg

package unixmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SendMany sends groups like Send, one behind the other, with one sendmmsg(2):
// a file needs a send of its own, but not a system call. It returns how many
// bytes were taken, from the first group on: the files of those groups of which
// at least one byte was taken have gone. There is at least one group, and each
// has at least one byte. fd and the errors are as with Send. Where sendmmsg(2)
// is missing or forbidden, the first group is sent.
func SendMany(fd int, groups []Group, flags Flags) (int, error) {
	// About the pointers, see sendmsg.
	var msgs [MaxGroups]mmsghdr
	var vecs [maxIovecs]unix.Iovec
	var controls [MaxGroups]rights
	k, used := 0, 0
	for k < min(len(groups), MaxGroups) {
		g := &groups[k]
		beg := used
		for _, b := range g.Bufs {
			if used == maxIovecs {
				break
			}
			vecs[used].Base = unsafe.SliceData(b)
			vecs[used].SetLen(len(b))
			used++
		}
		if used-beg < len(g.Bufs) {
			break // no room for all of it
		}
		msgs[k].hdr.Iov = &vecs[beg]
		msgs[k].hdr.SetIovlen(used - beg)
		if g.File >= 0 {
			n := len(controls[k].set(g.File))
			msgs[k].hdr.Control = (*byte)(unsafe.Pointer(&controls[k]))
			msgs[k].hdr.SetControllen(n)
		}
		k++
	}
	if k < 2 {
		return sendFirst(fd, groups, flags)
	}
	raceSending()
	n, errno := sysSendMany(fd, msgs[:k], flags)
	switch errno {
	case 0:
	case unix.EAGAIN:
		return 0, fail("sendmmsg", errno)
	default:
		// Interrupted, or the call is missing or forbidden; or the first group
		// cannot be sent. sendmsg tells what is the case now.
		return sendFirst(fd, groups, flags)
	}
	sent := 0
	for i := range n {
		sent += int(msgs[i].n)
		raceSent(groups[i].Bufs, int(msgs[i].n))
	}
	return sent, nil
}
