//go:build unix && !aix

package unixmsg

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Poll waits until fd is readable, or writable if write is set. An end of the
// stream or an error on fd also ends the wait, with nil: the next call on fd
// tells. It waits at most timeoutMillis milliseconds and then returns
// os.ErrDeadlineExceeded; 0 only looks, a negative number waits for ever.
// Anything else is an *os.SyscallError: EBADF if fd is not open.
//
// It holds an operating system thread and is not for descriptors that the
// runtime's poller watches. A sandbox must allow poll(2), or ppoll(2) on the
// Linux ports that have nothing else.
func Poll(fd int, write bool, timeoutMillis int) error {
	return PollWake(fd, write, -1, timeoutMillis)
}

// PollWake is Poll that also ends, with nil, when the descriptor wake is
// readable, unless that is negative.
func PollWake(fd int, write bool, wake, timeoutMillis int) error {
	var events int16 = unix.POLLIN
	if write {
		events = unix.POLLOUT
	}
	var deadline time.Time
	if timeoutMillis > 0 {
		deadline = time.Now().Add(time.Duration(timeoutMillis) * time.Millisecond)
	}
	fds := [2]unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(wake), Events: unix.POLLIN}}
	for {
		n, err := sysPoll(fds[:], timeoutMillis)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			if timeoutMillis > 0 {
				left := time.Until(deadline) + time.Millisecond - 1 // rounded up: never early, never a busy loop
				timeoutMillis = int(max(left, 0) / time.Millisecond)
			}
		case err != nil:
			return fail("poll", err)
		case n == 0:
			return os.ErrDeadlineExceeded
		case fds[0].Revents&unix.POLLNVAL != 0:
			return fail("poll", unix.EBADF)
		default:
			return nil
		}
	}
}
