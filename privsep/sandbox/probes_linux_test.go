package sandbox

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A probe prepares something in the present directory while that is still
// possible, and returns what the sandbox has to decide about.
type probe func() (func() error, error)

// now is a probe without preparation.
func now(f func() error) probe {
	return func() (func() error, error) { return f, nil }
}

// raw is a probe of one system call, as the kernel sees it.
func raw(number uintptr, args ...uintptr) probe {
	return now(func() error { return rawCall(number, args...) })
}

func rawCall(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// onFile opens a file first.
func onFile(f func(*os.File) error) probe {
	return func() (func() error, error) {
		file, err := os.OpenFile("file", os.O_RDWR|os.O_CREATE, 0o600)
		return func() error { return f(file) }, err
	}
}

// onPipe gives the number of a pipe, for commands that only a device knows.
func ioctlOnPipe(command uintptr) probe {
	return func() (func() error, error) {
		var p [2]int
		err := unix.Pipe2(p[:], unix.O_CLOEXEC)
		return func() error { return rawCall(unix.SYS_IOCTL, uintptr(p[0]), command, 0) }, err
	}
}

func socket(family, typ, protocol int) probe {
	return now(func() error {
		fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

func readFile(name string) probe {
	return func() (func() error, error) {
		return func() error { _, err := os.ReadFile(name); return err }, os.WriteFile("file", []byte("text"), 0o600)
	}
}

func sendPacketTo(address string) probe {
	return now(func() error {
		c, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
}

// probes are run by the child "probe", each in a process of its own.
func probes() map[string]probe {
	m := map[string]probe{
		"read": readFile("file"),
		"write": onFile(func(*os.File) error {
			f, err := os.OpenFile("file", os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		}),
		"truncate by open": onFile(func(*os.File) error {
			fd, err := unix.Open("file", unix.O_RDONLY|unix.O_TRUNC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}),
		"create":      now(func() error { return os.WriteFile("new", nil, 0o600) }),
		"mkdir":       now(func() error { return os.Mkdir("dir", 0o700) }),
		"mkfifo":      now(func() error { return unix.Mkfifo("fifo", 0o600) }),
		"mknod":       now(func() error { return unix.Mknod("null", unix.S_IFCHR|0o600, 0x103) }),
		"tmp":         now(makeTemp),
		"listen":      now(func() error { return closeAfter(net.Listen("tcp", "127.0.0.1:0")) }),
		"listen unix": now(func() error { return closeAfter(net.Listen("unix", "socket")) }),
		"udp to 53":   sendPacketTo("127.0.0.1:53"),
		"multicast":   socketOption(unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP),
		"tcp ulp":     socketOption(unix.IPPROTO_TCP, unix.TCP_ULP),
		"chmod":       onFile(func(*os.File) error { return os.Chmod("file", 0o644) }),
		"chown":       onFile(func(*os.File) error { return os.Chown("file", os.Getuid(), os.Getgid()) }),
		"flock":       onFile(func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }),
		"lock": onFile(func(f *os.File) error {
			return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}),
		"own":         onFile(func(f *os.File) error { _, err := unix.FcntlInt(f.Fd(), unix.F_SETOWN, 1); return err }),
		"hosts":       readFile("/etc/hosts"),
		"passwd":      readFile("/etc/passwd"),
		"meminfo":     readFile("/proc/meminfo"),
		"own stat":    readFile("/proc/self/stat"),
		"kill parent": now(func() error { return unix.Kill(os.Getppid(), 0) }),
		"kill self":   now(func() error { return unix.Kill(os.Getpid(), 0) }),
		"run": now(func() error {
			out, err := exec.Command("/bin/true").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}),
		"exec":          now(func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) }),
		"map code":      now(func() error { return mapPage(unix.PROT_READ | unix.PROT_EXEC) }),
		"turn to code":  now(turnToCode),
		"set clock":     now(func() error { return rawCall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_MONOTONIC, 0) }),
		"setresuid":     now(func() error { return rawCall(unix.SYS_SETRESUID, ^uintptr(0), ^uintptr(0), ^uintptr(0)) }),
		"netlink route": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
		"netlink audit": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
		"raw socket":    socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"packet socket": socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0),
		"inet socket":   socket(unix.AF_INET, unix.SOCK_STREAM, 0),
		"unix socket":   socket(unix.AF_UNIX, unix.SOCK_STREAM, 0),
		"sctp socket":   socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP),
		"window size":   ioctlOnPipe(unix.TIOCGWINSZ),
		"type input":    ioctlOnPipe(unix.TIOCSTI),
		"new namespace": now(func() error { return startIn(unix.CLONE_NEWUSER) }),
		"fork":          now(func() error { return startIn(0) }),
		"stat":          now(func() error { _, err := os.Stat("/"); return err }),
		"limit":         now(func() error { return unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}, nil) }),
		"openat2":       raw(unix.SYS_OPENAT2),
		"clone3":        raw(unix.SYS_CLONE3),
		"x32":           raw(0x40000000 + unix.SYS_GETPID),
		"enter again":   now(func() error { _, err := Enter(Policy{Promises: "stdio", Require: Seccomp}); return err }),
		// A child that is the parent's, not this process's.
		"brother":           raw(unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD)),
		"memory file":       now(func() error { _, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC); return err }),
		"run memory":        runMemory(0),
		"run sealed memory": runMemory(unix.MFD_NOEXEC_SEAL),
		"newer calls":       now(newerCalls),
		"none":              now(func() error { return nil }),
	}
	for name, number := range fatalNumbers() {
		m[name] = raw(number, ^uintptr(0), ^uintptr(0), ^uintptr(0))
	}
	return m
}

