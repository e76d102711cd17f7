package privsep

import (
	"errors"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// eachFile calls f with every descriptor above 2.
func eachFile(f func(fd int)) error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		for fd := 3; fd < int(min(limit.Cur, 1<<20)); fd++ {
			f(fd)
		}
		return nil
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
				f(fd)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// closeInherited closes what a child has and was not given: descriptors of its
// parent's that were not close-on-exec. What the Go runtime and package os have
// opened meanwhile is.
func closeInherited(bound bool) error {
	return eachFile(func(fd int) {
		if fd == controlFD || bound && fd == rightsFD {
			return
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	})
}
