package imsg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg/internal/unixmsg"
)

// A ListenConfig says how a socket comes into being. The zero ListenConfig is
// that of Listen.
type ListenConfig struct {
	// Mode, if not 0, is the permission bits of the socket's file: who may
	// write to it may connect. Owner, if not nil, is its owner. Both are set
	// before the first client can connect. With 0 the mode is what umask(2)
	// leaves. An abstract name has neither, so they are errors there.
	//
	// They are set by name: the directory must be one that no user can write to
	// who is not trusted.
	Mode  fs.FileMode
	Owner *Owner

	// RemoveStale removes a socket at the path that is left of a process which
	// has ended without closing it. One that is open in some process, whether
	// it listens or not, stays, and so does every other kind of file: the error
	// is EADDRINUSE then. Two starts at a time do not remove each other's
	// socket: meanwhile they hold a lock on a file with the path and ".lock".
	RemoveStale bool
}

// An Owner is the user and group of a socket's file; -1 leaves one as it is.
type Owner struct{ UID, GID int }

// Listen creates a socket at path, the name of a file or, on Linux, an abstract
// name with "@" in front, and listens on it. Close removes the file. cfg, which
// may be nil, is every accepted Conn's. ctx ends the wait for another start that
// holds the lock. The error is an *OpError with the system call's error (such as
// EADDRINUSE), ctx.Err(), or EINVAL for a path that is empty or longer than an
// address can be; nothing is left at path then.
//
// Everybody on the machine (in the same network namespace) can connect to an
// abstract name: ask Conn.PeerCred who it is.
func (lc *ListenConfig) Listen(ctx context.Context, path string, cfg *Config) (*Listener, error) {
	fd, id, err := lc.open(ctx, path)
	if err != nil {
		return nil, opError("listen", 0, fmt.Errorf("%s: %w", path, err))
	}
	l := newListener(fd, path, id, cfg)
	l.unlink.Store(true)
	return l, nil
}

// Listen is ListenConfig.Listen with the zero ListenConfig.
func Listen(path string, cfg *Config) (*Listener, error) {
	return new(ListenConfig).Listen(context.Background(), path, cfg)
}

// open returns a socket that listens, and the identity of its file.
func (lc *ListenConfig) open(ctx context.Context, path string) (fd int, id fileID, err error) {
	if err := checkPath(path); err != nil {
		return -1, id, err
	}
	if isAbstract(path) {
		if lc.Mode != 0 || lc.Owner != nil {
			return -1, id, fmt.Errorf("abstract name with a mode or owner: %w", syscall.EINVAL)
		}
	} else if lc.RemoveStale {
		unlock, err := lockPath(ctx, path+".lock")
		if err != nil {
			return -1, id, err
		}
		defer unlock()
		if err := removeStale(path); err != nil {
			return -1, id, err
		}
	}
	if fd, err = unixmsg.Bind(path); err != nil {
		return -1, id, err
	}
	id = identify(path)
	if lc.Owner != nil {
		err = os.Lchown(path, lc.Owner.UID, lc.Owner.GID)
	}
	if err == nil && lc.Mode != 0 {
		err = os.Chmod(path, lc.Mode.Perm())
	}
	if err == nil {
		err = unixmsg.Listen(fd)
	}
	if err != nil {
		id.remove()
		syscall.Close(fd)
		return -1, id, err
	}
	return fd, id, nil
}

// removeStale removes the socket at path if no process has it open. The lock is
// held: between the question and the removal nobody else does the same.
func removeStale(path string) error {
	id := identify(path)
	if id.info == nil {
		return nil // bind(2) will tell
	}
	if bound, err := unixmsg.Bound(path); bound || err != nil {
		return err
	}
	return id.remove()
}

// lockPath creates the file name, locks it, and removes it when unlock is
// called. Whoever has locked a file that is not there any more tries again.
func lockPath(ctx context.Context, name string) (unlock func(), err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		control(f, func(fd uintptr) { err = unixmsg.LockFile(int(fd)) })
		if err == nil {
			have, _ := f.Stat()
			there, _ := os.Lstat(name)
			if os.SameFile(have, there) {
				return func() { os.Remove(name); f.Close() }, nil
			}
		}
		f.Close()
		if err != nil && !isWouldBlock(err) {
			return nil, err
		}
		if err := sleepCtx(ctx, pause); err != nil {
			return nil, fmt.Errorf("%s is locked: %w", name, err)
		}
	}
}

// A fileID is the identity of a socket's file. As long as the socket is open,
// no other file can have the same.
type fileID struct {
	path string // absolute
	info fs.FileInfo
}

// identify returns the identity of the socket's file at path; without info if
// there is none.
func identify(path string) fileID {
	if path == "" || isAbstract(path) {
		return fileID{}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fileID{}
	}
	info, err := os.Lstat(abs)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return fileID{}
	}
	return fileID{abs, info}
}

// remove removes the file, if it is still the same.
func (id fileID) remove() error {
	if id.info == nil {
		return nil
	}
	now, err := os.Lstat(id.path)
	if err != nil || !os.SameFile(now, id.info) {
		return nil
	}
	return os.Remove(id.path)
}

// A Listener accepts connections. Its methods may be called by many goroutines
// at a time.
type Listener struct {
	file      *os.File
	raw       syscall.RawConn
	addr      net.Addr
	id        fileID
	unlink    atomic.Bool // Close removes the file
	cfg       Config
	accepting chan struct{} // a semaphore of one: the holder waits in accept(2)
	deadline  deadline
	closed    atomic.Bool
	done      chan struct{} // closed by Close
}

