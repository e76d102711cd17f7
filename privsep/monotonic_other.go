//go:build !linux

package privsep

// monotonic is for systemd, which is not on these systems.
func monotonic() int64 { return 0 }
