package unixmsg

import (
	"math"

	"golang.org/x/sys/unix"
)

// PeerCred returns the process, user and group at the other end of the socket
// fd as the kernel noted them when the stream was made: by connect, by listen,
// or by socketpair. The ends of a pair therefore always name the process that
// made the pair, whoever holds them now, and a process id may have been reused
// since. It is 0 if the process is not visible from here (another namespace) or
// the system does not tell. The ids are the effective ones.
//
// The error is an *os.SyscallError: ENOTCONN if there is no peer.
func PeerCred(fd int) (pid int, uid, gid uint32, err error) {
	c, err := sysPeerCred(fd)
	if err != nil {
		return 0, 0, 0, fail("getsockopt", err)
	}
	if c.Pid == 0 && c.Uid == math.MaxUint32 {
		return 0, 0, 0, fail("getsockopt", unix.ENOTCONN) // what others say themselves
	}
	return int(c.Pid), c.Uid, c.Gid, nil
}
