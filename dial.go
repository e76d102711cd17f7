package imsg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.org/imsg/ibuf"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// Dial connects to the socket that a program listens on at path: the name of a
// file or, on Linux, an abstract name with "@" in front. cfg may be nil.
//
// While as many clients as the listener allows wait to be accepted, Linux
// answers EAGAIN, and Dial waits until there is room or ctx ends. It tries again
// after pauses of 1 to 32 ms: the system gives no sign that poll(2) would hear,
// and a connect(2) that waits would hold a thread which ctx could not wake.
// Other systems refuse the connection (ECONNREFUSED), as if nobody listened.
//
// The error is an *OpError with the system call's error, ctx.Err(), or EINVAL
// for a path that is empty or longer than an address can be.
func Dial(ctx context.Context, path string, cfg *Config) (*Conn, error) {
	nc, err := connect(ctx, path)
	if err != nil {
		return nil, opError("dial", 0, fmt.Errorf("%s: %w", path, err))
	}
	defer nc.Close()
	fd, err := unixmsg.DupFile(nc)
	if err != nil {
		return nil, opError("dial", 0, err)
	}
	refuseFiles(fd, cfg)
	return ownConn(fd, cfg)
}

func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	full := false
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return nc.(*net.UnixConn), nil
		}
		if errors.Is(err, syscall.EAGAIN) {
			full = true
			err = sleepCtx(ctx, pause)
		}
		switch ended := ctx.Err(); {
		case ended != nil && full:
			return nil, fmt.Errorf("too many clients wait to be accepted: %w", ended)
		case ended != nil:
			return nil, ended
		case err != nil:
			if e := (*net.OpError)(nil); errors.As(err, &e) {
				err = e.Err // without the name of the operation and the path
			}
			return nil, err
		}
	}
}

// sleepCtx waits for d, or until ctx ends, whose error it returns.
func sleepCtx(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkPath tells what the system would call "invalid argument", or would take
// for another name.
func checkPath(path string) error {
	const limit = len(syscall.RawSockaddrUnix{}.Path) - 1 // a NUL follows
	switch {
	case path == "":
		return fmt.Errorf("empty path: %w", syscall.EINVAL)
	case len(path) > limit:
		return fmt.Errorf("path of %d bytes, limit %d: %w", len(path), limit, syscall.EINVAL)
	case !isAbstract(path) && strings.Contains(path, "\x00"):
		return fmt.Errorf("NUL byte in path: %w", syscall.EINVAL)
	}
	return nil
}

// isAbstract reports whether path is not the name of a file.
func isAbstract(path string) bool {
	return runtime.GOOS == "linux" && path != "" && (path[0] == '@' || path[0] == 0)
}

// refuseFiles asks the kernel to fail a sender who passes files where nobody
// asked for them. Without it they are closed on arrival, so errors do not
// matter.
func refuseFiles(fd int, cfg *Config) {
	if cfg == nil || !cfg.AllowFDPass {
		unixmsg.SetPassRights(fd, false)
	}
}

// StartChild starts cmd with one end of a new channel as its descriptor fd,
// and returns the other end, which is the caller's to close: that is how the
// child learns that its parent is gone. A Go child calls NewConn(fd, nil); C
// programs mostly want 3, and some 0. The child's end is blocking, as C
// programs expect it.
//
// cmd is started, and the caller must wait for it, if and only if the error is
// nil. A descriptor that cmd uses already is ibuf.ErrInvalid. cfg may be nil.
func StartChild(cmd *exec.Cmd, fd int, cfg *Config) (*Conn, error) {
	name := fmt.Sprintf("start %s", cmd.Path)
	pfd, cfd, err := unixmsg.Pair(false)
	if err != nil {
		return nil, opError(name, 0, err)
	}
	f := os.NewFile(uintptr(cfd), "imsg") // a Conn would make it non-blocking
	defer f.Close()
	parent, err := NewConn(pfd, cfg)
	if err != nil {
		syscall.Close(pfd)
		return nil, err
	}
	in, out, errs, extra := cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles
	if err = attach(cmd, fd, f); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = in, out, errs, extra
		parent.Close()
		return nil, opError(name, 0, err)
	}
	return parent, nil
}

