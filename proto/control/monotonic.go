//go:build !netbsd && (!solaris || illumos)

package control

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic returns the reading of the clock that daemons count intervals with
// (CLOCK_MONOTONIC); 0 if there is none.
func Monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
