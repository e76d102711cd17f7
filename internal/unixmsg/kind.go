//go:build unix && !aix

package unixmsg

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CheckStream reports what fd is if it is no stream socket of the unix domain:
// ENOTSOCK, EAFNOSUPPORT or EPROTOTYPE, or EBADF if it is not open. The error is
// nil as well if the system does not tell, as in a sandbox without
// getsockopt(2).
func CheckStream(fd int) error {
	typ, err := sysSockopt(fd, unix.SO_TYPE)
	if err == unix.EBADF {
		return fail("getsockopt", err)
	}
	if what := notSocket(fd); what != "" {
		return kindError(fd, what, unix.ENOTSOCK)
	}
	if err != nil {
		return nil
	}
	family := "unix"
	switch d := domain(fd); d {
	case unix.AF_UNIX, unix.AF_UNSPEC:
	case unix.AF_INET:
		family = "IPv4"
	case unix.AF_INET6:
		family = "IPv6"
	default:
		family = fmt.Sprintf("domain %d", d)
	}
	if family != "unix" {
		return kindError(fd, family+" "+typeName(typ)+" socket", unix.EAFNOSUPPORT)
	}
	if typ != unix.SOCK_STREAM {
		return kindError(fd, family+" "+typeName(typ)+" socket", unix.EPROTOTYPE)
	}
	return nil
}

func kindError(fd int, what string, errno unix.Errno) error {
	return fmt.Errorf("descriptor %d is no unix stream socket but: %s: %w", fd, what, os.NewSyscallError("getsockopt", errno))
}

func typeName(typ int) string {
	switch typ {
	case unix.SOCK_STREAM:
		return "stream"
	case unix.SOCK_DGRAM:
		return "datagram"
	case unix.SOCK_SEQPACKET:
		return "seqpacket"
	}
	return fmt.Sprintf("type %d", typ)
}

// notSocket says what fd is, if it is certain that it is no socket.
func notSocket(fd int) string {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case 0:
		return "anonymous file" // epoll, eventfd and the like
	}
	return ""
}
