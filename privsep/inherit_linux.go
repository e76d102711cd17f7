package privsep

import (
	"math"

	"golang.org/x/sys/unix"
)

// keepFiles makes every descriptor above 2 close-on-exec: what the parent has
// inherited is not for the children. (To close them here would take the Go
// runtime's own.)
func keepFiles() error {
	return unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}
