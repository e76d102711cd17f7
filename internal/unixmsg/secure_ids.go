//go:build illumos || solaris

package unixmsg

import "os"

// Secure reports whether this program runs with more rights than who started
// it, as far as its ids tell.
func Secure() bool { return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() }
