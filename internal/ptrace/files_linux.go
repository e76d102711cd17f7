//go:build amd64 || arm64

package ptrace

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"example.org/imsg/internal/capture"
	"golang.org/x/sys/unix"
)

// open opens the directory of the process's descriptors, in which they can be
// looked up faster than by whole paths.
func (p *Process) open() {
	p.fds, _ = unix.Open("/proc/"+strconv.Itoa(p.PID)+"/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func (p *Process) close() {
	if p.fds >= 0 {
		unix.Close(p.fds)
		p.fds = -1
	}
}

// file describes a descriptor of a process while one of its threads is stopped.
func (p *Process) file(fd int) File {
	f := File{FD: fd}
	name := strconv.Itoa(fd)
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(p.fds, name, buf[:])
	if err != nil {
		return f
	}
	f.Path = string(buf[:n])
	var st unix.Stat_t
	if unix.Fstatat(p.fds, name, &st, 0) == nil {
		f.Kind = capture.KindOf(st.Mode)
	}
	if strings.HasPrefix(f.Path, "anon_inode:") {
		f.Kind = "anon"
	}
	if inode := socketInode(f.Path); inode != 0 {
		withFD(p.PID, fd, func(fd int) { f.Path = describeSocket(fd, f.Path) })
	}
	info, _ := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/fdinfo/" + name)
	for line := range strings.Lines(string(info)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, _ := strconv.ParseUint(strings.TrimSpace(octal), 8, 64)
			f.Flags = flagNames(int(flags))
		}
	}
	return f
}

// flagNames writes the flags of open(2) that say what can be done with a file.
func flagNames(flags int) string {
	names := []string{"rdonly", "wronly", "rdwr", "rdwr"}[flags&unix.O_ACCMODE : flags&unix.O_ACCMODE+1]
	for _, f := range []struct {
		bits int
		name string
	}{
		{unix.O_APPEND, "append"}, {unix.O_NONBLOCK, "nonblock"}, {unix.O_SYNC, "sync"}, {unix.O_DIRECT, "direct"},
		{unix.O_PATH, "path"}, {unix.O_TMPFILE &^ unix.O_DIRECTORY, "tmpfile"}, {unix.O_CLOEXEC, "cloexec"},
	} {
		if flags&f.bits == f.bits {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, "|")
}

// describeSocket says what a socket is that is known as link in /proc.
func describeSocket(fd int, link string) string {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return link
	}
	typ, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	listening, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	text := link
	switch domain {
	case unix.AF_UNIX:
		text += " unix"
	case unix.AF_INET, unix.AF_INET6:
		text += map[int]string{unix.SOCK_STREAM: " tcp", unix.SOCK_DGRAM: " udp", unix.SOCK_RAW: " raw"}[typ]
	default:
		return fmt.Sprintf("%s family %d", text, domain)
	}
	if sa, err := unix.Getsockname(fd); err == nil {
		if a := addressOf(sa); a != "" {
			text += " " + a
		}
	}
	if sa, err := unix.Getpeername(fd); err == nil {
		if a := addressOf(sa); a != "" {
			text += " -> " + a
		}
	}
	if listening != 0 {
		text += " listening"
	}
	return text
}

// addressOf returns an address as text, or "".
func addressOf(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrUnix:
		if sa.Name != "@" { // which is none
			return sa.Name // x/sys/unix writes an abstract one with @
		}
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
	}
	return ""
}
