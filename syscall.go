package imsg

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"example.org/imsg/internal/stream"
	"example.org/imsg/internal/unixmsg"
)

// maxGather is how many pieces one system call sends at most. A queue has one
// piece for many messages, so more would not help.
const maxGather = 64

// receive makes one system call and returns how many of the parts have come.
// Without file passing the kernel closes files that come unasked.
func receive(fd int, p []byte, parts []unixmsg.Part, files bool, flags unixmsg.Flags) (int, error) {
	if files {
		return unixmsg.RecvMany(fd, p, parts, flags)
	}
	n, err := unixmsg.Read(fd, p, flags)
	if err != nil {
		return 0, err
	}
	parts[0] = unixmsg.Part{N: int32(n), File: -1}
	return 1, nil
}

// transmit makes one system call. The file is held open during the call.
func transmit(fd int, bufs [][]byte, file *os.File, flags unixmsg.Flags) (n int, err error) {
	if file == nil {
		return unixmsg.Send(fd, bufs, -1, flags)
	}
	cerr := control(file, func(f uintptr) { n, err = unixmsg.Send(fd, bufs, int(f), flags) })
	if cerr != nil {
		return 0, cerr
	}
	return n, err
}

// An outgoing is what one system call is to carry.
type outgoing struct {
	bufs  [][]byte
	file  *os.File   // goes with the first byte
	batch *fileBatch // if not nil, instead of bufs
	err   error      // why it must wait
}

// transmit makes the system call. Files are held open during the call.
func (w *outgoing) transmit(fd int, flags unixmsg.Flags) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.batch == nil {
		return transmit(fd, w.bufs, w.file, flags)
	}
	n, err := w.batch.transmit(fd, flags)
	fileBatches.Put(w.batch)
	w.batch = nil
	return n, err
}

// A fileBatch is several messages with files on the way into one system call.
type fileBatch struct {
	groups [unixmsg.MaxGroups]stream.Group
	parts  [unixmsg.MaxGroups]unixmsg.Group
	n      int // groups
	held   int // of these, those whose file is held open
	fd     int
	flags  unixmsg.Flags
	hold   func(fd uintptr) // b.holds
	sent   int
	err    error
}

var fileBatches = sync.Pool{New: func() any {
	b := new(fileBatch)
	b.hold = b.holds
	return b
}}

// transmit makes one system call, with all files held open during the call.
func (b *fileBatch) transmit(fd int, flags unixmsg.Flags) (n int, err error) {
	b.fd, b.flags = fd, flags
	b.held, b.sent, b.err = 0, 0, nil
	b.next()
	clear(b.groups[:b.n])
	clear(b.parts[:b.n])
	return b.sent, b.err
}

// next holds the next group's file, or makes the call when it has all of them,
// or all up to one that is closed.
func (b *fileBatch) next() {
	for b.held < b.n && b.groups[b.held].File == nil {
		b.parts[b.held] = unixmsg.Group{Bufs: b.groups[b.held].Bufs, File: -1}
		b.held++
	}
	if i := b.held; i < b.n && control(b.groups[i].File, b.hold) == nil {
		return
	}
	if b.held == 0 {
		b.err = os.ErrClosed
		return
	}
	b.sent, b.err = unixmsg.SendMany(b.fd, b.parts[:b.held], b.flags)
}

func (b *fileBatch) holds(fd uintptr) {
	b.parts[b.held] = unixmsg.Group{Bufs: b.groups[b.held].Bufs, File: int(fd)}
	b.held++
	b.next()
}

// control calls f with file's descriptor, which stays open meanwhile and keeps
// its blocking mode. The error is os.ErrClosed.
func control(file *os.File, f func(fd uintptr)) error {
	rc, err := file.SyscallConn()
	if err == nil {
		err = rc.Control(f)
	}
	if err != nil {
		return os.ErrClosed // the only reason, under more than one name
	}
	return nil
}

// What a failed sendmsg(2) or write(2) on a stream socket says, and what
// becomes of it. Whatever the errno, nothing was written.
//
//	EINTR                     internal/unixmsg tries again
//	EAGAIN                    the socket is full: wait until poll(2) says that it is not
//	ENOBUFS, ENOMEM           no memory in the kernel for now: wait a while
//	ETOOMANYREFS              too many files under way, or sockets within sockets: wait until the peer has read
//	EMFILE                    the same on OpenBSD
//	EBADF                     with a file: its descriptor is not open; otherwise the socket's: final
//	EINVAL, EOPNOTSUPP        with a file: a kind that cannot be passed (io_uring, kqueue); otherwise not a stream socket: final
//	EPERM, EACCES             with a file: the peer refuses files, or a policy does; otherwise a policy that does not go away: final
//	EPIPE, ECONNRESET         the peer is gone: final
//	ENOTCONN, ENOTSOCK, others  not a connected socket, or a fault of ours: final
//
// And a failed recvmsg(2) or recvmmsg(2), by which nothing was received:
//
//	EINTR                     internal/unixmsg tries again
//	EAGAIN                    nothing is there: wait until poll(2) says that something is
//	ECONNRESET                the peer has closed with messages of ours unread; what it sent before is received first: final
//	ENOBUFS, ENOMEM           a system may have dropped a file with its memory, and does not say so: final
//	EMSGSIZE                  the BSDs with a full descriptor table: internal/unixmsg reads the bytes without the file
//	EBADF, ENOTCONN, others   not a connected socket, or a fault of ours: final

// isWouldBlock reports whether err is how a socket says "not now"; poll(2) tells when.
func isWouldBlock(err error) bool { return err == syscall.EAGAIN }

// isTemporary reports whether err goes away by itself, without a sign from the
// socket.
func isTemporary(err error) bool {
	return isAny(err, syscall.ENOBUFS, syscall.ENOMEM, syscall.ETOOMANYREFS, syscall.EMFILE)
}

// isFileError reports whether err, of a write to fd with a file, concerns the
// file only.
func isFileError(fd int, err error) bool {
	switch {
	case err == nil:
		return false
	case err == os.ErrClosed:
		return true
	case isAny(err, syscall.EBADF):
		return unixmsg.IsOpen(fd)
	}
	return isAny(err, syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EPERM, syscall.EACCES)
}

func isAny(err error, errnos ...syscall.Errno) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Cred is what the kernel knows about the process at the other end.
type Cred struct {
	PID      int // 0 where the system does not tell
	UID, GID uint32
}

func peerCred(fd int) (Cred, error) {
	pid, uid, gid, err := unixmsg.PeerCred(fd)
	if err != nil {
		return Cred{}, opError("peer credentials", 0, err)
	}
	return Cred{pid, uid, gid}, nil
}
