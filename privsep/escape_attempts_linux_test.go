package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// An attempt is one thing that a child that was taken over would try. Its
// arguments are process ids or names. An error is that it was refused.
type attempt func(w *testimony, args []string) error

func init() {
	acts["escape"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		try := attempts[args[0]]
		if try == nil {
			return nil, fmt.Errorf("no attempt %q", args[0])
		}
		return escapeName(try(w, args[1:])), nil
	}
}

// escapeName is the name of an error number, or "escaped".
func escapeName(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "escaped"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

const same = ^uintptr(0) // an id that stays as it is

// attempts, by name.
var attempts = map[string]attempt{
	// The rights of before.
	"setuid":             direct(unix.SYS_SETUID, 0),
	"setgid":             direct(unix.SYS_SETGID, 0),
	"setresuid":          direct(unix.SYS_SETRESUID, 0, 0, 0),
	"setresuid saved":    direct(unix.SYS_SETRESUID, same, 0, same),
	"setresgid":          direct(unix.SYS_SETRESGID, 0, 0, 0),
	"setreuid":           direct(unix.SYS_SETREUID, 0, 0),
	"setgroups":          joinRoot,
	"setgroups none":     direct(unix.SYS_SETGROUPS, 0, 0),
	"setuid, Go":         func(*testimony, []string) error { return syscall.Setresuid(0, 0, 0) },
	"setgroups, Go":      func(*testimony, []string) error { return syscall.Setgroups([]int{0}) },
	"capset":             capset,
	"ambient capability": direct(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SETUID, 0, 0),
	"dumpable":           direct(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0),
	"ptracer":            direct(unix.SYS_PRCTL, unix.PR_SET_PTRACER, same, 0, 0, 0),

	// The root of before.
	"chroot":             func(*testimony, []string) error { return syscall.Chroot("/") },
	"chroot and up":      classic,
	"from a directory":   fromHeld,
	"by a directory":     throughHeld,
	"send a directory":   sendDirectory,
	"attach a directory": attachDirectory,
	"send a file": func(w *testimony, _ []string) error {
		return w.p.Parent().Send(context.Background(), reqTell, os.Stderr, nil)
	},
	"pivot_root": func(*testimony, []string) error {
		return unix.PivotRoot("/", "/")
	},
	"mount": func(*testimony, []string) error {
		return unix.Mount("none", "/", "tmpfs", 0, "")
	},
	"open_by_handle_at": direct(unix.SYS_OPEN_BY_HANDLE_AT, same, 0, 0),
	"read":              onName(openFor(unix.O_RDONLY)),
	"write":             onName(openFor(unix.O_WRONLY)),
	"create":            onName(openFor(unix.O_WRONLY | unix.O_CREAT)),
	"list":              onName(openFor(unix.O_RDONLY | unix.O_DIRECTORY)),
	"rename":            onName(func(name string) error { return unix.Rename(name, name+".new") }),
	"unlink":            onName(unix.Unlink),
	"link":              onName(func(name string) error { return unix.Link(name, "linked") }),
	"chmod":             onName(func(name string) error { return unix.Chmod(name, 0o777) }),
	"temporary":         onName(func(name string) error { return openFor(unix.O_RDWR | unix.O_TMPFILE)(filepath.Dir(name)) }),

	// Other processes.
	"attach":            onProcess(func(pid int) error { return raw(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(pid), 0, 0) }),
	"seize":             onProcess(func(pid int) error { return raw(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0) }),
	"take a descriptor": onProcess(takeDescriptor),
	"pidfd_getfd":       direct(unix.SYS_PIDFD_GETFD, same, 0, 0),
	"read memory":       onProcess(readMemory),
	"open memory":       openProc("mem", unix.O_RDWR),
	"open own memory":   func(*testimony, []string) error { return openFor(unix.O_RDWR)("/proc/self/mem") },
	"open its root":     openProc("root/etc/passwd", unix.O_RDONLY),
	"open its file":     openProc("fd/0", unix.O_RDONLY),
	"kill":              onProcess(func(pid int) error { return unix.Kill(pid, 0) }),
	"kill all":          func(*testimony, []string) error { return unix.Kill(-1, 0) },
	"limit":             onProcess(func(pid int) error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil) }),

	// What no role needs.
	"exec": func(*testimony, []string) error {
		return syscall.Exec(self, []string{"escaped"}, []string{envMiddle + "=escaped"})
	},
	"exec memory":   execMemory,
	"fork":          startIn(0),
	"userns":        startIn(unix.CLONE_NEWUSER),
	"unshare":       direct(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	"setns":         direct(unix.SYS_SETNS, same, 0),
	"clone3":        direct(unix.SYS_CLONE3, 0, 0),
	"inet":          newSocket(unix.AF_INET, unix.SOCK_STREAM),
	"inet6":         newSocket(unix.AF_INET6, unix.SOCK_DGRAM),
	"unix":          newSocket(unix.AF_UNIX, unix.SOCK_STREAM),
	"netlink":       newSocket(unix.AF_NETLINK, unix.SOCK_RAW),
	"packet":        newSocket(unix.AF_PACKET, unix.SOCK_RAW),
	"vsock":         newSocket(unix.AF_VSOCK, unix.SOCK_STREAM),
	"alg":           newSocket(unix.AF_ALG, unix.SOCK_SEQPACKET),
	"tkill":         onProcess(func(pid int) error { return raw(unix.SYS_TKILL, uintptr(pid), 0) }),
	"sigqueue":      onProcess(func(pid int) error { return raw(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), 0, 0) }),
	"kill group":    direct(unix.SYS_KILL, 0, 0),
	"priority":      onProcess(func(pid int) error { return raw(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, uintptr(pid), 19) }),
	"shared memory": direct(unix.SYS_SHMGET, 0, 4096, 0),
	"inotify":       direct(unix.SYS_INOTIFY_INIT1, 0),
	"fanotify":      direct(unix.SYS_FANOTIFY_INIT, 0, 0),
	"kernel log":    direct(unix.SYS_SYSLOG, 10, 0, 0),
	"personality":   direct(unix.SYS_PERSONALITY, 0),
	"name socket":   onName(sendToName),
	"connect":       onPort(unix.AF_INET, 0, unix.Connect),
	"fast open":     onPort(unix.AF_INET, 0, func(fd int, to unix.Sockaddr) error { return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, to) }),
	"fast open by sendmsg": onPort(unix.AF_INET, 0, func(fd int, to unix.Sockaddr) error {
		return unix.Sendmsg(fd, []byte("x"), nil, to, unix.MSG_FASTOPEN)
	}),
	"connect, MPTCP": onPort(unix.AF_INET, unix.IPPROTO_MPTCP, unix.Connect),
	"connect, IPv6":  onPort(unix.AF_INET6, 0, unix.Connect),
	"io_uring":       direct(unix.SYS_IO_URING_SETUP, 1, 0),
	"bpf":            direct(unix.SYS_BPF, 0, 0, 0),
	"keyctl":         direct(unix.SYS_KEYCTL, 0, same),
	"userfaultfd":    direct(unix.SYS_USERFAULTFD, 0),
	"perf":           direct(unix.SYS_PERF_EVENT_OPEN, 0, 0, same, same, 0),
	"module":         direct(unix.SYS_INIT_MODULE, 0, 0, 0),
	"reboot":         direct(unix.SYS_REBOOT, 0, 0, 0),
	"type input":     direct(unix.SYS_IOCTL, 2, unix.TIOCSTI, 0),
	"code":           mapCode,
	"x32 getpid":     direct(0x40000000 + unix.SYS_GETPID),
	"x32 ptrace":     direct(0x40000000 + 521),
	"x32 execve":     direct(0x40000000 + 520),
	"no such call":   direct(4000),
}
