package imsg

import (
	"errors"
	"os"
	"syscall"

	"example.org/imsg/internal/unixmsg"
)

// maxGather is how many pieces one system call sends at most. A queue has one
// piece for many messages, so more would not help.
const maxGather = 64

// receive makes one system call and returns how many of the parts have come.
// Without file passing it is a plain read: the kernel then closes files that
// come unasked.
func receive(fd int, p []byte, parts []unixmsg.Part, files bool) (int, error) {
	if files {
		return unixmsg.RecvMany(fd, p, parts)
	}
	n, err := unixmsg.Read(fd, p)
	if err != nil {
		return 0, err
	}
	parts[0] = unixmsg.Part{N: int32(n), File: -1}
	return 1, nil
}

// transmit makes one system call. The file is held open during the call.
func transmit(fd int, bufs [][]byte, file *os.File, files bool) (n int, err error) {
	switch {
	case len(bufs) == 0:
		return 0, nil
	case !files:
		return unixmsg.Write(fd, bufs)
	case file == nil:
		return unixmsg.Send(fd, bufs, -1)
	}
	cerr := control(file, func(f uintptr) { n, err = unixmsg.Send(fd, bufs, int(f)) })
	if cerr != nil {
		return 0, cerr
	}
	return n, err
}

// control calls f with file's descriptor, which stays open meanwhile and keeps
// its blocking mode. The error is os.ErrClosed.
func control(file *os.File, f func(fd uintptr)) error {
	rc, err := file.SyscallConn()
	if err == nil {
		err = rc.Control(f)
	}
	if err != nil {
		return os.ErrClosed // the only reason, under more than one name
	}
	return nil
}

// isWouldBlock reports whether err is how a socket says "not now"; poll(2) tells when.
func isWouldBlock(err error) bool { return err == syscall.EAGAIN }

// isTemporary reports whether err goes away by itself, without a sign from the
// socket: too many files in flight (EMFILE on OpenBSD), or no memory for now.
func isTemporary(err error) bool {
	return errors.Is(err, syscall.ETOOMANYREFS) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENOBUFS)
}
