//go:build amd64 || arm64

package ptrace

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What x/sys/unix has no names or functions for.
const (
	cldExited  = 1 // si_code: the process ended by itself
	cldTrapped = 4 // a thread stopped
	cldDumped  = 3 // the largest of the codes that mean an end

	eventStop   = 128 // PTRACE_EVENT_STOP
	syscallStop = int32(unix.SIGTRAP) | 0x80
)

// options are those of PTRACE_SEIZE. Children inherit them, and are traced
// before they run. Without TRACESYSGOOD a thread that is in a system call when
// the tracer dies would get a SIGTRAP.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC

// siginfo is the kernel's siginfo_t as waitid(2) fills it in.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

// waitid looks for a change of one of this thread's tracees and children, and
// of no other thread's. pid 0 means any.
func waitid(pid int, info *siginfo, flags int) unix.Errno {
	*info = siginfo{}
	typ := unix.P_ALL
	if pid != 0 {
		typ = unix.P_PID
	}
	flags |= unix.WEXITED | unix.WSTOPPED | unix.WALL | unix.WNOTHREAD
	var errno unix.Errno
	if flags&unix.WNOHANG != 0 {
		_, _, errno = unix.RawSyscall6(unix.SYS_WAITID, uintptr(typ), uintptr(pid), uintptr(unsafe.Pointer(info)), uintptr(flags), 0, 0)
	} else {
		_, _, errno = unix.Syscall6(unix.SYS_WAITID, uintptr(typ), uintptr(pid), uintptr(unsafe.Pointer(info)), uintptr(flags), 0, 0)
	}
	return errno
}

// ptrace makes a request that does not block.
func ptrace(request, tid int, addr, data uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	return errno
}

// syscallInfo is the kernel's struct ptrace_syscall_info.
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	_    [2]uint64 // of the instruction and the stack
	// At the entry the number and the arguments; at the exit the result and, in
	// one byte, whether it is an error.
	nr   uint64
	args [6]uint64
	_    uint64
}

func (s *syscallInfo) get(tid int) unix.Errno {
	return ptrace(unix.PTRACE_GET_SYSCALL_INFO, tid, unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s)))
}

// result is the number of bytes that a call at its exit moved, or -1.
func (s *syscallInfo) result() int {
	if byte(s.args[0]) != 0 {
		return -1
	}
	return int(s.nr)
}

// eventMessage returns what PTRACE_GETEVENTMSG tells of a thread in an event stop.
func eventMessage(tid int) int {
	var msg uint
	if ptrace(unix.PTRACE_GETEVENTMSG, tid, 0, uintptr(unsafe.Pointer(&msg))) != 0 {
		return 0
	}
	return int(msg)
}

// sigaction is the kernel's struct sigaction on both machines.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	saNoCldStop = 1
	saRestart   = 0x10000000
)

// wakeSignal ends a waitid that blocks. The runtime has a handler for it, which
// does nothing; nobody else uses it.
const wakeSignal = syscall.Signal(62)

// prepareSignals makes wakeSignal interrupt calls instead of restarting them,
// and keeps the kernel from sending a SIGCHLD for each stop of a traced thread.
var prepareSignals = sync.OnceValue(func() error {
	change := func(sig syscall.Signal, set, clear uint64) error {
		var act sigaction
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0); errno != 0 {
			return os.NewSyscallError("rt_sigaction", errno)
		}
		act.flags = act.flags&^clear | set
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
		if errno != 0 {
			return os.NewSyscallError("rt_sigaction", errno)
		}
		return nil
	}
	if err := change(wakeSignal, 0, saRestart); err != nil {
		return err
	}
	return change(unix.SIGCHLD, saNoCldStop, 0)
})
