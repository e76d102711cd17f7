package unixmsg

import "golang.org/x/sys/unix"

// domain returns the address family of a socket; AF_UNSPEC if unknown.
func domain(fd int) int {
	d, err := sysSockopt(fd, unix.SO_DOMAIN)
	if err != nil {
		return unix.AF_UNSPEC
	}
	return d
}
