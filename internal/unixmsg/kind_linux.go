package unixmsg

import "golang.org/x/sys/unix"

// domain returns the address family of a socket; AF_UNSPEC if unknown.
func domain(fd int) int {
	d, _ := sysSockopt(fd, unix.SO_DOMAIN) // with an error 0, AF_UNSPEC
	return d
}
