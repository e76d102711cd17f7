//go:build darwin || illumos || openbsd

package unixmsg

import "golang.org/x/sys/unix"

// writevCall is the call that writev makes.
const writevCall = "writev"

// writev writes bufs, which must not be empty. Compiled, not run.
func writev(fd int, bufs [][]byte) (int, error) {
	return unix.Writev(fd, bufs)
}
