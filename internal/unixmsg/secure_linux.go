package unixmsg

import "golang.org/x/sys/unix"

const atSecure = 23 // AT_SECURE of getauxval(3)

// Secure reports whether this program runs with more rights than who started
// it: set-user-ID, set-group-ID, file capabilities or a security module. Where
// the kernel does not tell it is true.
func Secure() bool {
	auxv, err := unix.Auxv()
	if err != nil {
		return true
	}
	for _, e := range auxv {
		if e[0] == atSecure {
			return e[1] != 0
		}
	}
	return true
}