// attach makes f the descriptor fd of cmd.
func attach(cmd *exec.Cmd, fd int, f *os.File) error {
	used := fmt.Errorf("descriptor %d is in use: %w", fd, ibuf.ErrInvalid)
	switch {
	case fd < 0:
		return fmt.Errorf("descriptor %d: %w", fd, ibuf.ErrInvalid)
	case fd == 0 && cmd.Stdin == nil:
		cmd.Stdin = f
	case fd == 1 && cmd.Stdout == nil:
		cmd.Stdout = f
	case fd == 2 && cmd.Stderr == nil:
		cmd.Stderr = f
	case fd < 3:
		return used
	default:
		files := make([]*os.File, max(len(cmd.ExtraFiles), fd-2)) // nil: the child has none
		copy(files, cmd.ExtraFiles)
		if files[fd-3] != nil {
			return used
		}
		files[fd-3] = f
		cmd.ExtraFiles = files
	}
	return nil
}

// NetConn makes a net.Conn of a duplicate of f, a stream socket of TCP or of the
// unix domain that came with a message. f stays the caller's and can be closed;
// the net.Conn must be closed, too. Unlike net.FileConn it leaves the blocking
// mode alone, which the sender shares. That of a non-blocking socket is
// net.FileConn's.
//
// With a blocking one, each Read and Write that waits holds a thread, in
// poll(2). All methods may be called by many goroutines at a time. Errors are
// those of package net: io.EOF, and *net.OpError with os.ErrDeadlineExceeded,
// net.ErrClosed or the system call's error. It has a method CloseWrite, and uses
// three descriptors, two of them to wake who waits.
//
// NetConn's error is an *OpError: os.ErrClosed, ENOTSOCK, EPROTOTYPE for a socket
// of another type, EAFNOSUPPORT for one of another domain, or why there is no
// descriptor.
func NetConn(f *os.File) (net.Conn, error) {
	fd, err := unixmsg.DupFile(f)
	if err != nil {
		return nil, opError("net conn", 0, err)
	}
	c, err := newBlockingConn(fd)
	if err == nil && unixmsg.Blocking(fd) {
		if c.r.wake, c.w.wake, err = unixmsg.Pair(true); err == nil {
			return c, nil
		}
	}
	syscall.Close(fd)
	if err != nil {
		return nil, opError("net conn", 0, err)
	}
	nc, err := net.FileConn(f)
	return nc, opError("net conn", 0, err)
}

// newBlockingConn returns one that cannot be woken yet.
func newBlockingConn(fd int) (*blockingConn, error) {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if typ != unix.SOCK_STREAM {
		return nil, fmt.Errorf("socket of type %d: %w", typ, syscall.EPROTOTYPE)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	c := &blockingConn{fd: fd, local: netAddr(sa)}
	if c.local == nil {
		return nil, fmt.Errorf("socket with the address %T: %w", sa, syscall.EAFNOSUPPORT)
	}
	if sa, err = unix.Getpeername(fd); err == nil {
		c.remote = netAddr(sa)
	}
	// One pair is for both directions: what goes into one end wakes at the other.
	c.r.deadline.set = func(time.Time) error { return c.changed(c.w.wake) }
	c.w.deadline.set = func(time.Time) error { return c.changed(c.r.wake) }
	return c, nil
}

func netAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		a := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		if sa.ZoneId != 0 {
			a.Zone = strconv.FormatUint(uint64(sa.ZoneId), 10)
		}
		return a
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	return nil
}

// A blockingConn is a net.Conn of a socket whose mode must not be changed: the
// flag of each call says that it must not wait, and poll(2) waits.
type blockingConn struct {
	fd            int
	local, remote net.Addr // remote is nil if the peer is gone already
	closed        atomic.Bool
	r, w          blockingHalf
}

