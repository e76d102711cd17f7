//go:build amd64 || arm64

package ptrace

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// shimName is what makes this program the shim, as its argument 0. The others
// are the number of its channel, the path and the arguments of the command.
const shimName = "imsg-ptrace-shim"

// The command is executed by a copy of this program, the shim, after the tracer
// has got hold of it: what a process does before cannot be seen, and a process
// that was stopped for it would stay so if the tracer died. This is an init
// function because they run on the process's first thread, which alone is
// traced.
func init() {
	if len(os.Args) > 3 && os.Args[0] == shimName {
		shim(os.Args[1], os.Args[2], os.Args[3:])
	}
}

// shim says that it runs, waits for a byte and executes the command. If it
// cannot, the tracer gets the error's number.
func shim(channel, path string, args []string) {
	var fd int
	if _, err := fmt.Sscan(channel, &fd); err != nil {
		os.Exit(1)
	}
	unix.CloseOnExec(fd)
	if _, err := unix.Write(fd, []byte{0}); err != nil {
		os.Exit(1)
	}
	if _, ok := readByte(fd); !ok {
		os.Exit(1) // the tracer has gone
	}
	err := syscall.Exec(path, args, os.Environ())
	var errno syscall.Errno
	errors.As(err, &errno)
	unix.Write(fd, []byte{byte(errno)})
	os.Exit(1)
}

func readByte(fd int) (byte, bool) {
	var b [1]byte
	for {
		n, err := unix.Read(fd, b[:])
		if !errors.Is(err, unix.EINTR) {
			return b[0], n == 1
		}
	}
}

// start starts the shim, gets hold of it and lets it go on.
func (e *engine) start(c *Command) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "channel of the shim")
	defer theirs.Close()
	files := append(append([]*os.File(nil), c.Files...), theirs)
	args := append([]string{shimName, fmt.Sprint(len(c.Files)), c.Path}, c.Args...)
	p, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files})
	if err != nil {
		unix.Close(ours)
		return err
	}
	pid := p.Pid
	if err := p.Release(); err != nil {
		unix.Close(ours)
		return err
	}
	e.channel = ours
	theirs.Close()
	// From here on it does not execute anything but the command.
	if _, ok := readByte(ours); !ok {
		err = fmt.Errorf("%s: cannot run this program a second time", c.Path)
	} else if errno := ptrace(unix.PTRACE_SEIZE, pid, 0, options); errno != 0 {
		err = refused(pid, errno)
	}
	if err != nil {
		unix.Close(ours) // which ends it
		e.channel = -1
		for {
			if _, waitErr := unix.Wait4(pid, nil, unix.WALL, nil); !errors.Is(waitErr, unix.EINTR) {
				return err
			}
		}
	}
	e.first, e.shim = pid, pid
	if _, err := unix.Write(ours, []byte{0}); err != nil {
		return os.NewSyscallError("write", err)
	}
	return nil
}

// notExecuted is why the command did not start, or nil.
func (e *engine) notExecuted(c *Command) error {
	if e.shim == 0 || e.stop.Load() {
		return nil
	}
	errno, ok := readByte(e.channel)
	if !ok {
		return fmt.Errorf("%s: was ended before it began: %v", c.Path, e.status)
	}
	return &os.PathError{Op: "exec", Path: c.Path, Err: syscall.Errno(errno)}
}
