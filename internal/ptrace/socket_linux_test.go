//go:build amd64 || arm64

package ptrace

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownNetRole talks in a network namespace of its own, over sockets of it and
// of the one outside.
func ownNetRole([]string) {
	runtime.LockOSThread() // it is the thread's
	c, d := pair()
	check(unix.Unshare(unix.CLONE_NEWNET))
	a, b := pair()
	put(a, "inside")
	get(b, "inside")
	put(c, "outside")
	get(d, "outside")
}

func TestNetworkNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	r, status := trace(t, role("own-net"))
	if status.Code == 3 {
		t.Skip("no network namespace to be had")
	}
	for _, data := range []string{"inside", "outside"} {
		if w, g := r.find(t, true, data), r.find(t, false, data); w.Socket.Peer != g.Socket.Inode || g.Socket.Peer == 0 {
			t.Errorf("sent %+v, received %+v, warnings %q", w.Socket, g.Socket, r.warns)
		}
	}
}

// manyRole uses more sockets than are kept.
func manyRole([]string) {
	for range minSweep {
		a, b := pair()
		put(a, "x")
		get(b, "x")
		unix.Close(a)
		unix.Close(b)
	}
}

func TestClosed(t *testing.T) {
	r, status := trace(t, role("many"))
	if status != (Status{}) || len(r.calls) != 2*minSweep {
		t.Fatalf("%v, %d calls", status, len(r.calls))
	}
	if r.closed < minSweep-1 {
		t.Errorf("%d sockets of %d are closed", r.closed, 2*minSweep)
	}
}

// namedRole connects to a listening socket, and writes before it is accepted.
func namedRole(args []string) {
	l := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	check(unix.Bind(l, &unix.SockaddrUnix{Name: args[0]}))
	check(unix.Listen(l, 1))
	c := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	check(unix.Connect(c, &unix.SockaddrUnix{Name: args[0]}))
	put(c, "early")
	s := must2(unix.Accept(l))
	get(s, "early")
	put(s, "late")
	get(c, "late")
}

func TestNamed(t *testing.T) {
	path := t.TempDir() + "/s"
	r, status := trace(t, role("named "+path))
	if status != (Status{}) {
		t.Fatal(status)
	}
	for _, data := range []string{"early", "late"} {
		w, g := r.find(t, true, data), r.find(t, false, data)
		if w.Socket.Path != path || g.Socket.Path != path || w.Socket.Accepted == g.Socket.Accepted || w.Socket.Accepted != (data == "late") {
			t.Errorf("%s: sent %+v, received %+v, at %s", data, w.Socket, g.Socket, path)
		}
		if w.Socket.Peer != g.Socket.Inode || g.Socket.Peer != w.Socket.Inode {
			t.Errorf("%s: sent %+v, received %+v", data, w.Socket, g.Socket)
		}
	}
}

// hiddenRole moves bytes in ways that are not seen.
func hiddenRole([]string) {
	unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0) // fails
	a, b := pair()
	f := must(os.Open("/proc/self/exe"))
	must(unix.Sendfile(a, int(f.Fd()), nil, 10))
	p := make([]byte, 20)
	must(unix.Read(b, p))
}

func TestHidden(t *testing.T) {
	r, status := trace(t, role("hidden"))
	if status != (Status{}) || len(r.warns) != 2 || !strings.Contains(r.warns[0], "uses io_uring: ") || !strings.Contains(r.warns[1], "writes to a socket with sendfile: ") {
		t.Errorf("%v, warnings %q", status, r.warns)
	}
}

// largeRole receives more in one call than is read at a time.
func largeRole([]string) {
	a, b := pair()
	done := make(chan bool)
	p := make([]byte, pieceSize+10)
	go func() {
		for sent := 0; sent < len(p); { // a signal may divide it
			sent += must(unix.Write(a, p[sent:]))
		}
		close(done)
	}()
	q := make([]byte, len(p))
	for got := 0; got < len(q); {
		got += must2(unix.Recvfrom(b, q[got:], unix.MSG_WAITALL))
	}
	<-done
}

func TestLarge(t *testing.T) {
	r, status := trace(t, role("large"))
	if status != (Status{}) {
		t.Fatal(status)
	}
	var got [2][]int
	for _, c := range r.calls {
		i := 0
		if c.Write {
			i = 1
		}
		if len(c.data) != c.N || c.N == pieceSize && !c.Full {
			t.Errorf("%d bytes of %d, full %v", len(c.data), c.N, c.Full)
		}
		got[i] = append(got[i], c.N)
	}
	for _, ns := range got {
		sum := 0
		for _, n := range ns {
			sum += n
		}
		if sum != pieceSize+10 || len(ns) < 2 {
			t.Errorf("pieces of %v", got)
		}
	}
}

// TestReadFile reads memory where process_vm_readv is forbidden.
func TestReadFile(t *testing.T) {
	a, b := []byte("abc"), []byte("defg")
	m := memory{tid: os.Getpid()}
	from := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&a[0])), Len: 3}, {Base: uintptr(unsafe.Pointer(&b[0])), Len: 4}, {Base: 16, Len: 8}}
	p := make([]byte, 15)
	if n := m.readFile(p, from); string(p[:n]) != "abcdefg" {
		t.Errorf("%q", p[:n])
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}
