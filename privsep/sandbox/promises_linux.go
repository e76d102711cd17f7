package sandbox

import "golang.org/x/sys/unix"

// The calls that a promise allows whatever their arguments are. Which of them
// exist depends on the architecture: numbers_linux.go knows.
const (
	// stdioCalls work on descriptors that are open, on memory, time and the
	// process itself: what OpenBSD's "stdio" has and what the Go runtime does.
	stdioCalls = "read write recvmsg futex epoll_pwait epoll_wait nanosleep close " +
		"readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek fstat fsync fdatasync ftruncate fallocate fadvise64 " +
		"recvmmsg recvfrom shutdown sendfile splice tee copy_file_range close_range " +
		"dup dup2 dup3 pipe pipe2 poll ppoll select pselect6 getdents getdents64 fchdir " +
		"epoll_create epoll_create1 epoll_ctl epoll_pwait2 eventfd eventfd2 " +
		"munmap mremap madvise mincore msync brk " +
		"clock_gettime clock_getres clock_nanosleep gettimeofday time times sched_yield sched_getaffinity getcpu " +
		"getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete alarm pause " +
		"rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack restart_syscall " +
		"getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp getsid " +
		"getpriority getrlimit getrusage uname umask getrandom set_robust_list rseq wait4 waitid exit exit_group"

	// lookCalls find and describe files; openat is among the rules.
	lookCalls = "stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat chdir getcwd statfs fstatfs"

	socketCalls = "connect bind getsockname getpeername getsockopt"
	serverCalls = "listen accept accept4"
	nameCalls   = "unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mkdir mkdirat rmdir"

	// fatalCalls end the process even when other forbidden calls only fail:
	// no promise allows them and nobody makes them by mistake.
	fatalCalls = "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp bpf add_key request_key keyctl " +
		"io_uring_setup io_uring_enter io_uring_register userfaultfd perf_event_open kexec_load kexec_file_load " +
		"init_module finit_module delete_module iopl ioperm setns unshare mount umount2 pivot_root move_mount open_tree " +
		"fsopen open_by_handle_at swapon swapoff reboot"

	// absentCalls answer ENOSYS, so that the C library and Go use the older
	// call, whose arguments a filter can see: those of these lie in memory.
	absentCalls = "clone3 openat2"
)

// plainCalls returns what word allows whatever the arguments are. A word
// that is missing here has rules only, or has no meaning on Linux.
func plainCalls(word string) string {
	switch word {
	case "stdio":
		return stdioCalls
	case "rpath", "getpw", "ps", "vminfo":
		return lookCalls + " sysinfo"
	case "wpath":
		return lookCalls + " truncate"
	case "cpath":
		return nameCalls
	case "tmppath":
		return lookCalls + " unlink unlinkat truncate"
	case "inet", "unix":
		return socketCalls + " " + serverCalls
	case tcpAccept:
		return "getsockname getpeername getsockopt accept accept4"
	case tcpBind:
		return "bind listen"
	case tcpConnect:
		return "connect"
	case "dns":
		return socketCalls + " " + lookCalls
	case "route", "wroute":
		return socketCalls
	case "fattr":
		return "chmod fchmod fchmodat fchmodat2 utime utimes futimesat utimensat"
	case "chown":
		return "chown lchown fchown fchownat"
	case "flock":
		return "flock"
	case "proc":
		return "fork vfork kill tgkill pidfd_open pidfd_send_signal setsid setpgid setpriority prlimit64"
	case "exec":
		return "execve arch_prctl set_tid_address"
	case "settime":
		return "settimeofday clock_settime clock_adjtime adjtimex"
	case "id":
		return "setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid setpriority prlimit64"
	}
	return ""
}

// A rule allows a call when all its tests hold. Several rules for one call are alternatives.
type rule struct {
	call string
	all  []test
}

// A test looks at 32 bits of an argument: those under mask have to equal want.
type test struct {
	offset     uint32 // in struct seccomp_data
	mask, want uint32
}

// arg tests the low half of argument i, counted from 0. The kernel looks at no
// more than that of descriptors, flags, commands and pids.
func arg(i, mask, want uint32) test { return test{16 + 8*i, mask, want} }

const all32 = 0xffffffff

// null tests that the pointer in argument i is nil: both halves are 0.
func null(i uint32) []test {
	return []test{arg(i, all32, 0), {16 + 8*i + 4, all32, 0}}
}

// argRules returns the rules of w for the process pid.
func argRules(w words, pid int) []rule {
	self := arg(0, all32, uint32(pid))
	rules := []rule{
		{"tgkill", []test{self}}, // the runtime stops its own threads with it
		{"kill", []test{self}},
		// Limits and CPU lists of the process itself can be read.
		{"prlimit64", append(null(2), arg(0, all32, 0))},
		{"prlimit64", append(null(2), self)},
		// A thread, not a process, and no new namespace for it.
		{"clone", []test{arg(0, unix.CLONE_THREAD|neverCloned, unix.CLONE_THREAD)}},
		{"prctl", []test{arg(0, all32, unix.PR_SET_VMA)}}, // the runtime names its memory
		{"prctl", []test{arg(0, all32, unix.PR_SET_NAME)}},
		{"prctl", []test{arg(0, all32, unix.PR_GET_NAME)}},
		{"prctl", []test{arg(0, all32, unix.PR_GET_DUMPABLE)}},
		{"prctl", []test{arg(0, all32, unix.PR_GET_NO_NEW_PRIVS)}},
		{"prctl", []test{arg(0, all32, unix.PR_GET_SECCOMP)}},
	}
	rules = append(rules, memoryRules(w)...)
	rules = append(rules, execRules(w)...)
	rules = append(rules, sendRules(w)...)
	rules = append(rules, fcntlRules(w)...)
	rules = append(rules, ioctlRules(w)...)
	rules = append(rules, openRules(w)...)
	rules = append(rules, socketRules(w)...)
	if w["proc"] {
		rules = append(rules, rule{"clone", []test{arg(0, neverCloned, 0)}})
	}
	if w["dpath"] { // named pipes, no devices
		rules = append(rules,
			rule{"mknod", []test{arg(1, unix.S_IFMT, unix.S_IFIFO)}},
			rule{"mknodat", []test{arg(2, unix.S_IFMT, unix.S_IFIFO)}})
	}
	return rules
}

// neverCloned are new namespaces, and a child that is the parent's: it would be
// this process's sibling, which the parent did not start and does not expect.
const neverCloned = unix.CLONE_PARENT | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
