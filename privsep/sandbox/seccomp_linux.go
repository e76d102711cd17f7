package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seccompError reports why this kernel has no seccomp filters, or nil.
func seccompError() error {
	action := uint32(retKill)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return errno
	}
	return nil
}

// load puts program on every thread, and with it no_new_privs, unless they all have
// that. It is the last thing that Enter does.
func load(program []unix.SockFilter, noNewPrivs bool) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if !noNewPrivs {
		runtime.LockOSThread() // the kernel copies it from the thread that loads the filter
		defer runtime.UnlockOSThread()
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return os.NewSyscallError("prctl no_new_privs", err)
		}
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	if thread != 0 {
		return fmt.Errorf("sandbox: seccomp: thread %d has a filter of its own", thread)
	}
	return nil
}
