//go:build amd64 || arm64

package ptrace

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockets are those that tracees have used. A number of a descriptor says
// little, for it can be another one's at the next call; an inode names a socket
// as long as it exists.
type sockets struct {
	byInode map[uint64]*Socket
	sweepAt int // how many of them there may be
	old     map[uint64]bool
	diags   map[uint64]int // netlink sockets, by the inode of their network namespace; -1: none to be had
	buf     [4096]byte
}

// minSweep is how many sockets are kept at least.
const minSweep = 1024

func (s *sockets) init() {
	s.sweepAt = minSweep
	s.byInode, s.diags, s.old = map[uint64]*Socket{}, map[uint64]int{}, map[uint64]bool{}
}

func (s *sockets) close() {
	for _, fd := range s.diags {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// socket returns what a descriptor of a stopped thread is, or nil if it is no
// unix stream socket.
func (e *engine) socket(t *thread, fd int) *Socket {
	inode := e.inode(t.proc, fd)
	if inode == 0 {
		return nil
	}
	s := e.sockets.byInode[inode]
	if s == nil || s.stream && s.Peer == 0 {
		s = e.lookUp(t.proc, fd, inode, s)
	}
	if !s.stream {
		return nil
	}
	return s
}

// inode returns the number of the socket that a descriptor is, or 0.
func (e *engine) inode(p *Process, fd int) uint64 {
	var buf [64]byte
	n, err := unix.Readlinkat(p.fds, strconv.Itoa(fd), buf[:])
	if err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			e.warnOnce(p, warnFiles, "process %d: the descriptors of %s are hidden from other users than root, so nothing of it is shown: run as root", p.PID, p.Exe)
		}
		return 0
	}
	return socketInode(string(buf[:n]))
}

// note takes note of the sockets that a process has before it is traced.
func (s *sockets) note(pid int) {
	links, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, link := range links {
		text, _ := os.Readlink(link)
		if inode := socketInode(text); inode != 0 {
			s.old[inode] = true
		}
	}
}

// socketInode is the number in "socket:[NUMBER]", or 0.
func socketInode(link string) uint64 {
	number, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0
	}
	inode, _ := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	return inode
}

// lookUp asks the kernel about a socket. known is what is known already, or nil.
func (e *engine) lookUp(p *Process, fd int, inode uint64, known *Socket) *Socket {
	if s := known; s != nil {
		e.sockets.ask(s)
		return s
	}
	if len(e.sockets.byInode) >= e.sockets.sweepAt {
		e.sweep()
	}
	s := &Socket{Inode: inode, Begun: e.sockets.old[inode], diag: -1}
	e.sockets.byInode[inode] = s
	seen := withFD(p.PID, fd, func(fd int) {
		domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		typ, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if s.stream = domain == unix.AF_UNIX && typ == unix.SOCK_STREAM; !s.stream {
			return
		}
		if sa, err := unix.Getsockname(fd); err == nil {
			s.Path = addressOf(sa)
			s.Accepted = s.Path != ""
		}
		// The connecting end has no name of its own; its peer has.
		if sa, err := unix.Getpeername(fd); err == nil && s.Path == "" {
			s.Path = addressOf(sa)
		}
		// Not always that of a process that has it.
		if ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS); err == nil {
			s.diag = e.diag(p, "/proc/thread-self/fd/"+strconv.Itoa(ns))
			unix.Close(ns)
		}
	})
	if seen && !s.stream {
		return s
	}
	if s.diag < 0 {
		s.diag = e.diag(p, "/proc/"+strconv.Itoa(p.PID)+"/ns/net")
	}
	e.sockets.ask(s)
	return s
}

// sweep forgets the sockets that are no more.
func (e *engine) sweep() {
	s := &e.sockets
	for inode, socket := range s.byInode {
		if !socket.stream || socket.diag < 0 {
			delete(s.byInode, inode)
		} else if errors.Is(s.ask(socket), unix.ENOENT) {
			delete(s.byInode, inode)
			if e.cfg.Closed != nil {
				e.cfg.Closed(socket)
			}
		}
	}
	s.sweepAt = max(minSweep, 2*len(s.byInode))
}

