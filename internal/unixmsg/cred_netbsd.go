package unixmsg

const (
	credLevel  = 0 // SOL_LOCAL
	credOption = 3 // LOCAL_PEEREID of <sys/un.h>
)

// LOCAL_PEEREID is a struct of pid, effective uid and effective gid.
// Compiled, not run.
func credFrom(w [8]uint32) (pid int, uid, gid uint32) {
	return int(int32(w[0])), w[1], w[2]
}
