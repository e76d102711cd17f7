//go:build unix && !aix

package unixmsg

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// write is Send without a file.
func write(fd int, bufs [][]byte) (int, error) { return Send(fd, bufs, -1, 0) }

// readers are Read, and Recv where no file may come.
var readers = map[string]func(fd int, p []byte) (int, error){
	"Read": func(fd int, p []byte) (int, error) { return Read(fd, p, 0) },
	"Recv": func(fd int, p []byte) (int, error) {
		n, file, lost, err := Recv(fd, p, 0)
		if file != -1 || lost {
			return 0, fmt.Errorf("file %d, lost %v", file, lost)
		}
		return n, err
	},
}

func TestRoundTrip(t *testing.T) {
	noLeak(t)
	many := make([][]byte, 1500)
	for i := range many {
		many[i] = []byte{byte(i), byte(i >> 8)}
	}
	long := slices.Repeat([][]byte{bytes.Repeat([]byte("long "), 51)}, 100) // 255 bytes each
	tests := []struct {
		name string
		bufs [][]byte
	}{
		{"one", [][]byte{[]byte("hello")}},
		{"three", [][]byte{[]byte("a"), []byte("bc"), []byte("def")}},
		{"empty ones between", [][]byte{nil, {}, []byte("a"), nil, []byte("b"), {}}},
		{"16", many[:16]},
		{"17", many[:17]},
		{"1024", many[:1024]},
		{"1500", many},
		{"510 bytes", long[:2]},
		{"512 bytes", append([][]byte{[]byte("no")}, long[:2]...)},
		{"513 bytes", append([][]byte{[]byte("yes")}, long[:2]...)},
		{"100 long ones", long},
		{"1024 empty ones first", append(make([][]byte, 1024), []byte("x"))},
	}
	for rname, read := range readers {
		for _, tt := range tests {
			t.Run(rname+"/"+tt.name, func(t *testing.T) {
				a, b := pair(t, true)
				want := bytes.Join(tt.bufs, nil)
				var got []byte
				p := make([]byte, 1<<16)
				rest := tt.bufs
				for len(got) < len(want) {
					n, err := write(a, rest)
					if err != nil || n == 0 {
						t.Fatalf("write after %d bytes: %d, %v", len(got), n, err)
					}
					rest = [][]byte{want[len(got)+n:]}
					n, err = read(b, p)
					check.Must(t, err)
					got = append(got, p[:n]...)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("got %d bytes %.40q, want %d bytes %.40q", len(got), got, len(want), want)
				}
			})
		}
	}
}

func TestNothingToDo(t *testing.T) {
	a, b := pair(t, true)
	for _, bufs := range [][][]byte{nil, {}, {nil}, {{}, {}}} {
		if n, err := write(a, bufs); n != 0 || err != nil {
			t.Errorf("Send of %d empty buffers: %d, %v", len(bufs), n, err)
		}
	}
	for name, read := range readers {
		if n, err := read(b, nil); n != 0 || !isSyscall(err, syscall.EINVAL) {
			t.Errorf("%s into nothing: %d, %v; want EINVAL", name, n, err)
		}
	}
	if n, err := Send(a, [][]byte{{}}, a, 0); n != 0 || !isSyscall(err, syscall.EINVAL) {
		t.Errorf("send of a file without bytes: %d, %v; want EINVAL", n, err)
	}
}

func TestWouldBlock(t *testing.T) {
	a, b := pair(t, true)
	for name, read := range readers {
		if n, err := read(b, make([]byte, 1)); n != 0 || err != syscall.EAGAIN {
			t.Errorf("%s from an empty socket: %d, %v; want the bare EAGAIN", name, n, err)
		}
	}
	full := make([]byte, 1<<16)
	var err error
	for err == nil {
		_, err = write(a, [][]byte{full, full})
	}
	check.Equal(t, "Send to a full socket", err, syscall.EAGAIN)
}

