// Package unixmsg is the system calls of a message library on AF_UNIX stream
// sockets: bytes, one file at a time, and what the kernel knows of the peer.
// There is one small file per capability, named after it.
//
// # Ownership
//
// Every descriptor is an int. The descriptors given to a function are borrowed
// for the time of the call: nothing here closes them or changes their blocking
// mode. The descriptors that a function returns (Recv, RecvMany, Accept, Pair,
// Dup) belong to the caller, are close-on-exec, and have no finalizer. Buffers
// are borrowed too and are not kept after the call.
//
// # Errors
//
// An error is an *os.SyscallError that names the call, with two exceptions.
// Would-block is the bare syscall.EAGAIN, because it is the normal end of every
// read and write loop and must not allocate. And the sentinels
// os.ErrDeadlineExceeded (Poll) and errors.ErrUnsupported (SetPassRights) come as
// they are. A call that waits is made again after EINTR; the others do not fail
// with it.
//
// # Limits
//
// A transfer may be short: Read, Recv, RecvMany and Send return what one system
// call did. On Linux they do not allocate, with at most 16 buffers for Send. At
// most 64 buffers are looked at in one call.
//
// # Concurrency
//
// There is no state: every function may be called from many goroutines, and the
// kernel orders what they do. Two readers of one stream still tear its messages.
// A call that waits, on a blocking descriptor and without DontWait, holds an
// operating system thread.
//
// # Platforms
//
//	close-on-exec on receipt   MSG_CMSG_CLOEXEC: linux, the BSDs; fork lock: darwin, illumos, solaris
//	many buffers in one Send   all, but illumos and solaris with a file one
//	many parts in RecvMany     recvmmsg: linux; elsewhere, or where a filter forbids it, one
//	file truncated or refused  reported (lost): all but illumos and solaris, which just have no file
//	messages of the kernel's   dropped, where it adds any (SO_PASSCRED and others: linux)
//	credentials of the peer    all; without the process id on freebsd and dragonfly
//	refusing files             linux 6.16
//	what a socket is           SO_DOMAIN: linux; elsewhere by its name
//
// Only the Linux files have been run. The others are compiled and vetted; their
// comments say so.
//
// On linux/386 and linux/s390x sendmsg, sendto and so on are system calls of
// their own since Linux 4.3, which is needed there.
package unixmsg
