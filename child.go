package imsg

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/unixmsg"
)

// StartChild starts cmd with one end of a new channel as its descriptor fd,
// and returns the other end, which is the caller's to close: that is how the
// child learns that its parent is gone. A Go child calls NewConn(fd, nil); C
// programs mostly want 3, and some 0. The child's end is blocking, as C
// programs expect it.
//
// cmd is started, and the caller must wait for it, if and only if the error is
// nil. A descriptor that cmd uses already is ibuf.ErrInvalid. cfg may be nil.
func StartChild(cmd *exec.Cmd, fd int, cfg *Config) (*Conn, error) {
	name := fmt.Sprintf("start %s", cmd.Path)
	pfd, cfd, err := unixmsg.Pair(false)
	if err != nil {
		return nil, opError(name, 0, err)
	}
	f := os.NewFile(uintptr(cfd), "imsg") // a Conn would make it non-blocking
	defer f.Close()
	parent, err := NewConn(pfd, cfg)
	if err != nil {
		syscall.Close(pfd)
		return nil, err
	}
	old := cmd.ExtraFiles
	if err = attach(cmd, fd, f); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cmd.ExtraFiles = old
		parent.Close()
		return nil, opError(name, 0, err)
	}
	return parent, nil
}

// attach makes f the descriptor fd of cmd.
func attach(cmd *exec.Cmd, fd int, f *os.File) error {
	used := fmt.Errorf("descriptor %d is in use: %w", fd, ibuf.ErrInvalid)
	switch {
	case fd < 0:
		return fmt.Errorf("descriptor %d: %w", fd, ibuf.ErrInvalid)
	case fd == 0 && cmd.Stdin == nil:
		cmd.Stdin = f
	case fd == 1 && cmd.Stdout == nil:
		cmd.Stdout = f
	case fd == 2 && cmd.Stderr == nil:
		cmd.Stderr = f
	case fd < 3:
		return used
	default:
		files := make([]*os.File, max(len(cmd.ExtraFiles), fd-2)) // nil: the child has none
		copy(files, cmd.ExtraFiles)
		if files[fd-3] != nil {
			return used
		}
		files[fd-3] = f
		cmd.ExtraFiles = files
	}
	return nil
}