// NewListener makes a Listener of l. It owns l from here on if the error is nil,
// and Close does not remove the socket's file: call SetUnlinkOnClose(true) for
// that. A listener that is no stream socket of the unix domain is an error that
// says what it is.
func NewListener(l *net.UnixListener, cfg *Config) (*Listener, error) {
	n, err := fileListener(l, cfg)
	if err == nil {
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	return n, err
}

// FileListener makes a Listener of a duplicate of f, a socket that listens and
// was inherited, for example from a process that called Listener.File. f stays
// the caller's. Close does not remove the socket's file: call
// SetUnlinkOnClose(true) for that.
func FileListener(f *os.File, cfg *Config) (*Listener, error) { return fileListener(f, cfg) }

func fileListener(f syscall.Conn, cfg *Config) (*Listener, error) {
	fd, err := unixmsg.DupFile(f)
	if err != nil {
		return nil, opError("listen", 0, err)
	}
	var path string
	if err = unixmsg.CheckStream(fd); err == nil {
		path, err = unixmsg.Name(fd)
	}
	if err == nil {
		err = os.NewSyscallError("fcntl", syscall.SetNonblock(fd, true))
	}
	if err != nil {
		syscall.Close(fd)
		return nil, opError("listen", 0, err)
	}
	return newListener(fd, path, identify(path), cfg), nil
}

func newListener(fd int, path string, id fileID, cfg *Config) *Listener {
	refuseFiles(fd, cfg) // connections inherit it
	l := &Listener{file: os.NewFile(uintptr(fd), "imsg"), addr: &net.UnixAddr{Name: path, Net: "unix"}, id: id,
		cfg: cfg.withDefaults(), accepting: make(chan struct{}, 1), done: make(chan struct{})}
	l.deadline.set = l.file.SetReadDeadline
	l.raw, _ = l.file.SyscallConn() // which fails for no file that is open
	return l
}

// Accept waits for the next connection. The error is ctx.Err(), net.ErrClosed
// after Close, or accept(2)'s, wrapped in *OpError.
//
// A client that finds this process's descriptor table full (EMFILE) is not
// turned away, and the next Accept fails at once, too: a loop that just goes on
// uses a whole processor. Wait between two tries, or let Serve do it.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, opError("accept", 0, err)
	}
	select {
	case l.accepting <- struct{}{}:
		defer func() { <-l.accepting }()
	case <-ctx.Done():
		return nil, opError("accept", 0, ctx.Err())
	}
	token := l.deadline.arm()
	defer l.deadline.disarm()
	defer context.AfterFunc(ctx, func() { l.deadline.interrupt(token) })()
	var fd int
	var err error
	rerr := l.raw.Read(func(s uintptr) bool {
		fd, err = unixmsg.Accept(int(s))
		return !isWouldBlock(err)
	})
	if rerr != nil {
		if err = ctx.Err(); err == nil {
			err = net.ErrClosed // no other deadline is ever set
		}
	}
	if err != nil {
		return nil, opError("accept", 0, err)
	}
	return ownConn(fd, &l.cfg)
}

// Serve accepts connections and calls handle for each, on a goroutine of its
// own, until ctx ends or the Listener is closed; then it waits for the handlers
// and returns Accept's error. Handlers get ctx, so its end is theirs too, whereas
// Close lets them finish. Each Conn is closed when its handler returns. A Peer
// of package peer is served by a handler that makes one of the Conn and calls its
// Serve. When Accept fails for want of descriptors or memory
// Serve waits, until a handler has returned or for 5 ms to 1 s, and goes on.
func (l *Listener) Serve(ctx context.Context, handle func(context.Context, *Conn)) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	returned := make(chan struct{}, 1)
	const shortest = 5 * time.Millisecond
	for pause := shortest; ; {
		c, err := l.Accept(ctx)
		switch {
		case err == nil:
			pause = shortest
			handlers.Go(func() {
				defer func() {
					c.Close()
					select {
					case returned <- struct{}{}:
					default:
					}
				}()
				handle(ctx, c)
			})
		case isTemporary(err) || errors.Is(err, syscall.ENFILE):
			l.backOff(ctx, returned, pause)
			pause = min(2*pause, time.Second)
		default:
			return err
		}
	}
}

// backOff waits for d, or until something has changed.
func (l *Listener) backOff(ctx context.Context, returned <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-returned:
	case <-l.done:
	case <-ctx.Done():
	}
}

// Addr returns the socket's address.
func (l *Listener) Addr() net.Addr { return l.addr }

// File returns a duplicate of the Listener's socket, which the caller must
// close: to be inherited by a process that makes a Listener of it with
// FileListener. Both accept then, so that no client is turned away while one
// takes over from the other. Call SetUnlinkOnClose(false) before Close, or the
// file that clients connect to is removed.
func (l *Listener) File() (*os.File, error) { return dupSocket(l.file) }

// SetUnlinkOnClose says whether Close removes the socket's file: at first it
// does so only if Listen has made it.
func (l *Listener) SetUnlinkOnClose(unlink bool) { l.unlink.Store(unlink) }

// Close stops listening and removes the socket's file, if that is asked for and
// it is still this socket's and not a successor's. Everyone who waits in Accept
// is woken with net.ErrClosed. Closing twice is net.ErrClosed.
func (l *Listener) Close() error {
	if l.closed.Swap(true) {
		return opError("close", 0, net.ErrClosed)
	}
	if l.unlink.Load() {
		l.id.remove() // before it is closed: nobody takes it for stale meanwhile
	}
	close(l.done)
	return opError("close", 0, l.file.Close())
}
