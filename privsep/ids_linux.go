package privsep

import "syscall"

// setGID and setUID change the real, effective and saved id of every thread,
// which package syscall sees to on Linux.
func setGID(gid int) error { return syscall.Setresgid(gid, gid, gid) }
func setUID(uid int) error { return syscall.Setresuid(uid, uid, uid) }
