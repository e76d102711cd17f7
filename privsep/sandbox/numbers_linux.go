package sandbox

import (
	"slices"
	"strings"
)

// A systemCall has a number on amd64 and on arm64, -1 where it does not exist.
type systemCall struct {
	name         string
	amd64, arm64 int16
}

// systemCalls are sorted by name. The numbers of both are here so that either filter can be
// made and tested on either machine; a test compares them with x/sys.
//
// What is not listed is refused; TestEscape makes all calls from 451 to 600,
// with every promise. Looked at, and left out, up to Linux 7.3:
//
//	451-462 (Linux 6.5 to 6.10)    but for fchmodat2: no program needs one yet
//	463-466, 468, 469 (*xattrat,   pledge has no word for such attributes,
//	file_getattr, file_setattr)    Landlock no right
//	467 open_tree_attr, 470        as mounts, namespaces and chroot
//	listns, 472 fchroot
//	471 rseq_slice_yield           of no use without a prctl(2) that is refused
//
// And of Landlock: what is logged (ABI 7, 10) stays as it is; one call for all
// threads (8) is used; connecting to a socket's name (9) takes "unix" and "w" of
// the path; UDP ports (10) are 53 with "dns", and none without "inet";
// no_new_privs together with the rules (11) is not used, as it is set where
// there is no Landlock, too.
var systemCalls = [...]systemCall{
	{"accept", 43, 202}, {"accept4", 288, 242}, {"access", 21, -1}, {"add_key", 248, 217}, {"adjtimex", 159, 171},
	{"alarm", 37, -1}, {"arch_prctl", 158, -1}, {"bind", 49, 200}, {"bpf", 321, 280}, {"brk", 12, 214},
	{"chdir", 80, 49}, {"chmod", 90, -1}, {"chown", 92, -1}, {"clock_adjtime", 305, 266}, {"clock_getres", 229, 114},
	{"clock_gettime", 228, 113}, {"clock_nanosleep", 230, 115}, {"clock_settime", 227, 112}, {"clone", 56, 220},
	{"clone3", 435, 435}, {"close", 3, 57}, {"close_range", 436, 436}, {"connect", 42, 203},
	{"copy_file_range", 326, 285}, {"creat", 85, -1}, {"delete_module", 176, 106}, {"dup", 32, 23}, {"dup2", 33, -1},
	{"dup3", 292, 24}, {"epoll_create", 213, -1}, {"epoll_create1", 291, 20}, {"epoll_ctl", 233, 21},
	{"epoll_pwait", 281, 22}, {"epoll_pwait2", 441, 441}, {"epoll_wait", 232, -1}, {"eventfd", 284, -1},
	{"eventfd2", 290, 19}, {"execve", 59, 221}, {"execveat", 322, 281}, {"exit", 60, 93}, {"exit_group", 231, 94},
	{"faccessat", 269, 48}, {"faccessat2", 439, 439}, {"fadvise64", 221, 223}, {"fallocate", 285, 47},
	{"fchdir", 81, 50}, {"fchmod", 91, 52}, {"fchmodat", 268, 53}, {"fchmodat2", 452, 452}, {"fchown", 93, 55},
	{"fchownat", 260, 54}, {"fcntl", 72, 25}, {"fdatasync", 75, 83}, {"finit_module", 313, 273}, {"flock", 73, 32},
	{"fork", 57, -1}, {"fsopen", 430, 430}, {"fstat", 5, 80}, {"fstatfs", 138, 44}, {"fsync", 74, 82},
	{"ftruncate", 77, 46}, {"futex", 202, 98}, {"futimesat", 261, -1}, {"getcpu", 309, 168}, {"getcwd", 79, 17},
	{"getdents", 78, -1}, {"getdents64", 217, 61}, {"getegid", 108, 177}, {"geteuid", 107, 175}, {"getgid", 104, 176},
	{"getgroups", 115, 158}, {"getitimer", 36, 102}, {"getpeername", 52, 205}, {"getpgid", 121, 155},
	{"getpgrp", 111, -1}, {"getpid", 39, 172}, {"getppid", 110, 173}, {"getpriority", 140, 141},
	{"getrandom", 318, 278}, {"getresgid", 120, 150}, {"getresuid", 118, 148}, {"getrlimit", 97, 163},
	{"getrusage", 98, 165}, {"getsid", 124, 156}, {"getsockname", 51, 204}, {"getsockopt", 55, 209},
	{"gettid", 186, 178}, {"gettimeofday", 96, 169}, {"getuid", 102, 174}, {"init_module", 175, 105},
	{"io_uring_enter", 426, 426}, {"io_uring_register", 427, 427}, {"io_uring_setup", 425, 425}, {"ioctl", 16, 29},
	{"ioperm", 173, -1}, {"iopl", 172, -1}, {"kcmp", 312, 272}, {"kexec_file_load", 320, 294},
	{"kexec_load", 246, 104}, {"keyctl", 250, 219}, {"kill", 62, 129}, {"lchown", 94, -1}, {"link", 86, -1},
	{"linkat", 265, 37}, {"listen", 50, 201}, {"lseek", 8, 62}, {"lstat", 6, -1}, {"madvise", 28, 233},
	{"memfd_create", 319, 279}, {"mincore", 27, 232}, {"mkdir", 83, -1}, {"mkdirat", 258, 34}, {"mknod", 133, -1},
	{"mknodat", 259, 33}, {"mmap", 9, 222}, {"mount", 165, 40}, {"move_mount", 429, 429}, {"mprotect", 10, 226},
	{"mremap", 25, 216}, {"msync", 26, 227}, {"munmap", 11, 215}, {"nanosleep", 35, 101}, {"newfstatat", 262, 79},
	{"open", 2, -1}, {"open_by_handle_at", 304, 265}, {"open_tree", 428, 428}, {"openat", 257, 56},
	{"openat2", 437, 437}, {"pause", 34, -1}, {"perf_event_open", 298, 241}, {"pidfd_getfd", 438, 438},
	{"pidfd_open", 434, 434}, {"pidfd_send_signal", 424, 424}, {"pipe", 22, -1}, {"pipe2", 293, 59},
	{"pivot_root", 155, 41}, {"poll", 7, -1}, {"ppoll", 271, 73}, {"prctl", 157, 167}, {"pread64", 17, 67},
	{"preadv", 295, 69}, {"preadv2", 327, 286}, {"prlimit64", 302, 261}, {"process_vm_readv", 310, 270},
	{"process_vm_writev", 311, 271}, {"pselect6", 270, 72}, {"ptrace", 101, 117}, {"pwrite64", 18, 68},
	{"pwritev", 296, 70}, {"pwritev2", 328, 287}, {"read", 0, 63}, {"readlink", 89, -1}, {"readlinkat", 267, 78},
	{"readv", 19, 65}, {"reboot", 169, 142}, {"recvfrom", 45, 207}, {"recvmmsg", 299, 243}, {"recvmsg", 47, 212},
	{"rename", 82, -1}, {"renameat", 264, 38}, {"renameat2", 316, 276}, {"request_key", 249, 218},
	{"restart_syscall", 219, 128}, {"rmdir", 84, -1}, {"rseq", 334, 293}, {"rt_sigaction", 13, 134},
	{"rt_sigpending", 127, 136}, {"rt_sigprocmask", 14, 135}, {"rt_sigreturn", 15, 139}, {"rt_sigsuspend", 130, 133},
	{"rt_sigtimedwait", 128, 137}, {"sched_getaffinity", 204, 123}, {"sched_yield", 24, 124}, {"select", 23, -1},
	{"sendfile", 40, 71}, {"sendmmsg", 307, 269}, {"sendmsg", 46, 211}, {"sendto", 44, 206},
	{"set_robust_list", 273, 99}, {"set_tid_address", 218, 96}, {"setfsgid", 123, 152}, {"setfsuid", 122, 151},
	{"setgid", 106, 144}, {"setgroups", 116, 159}, {"setitimer", 38, 103}, {"setns", 308, 268}, {"setpgid", 109, 154},
	{"setpriority", 141, 140}, {"setregid", 114, 143}, {"setresgid", 119, 149}, {"setresuid", 117, 147},
	{"setreuid", 113, 145}, {"setsid", 112, 157}, {"setsockopt", 54, 208}, {"settimeofday", 164, 170},
	{"setuid", 105, 146}, {"shutdown", 48, 210}, {"sigaltstack", 131, 132}, {"socket", 41, 198},
	{"socketpair", 53, 199}, {"splice", 275, 76}, {"stat", 4, -1}, {"statfs", 137, 43}, {"statx", 332, 291},
	{"swapoff", 168, 225}, {"swapon", 167, 224}, {"symlink", 88, -1}, {"symlinkat", 266, 36}, {"sysinfo", 99, 179},
	{"tee", 276, 77}, {"tgkill", 234, 131}, {"time", 201, -1}, {"timer_create", 222, 107}, {"timer_delete", 226, 111},
	{"timer_getoverrun", 225, 109}, {"timer_gettime", 224, 108}, {"timer_settime", 223, 110}, {"times", 100, 153},
	{"truncate", 76, 45}, {"umask", 95, 166}, {"umount2", 166, 39}, {"uname", 63, 160}, {"unlink", 87, -1},
	{"unlinkat", 263, 35}, {"unshare", 272, 97}, {"userfaultfd", 323, 282}, {"utime", 132, -1},
	{"utimensat", 280, 88}, {"utimes", 235, -1}, {"vfork", 58, -1}, {"wait4", 61, 260}, {"waitid", 247, 95},
	{"write", 1, 64}, {"writev", 20, 66},
}

// known says whether there are numbers for an architecture.
func known(goarch string) bool { return goarch == "amd64" || goarch == "arm64" }

// numberOf returns the number of a call on an architecture, which has to be known.
func numberOf(goarch, name string) (number uint32, ok bool) {
	i, ok := slices.BinarySearchFunc(systemCalls[:], name, func(c systemCall, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return 0, false
	}
	n := systemCalls[i].amd64
	if goarch == "arm64" {
		n = systemCalls[i].arm64
	}
	return uint32(n), n >= 0
}
