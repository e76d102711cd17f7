//go:build unix && !aix

package unixmsg

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// TestListen binds a name, lets a client connect to it, and asks all the time
// who has the name.
func TestListen(t *testing.T) {
	noLeak(t)
	path := filepath.Join(t.TempDir(), "socket")
	bound := func(want bool) {
		t.Helper()
		if got, err := Bound(path); got != want || err != nil {
			t.Errorf("bound %v, %v, want %v", got, err, want)
		}
	}
	bound(false)
	fd, err := Bind(path)
	check.Must(t, err)
	bound(true)
	if name, err := Name(fd); name != path || err != nil {
		t.Errorf("the name is %q, %v, want %q", name, err, path)
	}
	if again, err := Bind(path); again != -1 || !isSyscall(err, syscall.EADDRINUSE) {
		t.Errorf("bound twice: %d, %v", again, err)
	}
	client, err := socket(unix.SOCK_STREAM)
	check.Must(t, err)
	defer unix.Close(client)
	addr := &unix.SockaddrUnix{Name: path}
	check.Equal(t, "connected before Listen", unix.Connect(client, addr), unix.ECONNREFUSED)
	check.Must(t, Listen(fd))
	if n, err := Accept(fd); n != -1 || err != unix.EAGAIN {
		t.Errorf("nobody is there: %d, %v", n, err)
	}
	check.Must(t, unix.Connect(client, addr))
	check.Must(t, unix.SetNonblock(fd, false)) // by another holder
	n, err := Accept(fd)
	check.Must(t, err)
	defer unix.Close(n)
	if !nonblocking(t, n) || !cloexec(t, n) || !nonblocking(t, fd) {
		t.Error("a socket blocks or survives exec")
	}
	mustSend(t, client, "x", -1)
	if k, err := Read(n, make([]byte, 2), 0); k != 1 || err != nil {
		t.Errorf("read %d bytes, %v", k, err)
	}
	mustClose(t, fd)
	bound(false) // only the file is left
}

// TestLockFile locks a file twice, and again when it is free.
func TestLockFile(t *testing.T) {
	noLeak(t)
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		check.Must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	f, g := open(), open()
	check.Must(t, LockFile(int(f.Fd())))
	check.Equal(t, "locked twice", LockFile(int(g.Fd())), syscall.EAGAIN)
	f.Close()
	check.Must(t, LockFile(int(g.Fd())))
}
