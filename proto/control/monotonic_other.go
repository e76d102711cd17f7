//go:build netbsd || (solaris && !illumos)

package control

import "time"

// Monotonic returns 0: golang.org/x/sys does not know the clock.
func Monotonic() time.Duration { return 0 }