// diag returns a netlink socket of the network namespace at path, or -1: its
// sockets cannot be looked up.
func (e *engine) diag(p *Process, path string) int {
	var theirs, ours unix.Stat_t
	if unix.Stat(path, &theirs) != nil {
		return -1
	}
	if fd, ok := e.sockets.diags[theirs.Ino]; ok {
		return fd
	}
	var fd int
	var err error
	if unix.Stat("/proc/thread-self/ns/net", &ours) == nil && ours.Ino == theirs.Ino {
		fd, err = diagSocket()
	} else {
		fd, err = diagSocketIn(path)
	}
	if err != nil {
		fd = -1
		e.warnOnce(p, warnNetns, "process %d: cannot look up which sockets belong together (%v): messages between traced processes are shown at both ends", p.PID, err)
	}
	e.sockets.diags[theirs.Ino] = fd
	return fd
}

func diagSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	return fd, os.NewSyscallError("socket", err)
}

// diagSocketIn makes one in another namespace. The calling thread is the
// tracing one, which does nothing else that depends on it.
func diagSocketIn(path string) (int, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return -1, err
	}
	defer home.Close()
	away, err := os.Open(path)
	if err != nil {
		return -1, err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return -1, os.NewSyscallError("setns", err)
	}
	defer unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
	return diagSocket()
}

// The kernel's struct unix_diag_req behind a netlink header, and what it answers.
type diagRequest struct {
	unix.NlMsghdr
	family, protocol uint8
	_                uint16
	states, ino      uint32
	show             uint32
	cookie           [2]uint32
}

const (
	showName, showPeer = 1, 4 // UDIAG_SHOW_NAME, UDIAG_SHOW_PEER
	diagName, diagPeer = 0, 2 // UNIX_DIAG_NAME, UNIX_DIAG_PEER
	sizeofDiag         = 16   // struct unix_diag_msg
)

// ask fills in what the kernel knows of a socket: ENOENT if there is none in
// its namespace.
func (s *sockets) ask(to *Socket) error {
	if to.diag < 0 {
		return unix.ENOTSUP
	}
	r := diagRequest{family: unix.AF_UNIX, states: ^uint32(0), ino: uint32(to.Inode), show: showName | showPeer, cookie: [2]uint32{^uint32(0), ^uint32(0)}}
	r.NlMsghdr = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(r)), Type: unix.SOCK_DIAG_BY_FAMILY, Flags: unix.NLM_F_REQUEST}
	if err := unix.Sendto(to.diag, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	n, _, err := unix.Recvfrom(to.diag, s.buf[:], 0)
	if err != nil {
		return err
	}
	p, ne := s.buf[:n], binary.NativeEndian
	if len(p) < unix.SizeofNlMsghdr+4 {
		return unix.EPROTO
	}
	typ := ne.Uint16(p[4:])
	p = p[unix.SizeofNlMsghdr:]
	if typ == unix.NLMSG_ERROR {
		return unix.Errno(-int32(ne.Uint32(p)))
	}
	if typ != unix.SOCK_DIAG_BY_FAMILY || len(p) < sizeofDiag {
		return unix.EPROTO
	}
	to.stream = p[1] == unix.SOCK_STREAM
	for p = p[sizeofDiag:]; len(p) >= unix.SizeofRtAttr; {
		size := int(ne.Uint16(p))
		if size < unix.SizeofRtAttr || size > len(p) {
			break
		}
		value := p[unix.SizeofRtAttr:size]
		switch ne.Uint16(p[2:]) {
		case diagName:
			to.Path, to.Accepted = pathOf(value), true
		case diagPeer:
			if len(value) >= 4 && ne.Uint32(value) != 0 {
				to.Peer = uint64(ne.Uint32(value))
				s.pair(to)
			}
		}
		p = p[min((size+3)&^3, len(p)):]
	}
	return nil
}

// pair tells the other end who its peer is: when it is asked about, this one
// may be closed.
func (s *sockets) pair(a *Socket) {
	b := s.byInode[a.Peer]
	if b == nil {
		b = &Socket{Inode: a.Peer, Path: a.Path, Accepted: a.Path != "" && !a.Accepted, Begun: a.Begun, stream: true, diag: a.diag}
		s.byInode[a.Peer] = b
	}
	b.Peer = a.Inode
}

// pathOf returns the name in a socket's address.
func pathOf(name []byte) string {
	if len(name) > 0 && name[0] == 0 {
		return "@" + string(name[1:])
	}
	return strings.TrimRight(string(name), "\x00")
}

// withFD calls f with a copy of a descriptor of another process, if that can
// be had, and reports whether.
func withFD(pid, fd int, f func(fd int)) bool {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	copied, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return false
	}
	defer unix.Close(copied)
	f(copied)
	return true
}
