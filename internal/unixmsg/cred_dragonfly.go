package unixmsg

const (
	credLevel  = 0 // SOL_LOCAL
	credOption = 1 // LOCAL_PEERCRED of <sys/un.h>
)

// LOCAL_PEERCRED is a struct of version, uid, number of groups and the groups,
// of which the first is the effective one; the process id is not in it.
// Compiled, not run.
func credFrom(w [8]uint32) (pid int, uid, gid uint32) {
	return 0, w[1], w[3]
}
