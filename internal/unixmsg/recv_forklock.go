//go:build darwin || illumos || solaris

package unixmsg

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recv receives and sets close-on-exec in two steps, so no process may be
// started in between: it holds syscall.ForkLock for reading. It must not hold
// it while it waits, or a silent peer would stop every fork in the program.
// So the receive itself never waits, and if fd is blocking the waiting is done
// by poll, without the lock. Another reader may take the bytes first: then wait
// again. Compiled, not run.
func recv(fd int, p []byte, flags Flags) (n, file int, lost bool, err error) {
	for {
		n, file, lost, err = recvLocked(fd, p)
		if err != unix.EAGAIN || flags&DontWait != 0 || !Blocking(fd) {
			return n, file, lost, err
		}
		if err := Poll(fd, false, -1); err != nil {
			return 0, -1, lost, err
		}
	}
}

// recvLocked gives the kernel far more room than for one descriptor. macOS
// installs every file it was sent before it looks at the room, and of those that
// did not fit nobody knows the number: a peer could fill our table. 2048 bytes
// is the longest control message its senders can make.
func recvLocked(fd int, p []byte) (n, file int, lost bool, err error) {
	var room [256]uint64
	b := unsafe.Slice((*byte)(unsafe.Pointer(&room)), unsafe.Sizeof(room))

	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, size, flags, refused, err := recvmsg(fd, p, b, DontWait)
	if err != nil {
		return 0, -1, refused, err
	}
	file = keepFirst(b[:size])
	if file >= 0 {
		unix.CloseOnExec(file)
	}
	return n, file, file < 0 && (refused || flags&unix.MSG_CTRUNC != 0), nil
}
