package imsg

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// A Conn is one side of a channel for programs with goroutines: Send and
// Receive wait, without holding a thread, until they are done, their context
// ends, a deadline passes or the Conn is closed. All methods may be called by
// many goroutines at a time, and the two directions never wait for each other.
// A Conn keeps no goroutine of its own. (A context that is not the standard
// library's makes context.AfterFunc start one while a call waits.)
type Conn struct {
	settings
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
	r      receiver
	w      sender
}

// NewConn makes one side of a channel of the descriptor fd, a stream socket of
// the unix domain, which it owns from here on if the error is nil: Close
// closes it. It is made non-blocking and close-on-exec, no other option is
// touched; a holder of a duplicate may make it blocking again. cfg may be nil.
//
// The error is an *OpError; for a descriptor of another kind it says what that
// is and matches ENOTSOCK, EAFNOSUPPORT or EPROTOTYPE, and nothing was changed.
func NewConn(fd int, cfg *Config) (*Conn, error) {
	if err := unixmsg.CheckStream(fd); err != nil {
		return nil, opError("open", 0, err)
	}
	return newConn(fd, cfg)
}

// newConn is NewConn for what is a stream socket for sure.
func newConn(fd int, cfg *Config) (*Conn, error) {
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, opError("open", 0, os.NewSyscallError("fcntl", err))
	}
	c := &Conn{file: os.NewFile(uintptr(fd), "imsg")}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, opError("open", 0, err)
	}
	c.raw = raw
	c.settings.init(fd, cfg)
	c.flags = unixmsg.DontWait
	c.r.init(c)
	c.w.init(c, fd)
	return c, nil
}

// FileConn is NewConn for a duplicate of f's descriptor, as net.FileConn: f
// stays the caller's and can be closed. The duplicate shares f's blocking
// mode, which becomes non-blocking. A closed f is os.ErrClosed, and a file of
// another kind is an error as with NewConn.
func FileConn(f *os.File, cfg *Config) (*Conn, error) {
	fd, err := unixmsg.DupFile(f)
	if err == nil {
		if err = unixmsg.CheckStream(fd); err != nil {
			syscall.Close(fd)
		}
	}
	if err != nil {
		return nil, opError("open", 0, err)
	}
	return ownConn(fd, cfg)
}

// ownConn is newConn, but fd is closed if there is an error.
func ownConn(fd int, cfg *Config) (*Conn, error) {
	c, err := newConn(fd, cfg)
	if err != nil {
		syscall.Close(fd)
	}
	return c, err
}

// Pair returns the two sides of a new channel, made with socketpair(2). To
// give one side to another process, pass its File and close it.
func Pair(cfg *Config) (a, b *Conn, err error) {
	fa, fb, err := unixmsg.Pair(true)
	if err != nil {
		return nil, nil, opError("pair", 0, err)
	}
	if a, err = newConn(fa, cfg); err != nil {
		syscall.Close(fa)
		syscall.Close(fb)
		return nil, nil, err
	}
	if b, err = newConn(fb, cfg); err != nil {
		a.Close()
		syscall.Close(fb)
		return nil, nil, err
	}
	return a, b, nil
}

// File returns a duplicate of the Conn's socket, which the caller must close:
// to be inherited by a child process, for example through exec.Cmd.ExtraFiles.
// Both share their blocking mode, which is non-blocking: right for a child that
// calls NewConn, and not for most C programs, for which StartChild is. Close the
// Conn when its File has been handed over.
func (c *Conn) File() (*os.File, error) { return dupSocket(c.file) }

// dupSocket returns a duplicate of the socket of a Conn or Listener.
func dupSocket(f *os.File) (*os.File, error) {
	fd, err := unixmsg.DupFile(f)
	if err == os.ErrClosed {
		err = net.ErrClosed
	}
	if err != nil {
		return nil, opError("file", 0, err)
	}
	return os.NewFile(uintptr(fd), "imsg"), nil
}

