package imsg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/unixmsg"
)

// Dial connects to the socket that a program listens on at path: the name of a
// file or, on Linux, an abstract name with "@" in front. cfg may be nil.
//
// While as many clients as the listener allows wait to be accepted, Linux
// answers EAGAIN, and Dial waits until there is room or ctx ends. It tries again
// after pauses of 1 to 32 ms: the system gives no sign that poll(2) would hear,
// and a connect(2) that waits would hold a thread which ctx could not wake.
// Other systems refuse the connection (ECONNREFUSED), as if nobody listened.
//
// The error is an *OpError with the system call's error, ctx.Err(), or EINVAL
// for a path that is empty or longer than an address can be.
func Dial(ctx context.Context, path string, cfg *Config) (*Conn, error) {
	nc, err := connect(ctx, path)
	if err != nil {
		return nil, opError("dial", 0, fmt.Errorf("%s: %w", path, err))
	}
	defer nc.Close()
	fd, err := unixmsg.DupFile(nc)
	if err != nil {
		return nil, opError("dial", 0, err)
	}
	refuseFiles(fd, cfg)
	return ownConn(fd, cfg)
}

func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var d net.Dialer
		nc, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return nc.(*net.UnixConn), nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			if e := (*net.OpError)(nil); errors.As(err, &e) {
				err = e.Err // without the name of the operation and the path
			}
			return nil, err
		}
		if err := sleepCtx(ctx, pause); err != nil {
			return nil, fmt.Errorf("too many clients wait to be accepted: %w", err)
		}
	}
}

// sleepCtx waits for d, or until ctx ends, whose error it returns.
func sleepCtx(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkPath tells what the system would call "invalid argument", or would take
// for another name.
func checkPath(path string) error {
	const limit = len(syscall.RawSockaddrUnix{}.Path) - 1 // a NUL follows
	switch {
	case path == "":
		return fmt.Errorf("empty path: %w", syscall.EINVAL)
	case len(path) > limit:
		return fmt.Errorf("path of %d bytes, limit %d: %w", len(path), limit, syscall.EINVAL)
	case !isAbstract(path) && strings.Contains(path, "\x00"):
		return fmt.Errorf("NUL byte in path: %w", syscall.EINVAL)
	}
	return nil
}

// isAbstract reports whether path is not the name of a file.
func isAbstract(path string) bool {
	return runtime.GOOS == "linux" && path != "" && (path[0] == '@' || path[0] == 0)
}

// refuseFiles asks the kernel to fail a sender who passes files where nobody
// asked for them. Without it they are closed on arrival, so errors do not
// matter.
func refuseFiles(fd int, cfg *Config) {
	if cfg == nil || !cfg.AllowFDPass {
		unixmsg.SetPassRights(fd, false)
	}
}

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
	in, out, errs, extra := cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles
	if err = attach(cmd, fd, f); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = in, out, errs, extra
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
