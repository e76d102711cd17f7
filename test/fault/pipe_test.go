//go:build imsgfault && linux

package fault_test

import (
	"os"

	"golang.org/x/sys/unix"
)

// A faultPipe follows one file through the library: the write end of a pipe,
// of which the read end tells whether any copy is open anywhere.
type faultPipe struct {
	r     int
	w     *os.File // kept, so that no finalizer closes what was forgotten
	inode uint64
}

func newFaultPipe(w *faultWorld) *faultPipe {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		w.fatalf("%v", err)
	}
	p := &faultPipe{r: fds[0], inode: faultInode(w, fds[1])}
	p.w = os.NewFile(uintptr(fds[1]), "pipe")
	return p
}

func faultInode(w *faultWorld, fd int) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		w.fatalf("fstat of %d: %v", fd, err)
	}
	return st.Ino
}

// open reports whether a copy is open.
func (p *faultPipe) open(w *faultWorld) bool {
	fds := []unix.PollFd{{Fd: int32(p.r), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 0)
		if err == nil {
			return fds[0].Revents&unix.POLLHUP == 0
		}
		if err != unix.EINTR {
			w.fatalf("poll: %v", err)
		}
	}
}

// closeOurs closes the copy that is the test's, which must be open.
func (p *faultPipe) closeOurs(w *faultWorld) {
	if err := p.w.Close(); err != nil {
		w.fatalf("a file that was ours is not open any more: %v", err)
	}
}

// end fails the run unless every copy is closed.
func (p *faultPipe) end(w *faultWorld) {
	if p.open(w) {
		w.fatalf("a copy of a file is left open")
	}
	unix.Close(p.r)
	p.r = -1
}

// isIt fails the run unless fd is a copy, and nothing is closed that should not be.
func (p *faultPipe) isIt(w *faultWorld, fd int) {
	if faultInode(w, fd) != p.inode {
		w.fatalf("descriptor %d is another message's file", fd)
	}
	if !p.open(w) {
		w.fatalf("the pipe says that nobody has the file that we have")
	}
}
