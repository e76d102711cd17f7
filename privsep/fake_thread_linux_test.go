package privsep

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// oneThreadDaemon has a child that has not learnt that Linux knows of threads only.
var oneThreadDaemon = &Daemon{Name: "thread", User: "nobody", Grace: time.Second, Roles: []Role{
	fakeRole("drops on one thread only", func(c *fakeChild) {
		c.greet()
		runtime.LockOSThread()
		uid := uintptr(c.hello.UID)
		if syscall.Setgroups([]int{c.hello.GID}) != nil || setGID(c.hello.GID) != nil {
			os.Exit(108)
		}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); errno != 0 {
			os.Exit(107)
		}
		c.send(ctlReady, marshal(c.status()))
		c.hang()
	}),
}}

var _ = registerFake("thread", fakeMain)

// TestOneThread: the parent looks at every thread.
func TestOneThread(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, which has rights to keep")
	}
	err := fails(t, oneThreadDaemon)
	deathCheck(t, err, "drops on one thread only", "start", "a thread has the user ids 0 0 0 0")
}
