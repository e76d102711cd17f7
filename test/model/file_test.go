//go:build linux

package model_test

import (
	"os"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// createFile returns a new file, which is the caller's.
func (w *modelWorld) createFile() (*testutil.File, *os.File) {
	f, fd, err := w.files.Create()
	modelExpect("pipe", err)
	return f, os.NewFile(uintptr(fd), "probe")
}

// checkFiles compares what is open with the model. At the end of a program
// nothing may be open.
func (w *modelWorld) checkFiles(end bool) {
	modelExpect("poll", w.files.Check(0, func(f *testutil.File, closed bool) {
		switch {
		case f.Unsure && !closed && end:
			modelFail("file %d is still open", f.ID)
		case !f.Unsure && closed != (f.Refs == 0):
			modelFail("file %d: closed everywhere %v, the model says %d descriptors", f.ID, closed, f.Refs)
		}
	}))
}

// findFile returns the file that fd, which came from the library, is a copy of.
func (w *modelWorld) findFile(fd int) *testutil.File {
	f, err := w.files.Find(fd)
	modelExpect("a file from the library", err)
	return f
}

// modelTable returns which descriptors below 256 are open, with one system call.
func modelTable() (open [256]bool) {
	var fds [256]unix.PollFd
	for i := range fds {
		fds[i].Fd = int32(i)
	}
	for {
		if _, err := unix.Poll(fds[:], 0); err != unix.EINTR {
			break
		}
	}
	for i := range fds {
		open[i] = fds[i].Revents&unix.POLLNVAL == 0
	}
	return open
}

// modelInFlight returns how many bytes wait to be read from fd.
func modelInFlight(fd int) int {
	n, err := unix.IoctlGetUint32(fd, unix.TIOCINQ)
	if err != nil {
		modelFail("bytes in flight: %v", err)
	}
	return int(n)
}

// modelFull reports whether the kernel would take no more bytes from fd.
func modelFull(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		_, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return p[0].Revents&unix.POLLOUT == 0
		}
	}
}