func TestPeerGone(t *testing.T) {
	noLeak(t)
	for name, read := range readers {
		a, b := pair(t, true)
		mustSend(t, a, "last", -1)
		mustClose(t, a)
		p := make([]byte, 8)
		if n, err := read(b, p); err != nil || string(p[:n]) != "last" {
			t.Errorf("%s before the end: %q, %v", name, p[:n], err)
		}
		for range 2 {
			if n, err := read(b, p); n != 0 || err != nil {
				t.Errorf("%s at the end: %d, %v; want 0, nil", name, n, err)
			}
		}
	}
	for _, bufs := range [][][]byte{{[]byte("x")}, {[]byte("x"), []byte("y")}} {
		a, b := pair(t, true)
		mustClose(t, b)
		if n, err := write(a, bufs); n != 0 || !isSyscall(err, syscall.EPIPE) {
			t.Errorf("Send of %d buffers to nobody: %d, %v; want EPIPE", len(bufs), n, err)
		}
	}
}

func TestBadDescriptor(t *testing.T) {
	// A number that cannot be open, so that no other test's file is hit.
	const fd = -1
	for _, tt := range []struct {
		name string
		call func() (int, error)
	}{
		{"recvmsg", func() (int, error) { return Read(fd, make([]byte, 1), 0) }},
		{"recvmsg", func() (int, error) { n, _, _, err := Recv(fd, make([]byte, 1), 0); return n, err }},
		{"sendmsg", func() (int, error) { return Send(fd, [][]byte{{1}}, -1, 0) }},
		{"fcntl", func() (int, error) { return Dup(fd) }},
		{"recvmsg", func() (int, error) { return RecvMany(fd, make([]byte, 1<<16), make([]Part, MaxParts), 0) }},
		{"getsockname", func() (int, error) { name, err := Name(fd); return len(name), err }},
	} {
		_, err := tt.call()
		if !isSyscall(err, syscall.EBADF) || !strings.HasPrefix(err.Error(), tt.name+": ") {
			t.Errorf("%s of -1: %v", tt.name, err)
		}
	}
}

func TestPairAndDup(t *testing.T) {
	noLeak(t)
	for _, nonblock := range []bool{false, true} {
		a, b := pair(t, nonblock)
		c, err := Dup(a)
		check.Must(t, err)
		closeLater(t, c)
		if c < 3 || c == a {
			t.Errorf("dup of %d is %d", a, c)
		}
		for _, fd := range []int{a, b, c} {
			if !cloexec(t, fd) {
				t.Errorf("descriptor %d survives exec", fd)
			}
			check.Equal(t, fmt.Sprintf("descriptor %d: non-blocking", fd), nonblocking(t, fd), nonblock)
		}
		mustSend(t, c, "via dup", -1)
		p := make([]byte, 16)
		if n, err := Read(b, p, 0); err != nil || string(p[:n]) != "via dup" {
			t.Errorf("read %q, %v", p[:n], err)
		}
	}
}

// TestDupFile duplicates files, of which some are closed or none.
func TestDupFile(t *testing.T) {
	noLeak(t)
	f, err := os.Open(os.DevNull)
	check.Must(t, err)
	fd, err := DupFile(f)
	check.Must(t, err)
	mustClose(t, fd)
	check.Must(t, f.Close())
	for _, f := range []*os.File{f, nil} {
		if fd, err := DupFile(f); fd != -1 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("%v: %d, %v", f, fd, err)
		}
	}
}

// isSyscall reports whether err is exactly one *os.SyscallError around errno.
func isSyscall(err error, errno syscall.Errno) bool {
	var s *os.SyscallError
	return errors.As(err, &s) && err == error(s) && s.Err == error(errno)
}

func cloexec(t testing.TB, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	check.Must(t, err)
	return flags&unix.FD_CLOEXEC != 0
}

func nonblocking(t testing.TB, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	check.Must(t, err)
	return flags&unix.O_NONBLOCK != 0
}

func TestBlocking(t *testing.T) {
	for _, nonblock := range []bool{true, false} {
		if a, _ := pair(t, nonblock); Blocking(a) == nonblock {
			t.Errorf("non-blocking %v, blocking too", nonblock)
		}
	}
	if Blocking(-1) {
		t.Error("what is not open blocks")
	}
}
