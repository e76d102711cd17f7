//go:build linux

package model_test

import (
	"fmt"
	"os"
	"slices"

	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

// A modelFile is the write end of a pipe that is passed around. Its inode
// number tells which one it is, and the read end, which stays here, whether
// any write end is open anywhere.
type modelFile struct {
	wireref.File
	r   int
	ino uint64
}

// modelFiles are those files of one program that are not known to be closed.
type modelFiles struct {
	live  []*modelFile
	poll  []unix.PollFd // of live, in the same order
	made  int
	known map[*wireref.File]*modelFile
}

// create returns a new file, which is the caller's.
func (fs *modelFiles) create() (*modelFile, *os.File) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		modelFail("pipe: %v", err)
	}
	ino, err := modelInode(p[1])
	if err != nil {
		modelFail("%v", err)
	}
	f := &modelFile{wireref.File{ID: fs.made, Refs: 1}, p[0], ino}
	fs.made++
	fs.live = append(fs.live, f)
	fs.poll = append(fs.poll, unix.PollFd{Fd: int32(f.r)})
	if fs.known == nil {
		fs.known = make(map[*wireref.File]*modelFile)
	}
	fs.known[&f.File] = f
	return f, os.NewFile(uintptr(p[1]), "probe")
}

// check compares what is open with the model, and forgets what is closed. At
// the end of a program nothing may be open.
func (fs *modelFiles) check(end bool) {
	if len(fs.live) == 0 {
		return
	}
	for {
		_, err := unix.Poll(fs.poll, 0)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			modelFail("poll: %v", err)
		}
	}
	for i := len(fs.live) - 1; i >= 0; i-- {
		f, closed := fs.live[i], fs.poll[i].Revents&unix.POLLHUP != 0
		switch {
		case f.Unsure && !closed && end:
			modelFail("file %d is still open", f.ID)
		case !f.Unsure && closed != (f.Refs == 0):
			modelFail("file %d: closed everywhere %v, the model says %d descriptors", f.ID, closed, f.Refs)
		}
		if closed {
			fs.forget(i)
		}
	}
}

func (fs *modelFiles) forget(i int) {
	unix.Close(fs.live[i].r)
	delete(fs.known, &fs.live[i].File)
	fs.live = slices.Delete(fs.live, i, i+1)
	fs.poll = slices.Delete(fs.poll, i, i+1)
}

// find returns the live file that fd is a write end of.
func (fs *modelFiles) find(fd int) *modelFile {
	ino, err := modelInode(fd)
	if err != nil {
		modelFail("a file from the library: %v", err)
	}
	for _, f := range fs.live {
		if f.ino == ino {
			return f
		}
	}
	modelFail("descriptor %d is none of the files", fd)
	return nil
}

// close gives up what is left after a failure.
func (fs *modelFiles) close() {
	for len(fs.live) > 0 {
		fs.forget(len(fs.live) - 1)
	}
}

func modelInode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat %d: %w", fd, err)
	}
	return uint64(st.Ino), nil
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
