package unixmsg

import "golang.org/x/sys/unix"

const (
	credLevel  = unix.SOL_SOCKET
	credOption = unix.SO_PEERCRED
)

// SO_PEERCRED is a struct of uid, gid and pid.
// Compiled, not run.
func credFrom(w [8]uint32) (pid int, uid, gid uint32) {
	return int(int32(w[2])), w[0], w[1]
}