// newerCalls makes those that no promise allows: of Linux 6.5 and later, also those
// that there are not yet (see doc/platforms.md).
func newerCalls() error {
	for number := uintptr(unix.SYS_CACHESTAT); number < 600; number++ {
		if number == unix.SYS_FCHMODAT2 {
			continue
		}
		if err := rawCall(number, ^uintptr(0), ^uintptr(0), ^uintptr(0)); err != syscall.EPERM {
			return fmt.Errorf("call %d: %w", number, err)
		}
	}
	return syscall.EPERM
}

// fatalNumbers are the calls that nobody makes by mistake.
func fatalNumbers() map[string]uintptr {
	m := map[string]uintptr{}
	number := numbersFor(goarch)
	for name := range strings.FieldsSeq(fatalCalls) {
		if n, ok := number[name]; ok {
			m[name] = uintptr(n)
		}
	}
	return m
}

// startIn starts a process in new namespaces.
func startIn(flags uintptr) error {
	cmd := exec.Command("/bin/true")
	cmd.Env, cmd.Stdin = []string{}, os.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return cmd.Run()
}

func closeAfter(l net.Listener, err error) error {
	if err == nil {
		l.Close()
	}
	return err
}

func makeTemp() error {
	f, err := os.CreateTemp("/tmp", "sandbox-test-")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

func socketOption(level, option int) probe {
	return func() (func() error, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return func() error { return unix.SetsockoptInt(fd, level, option, 1) }, err
	}
}

func mapPage(prot int) error {
	_, err := unix.Mmap(-1, 0, os.Getpagesize(), prot, unix.MAP_ANON|unix.MAP_PRIVATE)
	return err
}

// runMemory executes a program that it has written to memory.
func runMemory(flags int) probe {
	return func() (func() error, error) {
		program, err := os.ReadFile("/bin/true")
		return func() error {
			fd, err := unix.MemfdCreate("x", flags)
			if err == unix.EINVAL && flags != 0 { // before Linux 6.3
				fd, err = unix.MemfdCreate("x", 0)
			}
			if err != nil {
				return err
			}
			if _, err := unix.Write(fd, program); err != nil {
				return err
			}
			path, argv := []byte{0}, []*byte{new(byte), nil}
			return rawCall(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&argv[0])),
				uintptr(unsafe.Pointer(&argv[1])), unix.AT_EMPTY_PATH)
		}, err
	}
}

func turnToCode() error {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
}

// probeChild enters the policy and writes the errno of the probe named by the
// first argument, or "ok".
func probeChild(p Policy) error {
	run, err := probes()[os.Args[1]]()
	if err != nil {
		return err
	}
	if _, err := Enter(p); err != nil {
		return err
	}
	fmt.Println(describe(run()))
	return nil
}

// describe is the errno in err.
func describe(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case asErrno(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
