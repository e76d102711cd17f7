//go:build amd64 || arm64

package ptrace

import (
	"encoding/binary"
	"errors"
	"os"
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
	diags   map[uint64]int // netlink sockets, by the inode of their network namespace; -1: none to be had
	buf     [4096]byte
}

// maxSockets are kept. They are looked up again when there are more.
const maxSockets = 4096

func (s *sockets) init() {
	s.byInode, s.diags = map[uint64]*Socket{}, map[uint64]int{}
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
			e.warnOnce(p, warnFiles, "process %d: the descriptors of %s cannot be seen (it has given up rights, and this is not root): nothing of it is shown", p.PID, p.Exe)
		}
		return 0
	}
	return socketInode(string(buf[:n]))
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
	s := known
	if s == nil {
		if len(e.sockets.byInode) >= maxSockets {
			clear(e.sockets.byInode)
		}
		s = &Socket{Inode: inode}
		e.sockets.byInode[inode] = s
	}
	diag := e.diag(p)
	err := error(unix.ENOTSUP)
	if diag >= 0 {
		err = e.sockets.ask(diag, s)
	}
	if known != nil {
		return s
	}
	if err == nil && s.Path != "" || errors.Is(err, unix.ENOENT) { // ENOENT: of another family
		return s
	}
	// The connecting end has no name of its own; its peer has.
	withFD(p.PID, fd, func(fd int) {
		domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		typ, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		s.stream = domain == unix.AF_UNIX && typ == unix.SOCK_STREAM
		if sa, err := unix.Getsockname(fd); err == nil && s.Path == "" {
			s.Path = addressOf(sa)
			s.Accepted = s.Path != ""
		}
		if sa, err := unix.Getpeername(fd); err == nil && s.Path == "" {
			s.Path = addressOf(sa)
		}
	})
	return s
}

// diag returns a netlink socket of the network namespace in which p lives, or
// -1: sockets of others cannot be looked up.
func (e *engine) diag(p *Process) int {
	path := "/proc/" + strconv.Itoa(p.PID) + "/ns/net"
	var theirs, ours unix.Stat_t
	if unix.Stat(path, &theirs) != nil {
		return -1
	}
	if fd, ok := e.sockets.diags[theirs.Ino]; ok {
		return fd
	}
	fd, err := -1, error(nil)
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

// ask fills in what the kernel knows of s.
func (s *sockets) ask(diag int, to *Socket) error {
	r := diagRequest{family: unix.AF_UNIX, states: ^uint32(0), ino: uint32(to.Inode), show: showName | showPeer, cookie: [2]uint32{^uint32(0), ^uint32(0)}}
	r.NlMsghdr = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(r)), Type: unix.SOCK_DIAG_BY_FAMILY, Flags: unix.NLM_F_REQUEST}
	if err := unix.Sendto(diag, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	n, _, err := unix.Recvfrom(diag, s.buf[:], 0)
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
		b = &Socket{Inode: a.Peer, Path: a.Path, Accepted: a.Path != "" && !a.Accepted, stream: true}
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
// be had.
func withFD(pid, fd int, f func(fd int)) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	copied, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return
	}
	defer unix.Close(copied)
	f(copied)
}
