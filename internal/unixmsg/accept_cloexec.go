//go:build dragonfly || freebsd || (linux && !imsgfault)

package unixmsg

import "golang.org/x/sys/unix"

func accept(fd int) (int, error) {
	n, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	return n, err
}
