//go:build unix && !aix

package unixmsg

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

func TestPeerCred(t *testing.T) {
	noLeak(t)
	a, _ := pair(t, true)
	myself := func(how string, fd int) {
		t.Helper()
		pid, uid, gid, err := PeerCred(fd)
		wantPID := os.Getpid()
		if pid == 0 && (runtime.GOOS == "freebsd" || runtime.GOOS == "dragonfly") {
			wantPID = 0
		}
		if err != nil || pid != wantPID || uid != uint32(os.Geteuid()) || gid != uint32(os.Getegid()) {
			t.Errorf("%s: %d, %d, %d, %v; want %d, %d, %d", how, pid, uid, gid, err, wantPID, os.Geteuid(), os.Getegid())
		}
	}
	myself("socketpair", a)

	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check.Must(t, err)
	closeLater(t, s)
	if _, _, _, err := PeerCred(s); err == nil {
		t.Error("an unconnected socket has a peer")
	}
	r, w := pipe(t)
	closeLater(t, w)
	if _, _, _, err := PeerCred(r); err == nil {
		t.Error("a pipe has a peer")
	}
}

func TestPassRights(t *testing.T) {
	noLeak(t)
	a, b := pair(t, true)
	err := SetPassRights(b, false)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the kernel has no SO_PASSRIGHTS (linux 6.16)")
	}
	check.Must(t, err)
	msg := [][]byte{[]byte("x")}
	if n, err := Send(a, msg, a, 0); n != 0 || !isSyscall(err, syscall.EPERM) {
		t.Errorf("send of a file to a peer that refuses files: %d, %v; want EPERM", n, err)
	}
	mustSend(t, a, "x", -1)
	n, err := readers["Recv"](b, make([]byte, 2))
	check.Must(t, err)
	check.Equal(t, "bytes without a file", n, 1)
	check.Must(t, SetPassRights(b, true)) // again
	mustSend(t, a, "x", a)
	mustClose(t, mustRecv(t, b, "x"))
	if err := SetPassRights(-1, true); !isSyscall(err, syscall.EBADF) {
		t.Errorf("descriptor -1: %v", err)
	}
}

// TestNamedPeer uses a peer that has an address, which the kernel could report
// with every message.
func TestNamedPeer(t *testing.T) {
	noLeak(t)
	client, server := namedPair(t)
	r, w := pipe(t)
	mustSend(t, server, "named", w)
	mustClose(t, w)
	mustClose(t, mustRecv(t, client, "named"))
	wantClosed(t, "the file", r)
}

// namedPair returns a stream of which the server end is bound to a path.
func namedPair(t *testing.T) (client, server int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "um") // t.TempDir may be too long for an address
	check.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := &unix.SockaddrUnix{Name: filepath.Join(dir, "s")}
	socket := func() int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		check.Must(t, err)
		closeLater(t, fd)
		unix.CloseOnExec(fd)
		return fd
	}
	listener, client := socket(), socket()
	check.Must(t, unix.Bind(listener, addr))
	check.Must(t, unix.Listen(listener, 1))
	check.Must(t, unix.Connect(client, addr))
	server, _, err = unix.Accept(listener)
	check.Must(t, err)
	closeLater(t, server)
	unix.CloseOnExec(server)
	return client, server
}

// A test program has no more rights than who started it, wherever that can be told.
func TestSecure(t *testing.T) {
	if runtime.GOOS == "linux" && Secure() {
		t.Error("this program runs with more rights than its user")
	}
}

func TestCheckStream(t *testing.T) {
	noLeak(t)
	open := func(fd int, err error) int {
		t.Helper()
		check.Must(t, err)
		closeLater(t, fd)
		return fd
	}
	socket := func(domain, typ int) int {
		fd, err := unix.Socket(domain, typ, 0)
		return open(fd, err)
	}
	file := func(name string) int {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return open(fd, err)
	}
	r, w := pipe(t)
	closeLater(t, w)
	for _, tt := range []struct {
		fd   int
		text string
		want error
	}{
		{socket(unix.AF_UNIX, unix.SOCK_STREAM), "", nil},
		{socket(unix.AF_UNIX, unix.SOCK_DGRAM), "datagram", unix.EPROTOTYPE},
		{socket(unix.AF_INET, unix.SOCK_STREAM), "IPv4", unix.EAFNOSUPPORT},
		{file("peer_test.go"), "file", unix.ENOTSOCK},
		{file("."), "directory", unix.ENOTSOCK},
		{file("/dev/null"), "character device", unix.ENOTSOCK},
		{r, "pipe", unix.ENOTSOCK},
		{socket(unix.AF_UNIX, unix.SOCK_SEQPACKET), "unix seqpacket", unix.EPROTOTYPE},
		{-1, "", unix.EBADF},
	} {
		if err := CheckStream(tt.fd); !errors.Is(err, tt.want) || tt.want != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%v, want %v and %q", err, tt.want, tt.text)
		}
	}
}
