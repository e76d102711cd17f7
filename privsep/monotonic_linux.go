package privsep

import "golang.org/x/sys/unix"

// monotonic is the time by which a service manager orders reloads, in microseconds.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano() / 1000
}
