//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package unixmsg

import "golang.org/x/sys/unix"

// Secure reports whether this program runs with more rights than who started
// it.
func Secure() bool { return unix.Issetugid() }
