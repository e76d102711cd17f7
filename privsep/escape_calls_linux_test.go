package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// raw is a system call as the kernel sees it, past what package syscall does for
// all threads or with arguments.
func raw(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// direct is an attempt of one system call.
func direct(number uintptr, args ...uintptr) attempt {
	return func(*testimony, []string) error { return raw(number, args...) }
}

// onProcess is an attempt on the process that is the first argument.
func onProcess(f func(pid int) error) attempt {
	return func(_ *testimony, args []string) error {
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return f(pid)
	}
}

// onName is an attempt on the name that is the first argument.
func onName(f func(name string) error) attempt {
	return func(_ *testimony, args []string) error { return f(args[0]) }
}

// openFor opens a file and closes it again.
func openFor(flags int) func(string) error {
	return func(name string) error {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// fromHeld opens a name from a directory that Setup has opened.
func fromHeld(w *testimony, args []string) error {
	raw, err := w.p.File("root").SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(dir uintptr) {
		var fd int
		if fd, err = unix.Openat(int(dir), args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	})
	return errors.Join(err, cerr)
}

// throughHeld makes the directory that Setup has opened the present one, and then
// opens a name.
func throughHeld(w *testimony, args []string) error {
	raw, err := w.p.File("root").SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(dir uintptr) { err = unix.Fchdir(int(dir)) }); cerr != nil || err != nil {
		return errors.Join(err, cerr)
	}
	return openFor(unix.O_RDONLY)(args[0])
}

// classic is the old way out of chroot: a second one below the present directory,
// and then up.
func classic(*testimony, []string) error {
	if err := unix.Mkdir("below", 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	if err := syscall.Chroot("below"); err != nil {
		return err
	}
	return unix.Chdir("../../../..")
}

// startIn starts this program, in new namespaces.
func startIn(flags uintptr) attempt {
	return func(*testimony, []string) error {
		pid, err := syscall.ForkExec(self, []string{"escaped"}, &syscall.ProcAttr{
			Env: []string{envMiddle + "=escaped"}, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Cloneflags: flags},
		})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		return err
	}
}

// escaped is what an attempt to start a program starts.
var _ = registerMiddle("escaped", func() int { return 0 })

// takeDescriptor takes the control channel of another process.
func takeDescriptor(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	got, err := unix.PidfdGetfd(fd, controlFD, 0)
	if err == nil {
		unix.Close(got)
	}
	return err
}

// readMemory reads a byte of another process, where this one, which is the same
// program, has its code.
func readMemory(pid int) error {
	var b [1]byte
	code := reflect.ValueOf(readMemory).Pointer()
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: code, Len: 1}}, 0)
	return err
}

// sendDirectory passes the directory that Setup has opened.
func sendDirectory(w *testimony, _ []string) error {
	return w.p.Parent().Send(context.Background(), reqTell, w.p.File("root"), nil)
}

// attachDirectory passes it past the library, over any of its sockets.
func attachDirectory(w *testimony, _ []string) error {
	root, err := w.p.File("root").SyscallConn()
	if err != nil {
		return err
	}
	err = errors.New("it has no socket")
	for _, d := range descriptors() {
		if !d.Socket {
			continue
		}
		cerr := root.Control(func(dir uintptr) {
			err = unix.Sendmsg(d.FD, fakeFrame(ctlLog, true, fakeRecord(64)), unix.UnixRights(int(dir)), nil, unix.MSG_DONTWAIT)
		})
		if err == nil || cerr != nil {
			return cerr
		}
	}
	return err
}

// sendToName sends a datagram to a named socket, over one that was never connected
// to it.
func sendToName(name string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	return unix.Sendmsg(pair[0], []byte("x"), nil, &unix.SockaddrUnix{Name: name}, 0)
}

// onPort is an attempt on a TCP port of this machine.
func onPort(family, protocol int, f func(fd int, to unix.Sockaddr) error) attempt {
	return onName(func(port string) error {
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if family == unix.AF_INET6 {
			return f(fd, &unix.SockaddrInet6{Port: n, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}})
		}
		return f(fd, &unix.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}})
	})
}

func openProc(file string, flags int) attempt {
	return onProcess(func(pid int) error {
		return openFor(flags)(filepath.Join("/proc", strconv.Itoa(pid), file))
	})
}

func newSocket(family, typ int) attempt {
	return direct(unix.SYS_SOCKET, uintptr(family), uintptr(typ))
}

// joinRoot sets the groups of this thread.
func joinRoot(*testimony, []string) error {
	var root uint32
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&root)), 0); errno != 0 {
		return errno
	}
	return nil
}

func capset(*testimony, []string) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := [2]unix.CapUserData{{Effective: 1<<32 - 1, Permitted: 1<<32 - 1}, {Effective: 0xff, Permitted: 0xff}}
	return unix.Capset(&head, &all[0])
}

// execMemory runs a program that has no name.
func execMemory(*testimony, []string) error {
	fd, err := unix.MemfdCreate("escaped", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var empty byte
	if _, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)), 0, 0, unix.AT_EMPTY_PATH, 0); errno != 0 {
		return errno
	}
	return nil
}

// mapCode makes memory that can be written and run.
func mapCode(*testimony, []string) error {
	m, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		err = unix.Munmap(m)
	}
	return err
}
