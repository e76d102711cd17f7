package imsg

import (
	"context"
	"net"
	"os"
	"syscall"

	"example.org/imsg/internal/unixmsg"
)

// Dial connects to the socket that a program listens on at path. cfg may be
// nil.
func Dial(ctx context.Context, path string, cfg *Config) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, opError("dial", 0, err)
	}
	defer nc.Close()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, opError("dial", 0, err)
	}
	refuseFiles(raw, cfg)
	return dupConn(raw, cfg)
}

// refuseFiles asks the kernel to fail a sender who passes files where nobody
// asked for them. Without it they are closed on arrival, so errors do not
// matter.
func refuseFiles(raw syscall.RawConn, cfg *Config) {
	if cfg == nil || !cfg.AllowFDPass {
		raw.Control(func(fd uintptr) { unixmsg.SetPassRights(int(fd), false) })
	}
}

// A Listener accepts connections. Its methods may be called by many
// goroutines at a time.
type Listener struct {
	l        *net.UnixListener
	file     *os.File // the same socket: net does not let us accept by ourselves
	raw      syscall.RawConn
	cfg      Config
	turn     chan struct{} // who holds its place may wait for a connection
	deadline deadline
}

// Listen creates a socket at path, with the permissions that umask(2) leaves,
// and listens on it. Close removes it. cfg, which may be nil, is every
// accepted Conn's.
func Listen(path string, cfg *Config) (*Listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, opError("listen", 0, err)
	}
	n, err := NewListener(l, cfg)
	if err != nil {
		l.Close()
	}
	return n, err
}

// NewListener makes a Listener of l, for example one that was inherited or
// whose permissions were set before. It owns l from here on if the error is
// nil, and needs a second descriptor.
func NewListener(l *net.UnixListener, cfg *Config) (*Listener, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, opError("listen", 0, err)
	}
	refuseFiles(raw, cfg) // connections inherit it
	fd, err := dup(raw)
	if err != nil {
		return nil, opError("listen", 0, err)
	}
	n := &Listener{l: l, file: os.NewFile(uintptr(fd), "imsg"), cfg: cfg.withDefaults(), turn: make(chan struct{}, 1)}
	n.deadline.set = n.file.SetReadDeadline
	if n.raw, err = n.file.SyscallConn(); err != nil {
		n.file.Close()
		return nil, opError("listen", 0, err)
	}
	return n, nil
}

// Accept waits for the next connection. The error is ctx.Err(), net.ErrClosed
// after Close, or accept(2)'s, wrapped in *OpError. A client that finds this
// process's descriptor table full (EMFILE) is not turned away: accept again
// when there is room.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, opError("accept", 0, err)
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
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
	c, err := NewConn(fd, &l.cfg)
	if err != nil {
		syscall.Close(fd)
	}
	return c, err
}

// Addr returns the socket's address.
func (l *Listener) Addr() net.Addr { return l.l.Addr() }

// Close stops listening and removes the socket's file, if Listen made it.
// Everyone who waits in Accept is woken with net.ErrClosed.
func (l *Listener) Close() error {
	err := l.l.Close()
	l.file.Close()
	return opError("close", 0, err)
}
