//go:build amd64 || arm64

package ptrace

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// TestRefused attaches to another user's process.
func TestRefused(t *testing.T) {
	if os.Getuid() == 0 && !testutil.InChild(t, testutil.AsOrdinaryUser) {
		return
	}
	err := Attach(testutil.DeadlineCtx(t), []int{1}, &Config{})
	if errors.Is(err, unix.ESRCH) {
		t.Skip("other users' processes are hidden here")
	}
	p := (*PermissionError)(nil)
	if !errors.As(err, &p) || p.PID != 1 || p.Tracer != 0 || p.Cure == "" || !errors.Is(err, unix.EPERM) {
		t.Errorf("%v", err)
	}
}

// TestSetID has a set-user-ID program that is started by a traced one without
// its rights.
func TestSetID(t *testing.T) {
	const name = "IMSG_PTRACE_SETID"
	if os.Getuid() == 0 {
		dir, err := os.MkdirTemp("", "imsg-ptrace-") // others can get at it
		testutil.Must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		testutil.Must(t, os.Chmod(dir, 0o711))
		prog := filepath.Join(dir, "prog")
		data, err := os.ReadFile("/proc/self/exe")
		testutil.Must(t, err)
		testutil.Must(t, os.WriteFile(prog, data, 0o755))
		testutil.Must(t, os.Chmod(prog, 0o755|os.ModeSetuid))
		t.Setenv(name, prog)
		if !testutil.InChild(t, testutil.AsOrdinaryUser) {
			return
		}
	}
	prog := os.Getenv(name)
	if prog == "" {
		t.Skip("needs root to make a set-user-ID program")
	}
	c := role("quiet")
	c.Path = prog
	r, status := trace(t, c)
	if status != (Status{}) || len(r.warns) != 1 || !strings.Contains(r.warns[0], prog+" is a set-user-ID program, and runs without") {
		t.Errorf("%v, warnings %q", status, r.warns)
	}
}

// small32 is an ELF program for i386 that ends with status 5.
func small32() []byte {
	const base, size = 0x10000, 52 + 32
	code := []byte{0x31, 0xc0, 0x40, 0xbb, 5, 0, 0, 0, 0xcd, 0x80} // eax = 1; ebx = 5; int 0x80
	p := append([]byte{0x7f, 'E', 'L', 'F', 1, 1, 1}, make([]byte, 9)...)
	le := binary.LittleEndian
	p = le.AppendUint16(le.AppendUint16(p, 2), 3)
	for _, v := range []uint32{1, base + size, 52, 0, 0} {
		p = le.AppendUint32(p, v)
	}
	for _, v := range []uint16{52, 32, 1, 0, 0, 0} {
		p = le.AppendUint16(p, v)
	}
	for _, v := range []uint32{1, 0, base, base, uint32(size + len(code)), uint32(size + len(code)), 5, 0x1000} {
		p = le.AppendUint32(p, v)
	}
	return append(p, code...)
}

// TestForeign has a 32-bit program, which goes on untraced.
func TestForeign(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("has a program for amd64 only")
	}
	path := filepath.Join(t.TempDir(), "small")
	testutil.Must(t, os.WriteFile(path, small32(), 0o755))
	r := &recorder{}
	status, err := Run(testutil.DeadlineCtx(t), &Command{Path: path, Args: []string{path}}, r.config())
	skipRefused(t, err)
	if errors.Is(err, unix.ENOEXEC) {
		t.Skip("this kernel has no 32-bit programs")
	}
	if err != nil || status.Code != 5 {
		t.Fatal(status, err)
	}
	if len(r.warns) != 1 || !strings.Contains(r.warns[0], path+" is a 32-bit program") {
		t.Errorf("warnings %q", r.warns)
	}
}

// TestStaysStopped attaches to a program that is stopped, and leaves it so.
func TestStaysStopped(t *testing.T) {
	testutil.NoLeak(t)
	a := newAnswerer(t)
	a.ask(t, "0")
	testutil.Must(t, a.p.Signal(unix.SIGSTOP))
	stopped := func() {
		t.Helper()
		ctx := testutil.DeadlineCtx(t)
		for !strings.HasPrefix(readStatus(a.p.Pid)["State"], "T") {
			if ctx.Err() != nil {
				t.Fatal("it is not stopped: ", readStatus(a.p.Pid)["State"])
			}
			runtime.Gosched()
		}
	}
	quiet := func() {
		t.Helper()
		fds := []unix.PollFd{{Fd: int32(a.sock), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); n != 0 {
			t.Fatal("it goes on: ", n, err)
		}
	}
	stopped()
	r := &recorder{}
	end := attached(t, r, a.p.Pid)
	put(a.sock, "1")
	quiet()
	end()
	stopped()
	quiet()
	testutil.Must(t, a.p.Signal(unix.SIGCONT))
	p := make([]byte, 100)
	if n, err := unix.Read(a.sock, p); err != nil || string(p[:n]) != "answer to 1" {
		t.Fatalf("got %q, %v", p[:n], err)
	}
}
