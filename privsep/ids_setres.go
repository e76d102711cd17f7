//go:build freebsd || openbsd || dragonfly

package privsep

import "golang.org/x/sys/unix"

// setGID and setUID change the real, effective and saved id of the process. Not
// run.
func setGID(gid int) error { return unix.Setresgid(gid, gid, gid) }
func setUID(uid int) error { return unix.Setresuid(uid, uid, uid) }
