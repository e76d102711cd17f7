//go:build linux

package model_test

import (
	"os"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// createFile returns a new file, which is the caller's.
func (w *world) createFile() (*testutil.File, *os.File) {
	f, fd, err := w.files.Create()
	expect("pipe", err)
	return f, os.NewFile(uintptr(fd), "probe")
}

// checkFiles compares what is open with the model. At the end of a program
// nothing may be open.
func (w *world) checkFiles(end bool) {
	expect("poll", w.files.Check(0, func(f *testutil.File, closed bool) {
		switch {
		case f.Unsure && !closed && end:
			fail("file %d is still open", f.ID)
		case !f.Unsure && closed != (f.Refs == 0):
			fail("file %d: closed everywhere %v, the model says %d descriptors", f.ID, closed, f.Refs)
		}
	}))
}

// findFile returns the file that fd, which came from the library, is a copy of.
func (w *world) findFile(fd int) *testutil.File {
	f, err := w.files.Find(fd)
	expect("a file from the library", err)
	return f
}

// openTable returns which descriptors below 256 are open, with one system call.
func openTable() (open [256]bool) {
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

// inFlight returns how many bytes wait to be read from fd.
func inFlight(fd int) int {
	n, err := unix.IoctlGetUint32(fd, unix.TIOCINQ)
	if err != nil {
		fail("bytes in flight: %v", err)
	}
	return int(n)
}

// isFull reports whether the kernel would take no more bytes from fd.
func isFull(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		_, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return p[0].Revents&unix.POLLOUT == 0
		}
	}
}
