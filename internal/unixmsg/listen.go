//go:build unix && !aix

package unixmsg

import (
	"os"

	"golang.org/x/sys/unix"
)

// Bind returns a new AF_UNIX stream socket with the name path, to which nobody
// can connect before Listen. It is non-blocking and close-on-exec and belongs to
// the caller. The error is an *os.SyscallError: EADDRINUSE if there is a file.
func Bind(path string) (int, error) {
	fd, err := socket(unix.SOCK_STREAM)
	if err != nil {
		return -1, fail("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// Listen lets clients connect to the socket fd. As many may wait to be accepted
// as the system allows: all shorten the number.
func Listen(fd int) error { return fail("listen", unix.Listen(fd, 1<<16-1)) }

// Bound reports whether a socket that is open in some process has the name
// path, whether it listens or not. If that cannot be known, the answer is yes.
//
// A datagram socket is connected to the name: that fails with EPROTOTYPE when a
// stream socket is there, which does not hear of it, and with ECONNREFUSED when
// there is only the file of one.
func Bound(path string) (bool, error) {
	fd, err := socket(unix.SOCK_DGRAM)
	if err != nil {
		return true, fail("socket", err)
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return err != unix.ECONNREFUSED && err != unix.ENOENT, nil
}

// Name returns the name that the socket fd is bound to, with "@" in front if it
// is an abstract one; empty if there is none.
func Name(fd int) (string, error) {
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return "", fail("getsockname", err)
	}
	if u, ok := addr.(*unix.SockaddrUnix); ok {
		return u.Name, nil
	}
	return "", nil
}

// LockFile takes an exclusive lock on the open file fd with flock(2), without
// waiting: syscall.EAGAIN if somebody else has one. It ends when the last
// duplicate of fd is closed.
func LockFile(fd int) error {
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return fail("flock", err)
		}
	}
}