// Close closes the socket, discards what is queued to be sent and what was not
// received, and wakes everyone who waits with net.ErrClosed. Messages that were
// received stay valid. Closing twice is net.ErrClosed.
//
// If the other end has sent what was not read, the kernel tells it ECONNRESET
// instead of the end of the stream, on Linux also for its next read, and some
// daemons end on that. Whoever gives up early should say so with CloseWrite,
// Receive until io.EOF, and then Close.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return opError("close", 0, net.ErrClosed)
	}
	c.w.release()
	err := c.file.Close() // which waits for calls on their way
	c.r.close()
	c.w.close()
	return opError("close", 0, err)
}

// CloseWrite ends the sending direction: the other end receives what was sent,
// and then io.EOF. The receiving direction goes on. What is queued is
// discarded, so Flush before; Sends that wait, and later ones, return
// net.ErrClosed. It acts on the socket, whoever else has a duplicate.
func (c *Conn) CloseWrite() error {
	w := &c.w
	w.mu.Lock()
	err := w.out.err
	if err == nil {
		w.fail(opError("send", 0, net.ErrClosed))
		w.fd = -1
	}
	w.unlock()
	if err != nil {
		return opError("close write", 0, err)
	}
	c.file.SetWriteDeadline(time.Unix(1, 0)) // wakes who waits for the socket
	if cerr := c.raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); cerr != nil {
		return opError("close write", 0, net.ErrClosed)
	}
	return opError("close write", 0, os.NewSyscallError("shutdown", err))
}

// SyscallConn returns access to the socket, for options that this package does
// not know. Whoever reads or writes through it breaks the stream. It fails with
// net.ErrClosed after Close.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, opError("raw", 0, net.ErrClosed)
	}
	return c.raw, nil
}

// LocalAddr returns the socket's own address, a *net.UnixAddr: its path on the
// side that listened, "@" and a name for an abstract one, and an empty name
// for a pair, a client, and after Close.
func (c *Conn) LocalAddr() net.Addr { return c.addr(unix.Getsockname) }

// RemoteAddr is LocalAddr of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.addr(unix.Getpeername) }

func (c *Conn) addr(get func(fd int) (unix.Sockaddr, error)) net.Addr {
	addr := &net.UnixAddr{Net: "unix"}
	c.raw.Control(func(fd uintptr) {
		if sa, err := get(int(fd)); err == nil {
			if u, ok := sa.(*unix.SockaddrUnix); ok {
				addr.Name = u.Name
			}
		}
	})
	return addr
}

// Dialect is Buf.Dialect.
func (c *Conn) Dialect() Dialect { return c.spoken() }

// SetDialect is Buf.SetDialect. It may be called at any time.
func (c *Conn) SetDialect(d Dialect) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.dialect.Store(uint32(d))
	c.r.in.follow(d)
}

// SetMaxSize is Buf.SetMaxSize.
func (c *Conn) SetMaxSize(n int) error { return c.setMaxSize(n) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline ends every Receive that waits, or will wait, at t with
// os.ErrDeadlineExceeded; the zero time means never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.r.deadline, t)
}

// SetWriteDeadline ends every Send and Flush that waits, or will wait, at t
// with os.ErrDeadlineExceeded; the zero time means never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.w.deadline, t)
}

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	err := d.change(t)
	if c.closed.Load() {
		err = net.ErrClosed
	}
	return opError("set deadline", 0, err)
}

// Stats returns what the channel has moved since it was made.
func (c *Conn) Stats() Stats {
	c.w.mu.Lock()
	s := Stats{Sent: c.w.out.sent()}
	c.w.mu.Unlock()
	c.r.mu.Lock()
	s.Received = c.r.in.count
	c.r.mu.Unlock()
	return s
}

// PeerCred is Buf.PeerCred.
func (c *Conn) PeerCred() (cred Cred, err error) {
	if cerr := c.raw.Control(func(fd uintptr) { cred, err = peerCred(int(fd)) }); cerr != nil {
		err = opError("peer credentials", 0, net.ErrClosed)
	}
	return cred, err
}
