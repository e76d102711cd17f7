package imsg

import "example.org/imsg/internal/unixmsg"

// Cred is what the kernel knows about the process at the other end.
type Cred struct {
	PID      int // 0 where the system does not tell
	UID, GID uint32
}

func peerCred(fd int) (Cred, error) {
	pid, uid, gid, err := unixmsg.PeerCred(fd)
	if err != nil {
		return Cred{}, opError("peer credentials", 0, err)
	}
	return Cred{pid, uid, gid}, nil
}