// A blockingHalf is one direction. The descriptors stay open while its turn or
// the deadline's mu is held and the blockingConn is not closed.
type blockingHalf struct {
	turn     sync.Mutex // one call at a time, as in package net
	deadline deadline
	wake     int // is readable when the deadline has changed, or by Close
}

// changed tells that the deadline has, whose mu is held, through one end of the
// pair to who polls the other.
func (c *blockingConn) changed(end int) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	wakeUp(end)
	return nil
}

// wakeUp need not care for an error: without room, enough is there already.
func wakeUp(end int) { unixmsg.Send(end, [][]byte{{0}}, -1, unixmsg.DontWait) }

// do makes calls until one has an outcome.
func (c *blockingConn) do(h *blockingHalf, call func() error) error {
	h.turn.Lock()
	defer h.turn.Unlock()
	for {
		if c.closed.Load() {
			return net.ErrClosed
		}
		left, err := h.deadline.left(time.Hour)
		if err != nil {
			return err
		}
		if err = call(); !isWouldBlock(err) {
			return err
		}
		millis := (left + time.Millisecond - 1) / time.Millisecond // never early
		err = unixmsg.PollWake(c.fd, h == &c.w, h.wake, int(millis))
		if err != nil && err != os.ErrDeadlineExceeded { // which is checked above
			return err
		}
		var p [64]byte
		unixmsg.Read(h.wake, p[:], unixmsg.DontWait) // before the checks: none is missed
	}
}

func (c *blockingConn) Read(p []byte) (n int, err error) {
	err = c.do(&c.r, func() (err error) {
		if len(p) == 0 {
			return nil
		}
		if n, err = unixmsg.Read(c.fd, p, unixmsg.DontWait); n == 0 && err == nil {
			err = io.EOF
		}
		return err
	})
	return n, c.opError("read", err)
}

func (c *blockingConn) Write(p []byte) (n int, err error) {
	err = c.do(&c.w, func() error {
		for n < len(p) {
			m, err := unixmsg.Send(c.fd, [][]byte{p[n:]}, -1, unixmsg.DontWait)
			if err != nil {
				return err
			}
			n += m
		}
		return nil
	})
	return n, c.opError("write", err)
}

// CloseWrite ends the sending direction, for everyone who has the socket.
func (c *blockingConn) CloseWrite() error {
	c.w.deadline.mu.Lock()
	defer c.w.deadline.mu.Unlock()
	if c.closed.Load() {
		return c.opError("close", net.ErrClosed)
	}
	return c.opError("close", os.NewSyscallError("shutdown", syscall.Shutdown(c.fd, syscall.SHUT_WR)))
}

// Close wakes who waits, and closes the descriptors when nobody uses them.
func (c *blockingConn) Close() error {
	if c.closed.Swap(true) {
		return c.opError("close", net.ErrClosed)
	}
	wakeUp(c.r.wake)
	wakeUp(c.w.wake)
	for _, mu := range []*sync.Mutex{&c.r.turn, &c.w.turn, &c.r.deadline.mu, &c.w.deadline.mu} {
		mu.Lock()
		defer mu.Unlock()
	}
	syscall.Close(c.r.wake)
	syscall.Close(c.w.wake)
	return c.opError("close", os.NewSyscallError("close", syscall.Close(c.fd)))
}

func (c *blockingConn) LocalAddr() net.Addr  { return c.local }
func (c *blockingConn) RemoteAddr() net.Addr { return c.remote }

func (c *blockingConn) SetReadDeadline(t time.Time) error {
	return c.opError("set", c.r.deadline.change(t))
}

func (c *blockingConn) SetWriteDeadline(t time.Time) error {
	return c.opError("set", c.w.deadline.change(t))
}

func (c *blockingConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *blockingConn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}
