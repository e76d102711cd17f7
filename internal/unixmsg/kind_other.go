//go:build darwin || dragonfly || freebsd || illumos || netbsd || openbsd || solaris

package unixmsg

import "golang.org/x/sys/unix"

// domain returns the address family of a socket; AF_UNSPEC if unknown.
// Compiled, not run.
func domain(fd int) int {
	addr, _ := unix.Getsockname(fd)
	switch addr.(type) {
	case *unix.SockaddrUnix:
		return unix.AF_UNIX
	case *unix.SockaddrInet4:
		return unix.AF_INET
	case *unix.SockaddrInet6:
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}
