// Package sandbox takes rights away from the present process, in the words of
// OpenBSD's pledge(2) and unveil(2), with what each system has:
//
//	             promises                            paths
//	OpenBSD      pledge                              unveil
//	Linux        seccomp filter (amd64, arm64)       Landlock, by go-landlock
//	FreeBSD      Capsicum, only with "stdio recvfd sendfd" and no path
//	others       nothing                             nothing
//
//	status, err := sandbox.Enter(sandbox.Policy{
//		Promises: "stdio rpath",
//		Paths:    []sandbox.Path{{Name: "/etc/ssl", Perm: "r"}},
//		Require:  sandbox.Native(), // fail rather than run with less
//	})
//
// Enter holds for every thread of the process, for those that come later and
// for the programs it starts, and cannot be undone. It needs no root and works
// with and without cgo. What the system cannot do is not an error unless
// Policy.Require names it; [Status] says what is in force. Only the Linux part
// has been run by the tests; those for OpenBSD and FreeBSD were compiled.
//
// # Promises on Linux
//
// OpenBSD gives each word its own meaning; see pledge(2) there. Linux:
//
//	stdio      open descriptors, memory, time, threads, signals to itself, socketpair
//	rpath      open for reading, stat, readlink, chdir
//	wpath      open for writing what exists, truncate
//	cpath      create, remove, rename and link; with wpath also by open
//	dpath      named pipes
//	tmppath    read, write, create and remove below /tmp
//	inet       TCP, MPTCP, UDP and ping sockets over IPv4 and IPv6, their usual options
//	mcast      multicast options, with inet
//	unix       sockets in the file system and abstract ones
//	dns        TCP and UDP sockets, to port 53 where Landlock can tell; the resolver's files in /etc
//	getpw      /etc/passwd, /etc/group, /etc/nsswitch.conf
//	fattr      chmod, change of times          chown   change of owner
//	flock      locks on files                  id      change of ids and of limits
//	proc       start processes, signal others, sessions and groups, priority, limits
//	exec       execute programs; they inherit the sandbox, so this implies prot_exec.
//	           Which ones, paths with x say; a loader or interpreter among them runs
//	           whatever it can read
//	prot_exec  memory that is executable
//	tty        terminal commands except input on the user's behalf; /dev/tty with rpath, wpath
//	settime    set clocks
//	ps         read /proc                      vminfo  read /proc/meminfo and a few others
//	route, wroute  netlink sockets for routes; reading and changing are the same to a filter
//	sendfd, recvfd, pf, bpf, unveil, error, disklabel  nothing
//
// A filter cannot see control messages, so descriptors can be sent and received
// under "stdio"; package imsg has a switch for that. Nor can it see the address
// in sendmsg: a datagram socket that was received can send anywhere until
// Landlock knows UDP (ABI 10).
//
// A forbidden call fails with EPERM (a forbidden path or port with EACCES). Calls
// that nobody makes by mistake, such as ptrace, bpf, io_uring_setup and mount, end
// the process with SIGSYS.
//
// # Ports on Linux
//
// With Ports, "inet" opens no UDP, MPTCP and ping sockets, and of TCP what the
// ports say; that takes Landlock's ABI 4 (Linux 6.7). Before, the port is a gap,
// which Status names and Require refuses; no port at all needs no Landlock.
// OpenBSD has no such rule, and says so in the same way.
//
// # Paths on Linux
//
// Landlock forbids to open, create, remove, truncate, execute and bind what is
// not below a path, also through directories that were open before; files that
// were open stay usable. It does not hide: stat, readlink and chdir work
// everywhere, and so do chmod and chown if "fattr" and "chown" are promised. A
// path has to exist and stands for the file or directory found there at the time of
// Enter: if a file is going to be replaced, give its directory. Without "inet", "unix"
// and "proc" Landlock also refuses TCP, abstract sockets and signals to others, which
// the filter does already.
//
// Before Landlock ABI 8 a cgo program needs /proc for Landlock, and keeps the right
// to list its own threads there. A process that changes its root to one without
// /proc does that within [EnterWith].
//
// # Before Enter
//
// Load what a package would open later: the time zones (time.LoadLocation, and
// time.Now().String() for the local one), certificates, the user database,
// os.Executable. A net.Conn made of a received socket needs "inet" or "unix";
// a channel of package imsg needs "stdio" only.
//
// # Errors
//
// [Policy.Check] finds what is wrong with a policy on every system, and Enter
// asks it first. An error of Enter that names a mechanism as required says that
// it is missing, and why; nothing was restricted then. After any other error of
// Enter the process may be restricted in part, and should exit.
//
// # Concurrency
//
// Enter is for one goroutine, once. A Policy and a Status are plain values.
package sandbox
