//go:build netbsd || darwin || illumos || solaris

package privsep

import "syscall"

// Without setresuid(2): these change the saved ids too if they change the real
// ones. Not run.
func setGID(gid int) error { return syscall.Setregid(gid, gid) }
func setUID(uid int) error { return syscall.Setreuid(uid, uid) }
