package privsep

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/internal/unixmsg"
)

// takeListeners adopts the descriptors of sd_listen_fds(3), if they are meant
// for this process, and forgets the variables.
func takeListeners() map[string][]*os.File {
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID"))
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(v)
	}
	if pid != os.Getpid() || unixmsg.Secure() {
		return nil
	}
	files := make(map[string][]*os.File)
	for i := range min(n, 1<<10) {
		fd := 3 + i
		if _, err := unix.FcntlInt(uintptr(fd), syscall.F_GETFD, 0); err != nil {
			break
		}
		syscall.CloseOnExec(fd)
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		files[name] = append(files[name], os.NewFile(uintptr(fd), name))
	}
	return files
}

func closeListeners(listeners map[string][]*os.File) {
	for _, list := range listeners {
		for _, f := range list {
			f.Close()
		}
	}
}

// A notifier tells the service manager how the daemon does: sd_notify(3).
type notifier struct{ conn *net.UnixConn }

// watchdogInterval is how often the service manager is to be told that all is well,
// 0 for never. It forgets the variables.
func watchdogInterval() time.Duration {
	usec, _ := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	os.Unsetenv("WATCHDOG_USEC")
	os.Unsetenv("WATCHDOG_PID")
	if usec <= 0 || usec > math.MaxInt64/1000 || pid != "" && pid != strconv.Itoa(os.Getpid()) || unixmsg.Secure() {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// newNotifier forgets the variable, which is not for children.
func newNotifier() (notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	os.Unsetenv("NOTIFY_SOCKET")
	if name == "" || unixmsg.Secure() {
		return notifier{}, nil
	}
	if name[0] != '/' && name[0] != '@' {
		return notifier{}, fmt.Errorf("NOTIFY_SOCKET is %s: %w", name, errors.ErrUnsupported)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return notifier{}, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return notifier{conn}, nil
}

// send is lost if nobody listens: a daemon does not end for that, nor wait.
func (n notifier) send(state string) {
	if n.conn != nil {
		n.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n.conn.Write([]byte(state))
	}
}

// store has a descriptor kept.
func (n *notifier) store(name string, f *os.File) error {
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		return fmt.Errorf("privsep: FDNAME %q: %w", name, os.ErrInvalid)
	}
	if n.conn == nil {
		return nil
	}
	fd, err := unixmsg.DupFile(f)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return err
	}
	n.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	var serr error
	err = raw.Write(func(s uintptr) bool { // WriteMsgUnix refuses a connected socket
		serr = unix.Sendmsg(int(s), []byte("FDSTORE=1\nFDNAME="+name), unix.UnixRights(fd), nil, unix.MSG_DONTWAIT)
		return !errors.Is(serr, unix.EAGAIN)
	})
	return errors.Join(err, os.NewSyscallError("sendmsg", serr))
}

// reloading is followed by ready. The service manager compares the time with its
// own.
func (n notifier) reloading() { n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic())) }

func (n notifier) close() {
	if n.conn != nil {
		n.conn.Close()
	}
}
