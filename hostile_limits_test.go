package imsg_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

const childEnv = "IMSG_TEST_CHILD"

// inChild runs the calling test again in a process of its own, for it does
// what cannot be undone, and is true there.
func inChild(t *testing.T, change func(*exec.Cmd)) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	if change != nil {
		change(cmd)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		needExec(t, err)
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("%s", out)
	}
	return false
}

// needExec skips the test if err is that this binary cannot be executed.
func needExec(t *testing.T, err error) {
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the kernel cannot execute this test binary itself (an emulator runs it)")
	}
}

// asOrdinaryUser gives a privileged process's child the rights of a user that
// nobody else is: the kernel counts files in flight for each.
func asOrdinaryUser(cmd *exec.Cmd) {
	if os.Getuid() != 0 {
		return
	}
	if runtime.GOOS == "linux" {
		cmd.Path = "/proc/self/exe" // the way to the binary may be closed to others
	}
	id := uint32(50000 + os.Getpid()%5000)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
}

func setMaxFiles(t *testing.T) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}

// fillTable opens descriptors until none is left, and returns how to close them.
func fillTable(t *testing.T) (free func()) {
	t.Helper()
	var fds []int
	for {
		fd, err := unix.Dup(0)
		if err == unix.EMFILE {
			return func() {
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
}

// TestFullTable receives files when no descriptor is free.
func TestFullTable(t *testing.T) {
	if !inChild(t, nil) {
		return
	}
	setMaxFiles(t)
	eachDialect(t, dialects, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *side) {
		p, q := newProbe(t), newProbe(t)
		peer.Write(frame(d, 1, 10, false))
		peer.Write(frame(d, 2, 20, true), p.fd())
		peer.Write(frame(d, 3, 30, true), p.fd())
		peer.Write(frame(d, 4, 40, true), q.fd())
		peer.Write(frame(d, 5, 50, false))
		p.w.Close()
		free := fillTable(t)
		m := mustNext(t, s, 1, 10)
		if m.FileErr() != nil {
			t.Error(m.FileErr())
		}
		m.Close()
		for typ := range uint32(2) {
			m = mustNext(t, s, typ+2, int(typ+2)*10)
			if !errors.Is(m.FileErr(), imsg.ErrFileLost) || m.HasFile() {
				t.Errorf("message %d with a full table: %v, file %v", typ+2, m.FileErr(), m.HasFile())
			}
			m.Close()
		}
		free()
		if !p.closed() {
			t.Error("a lost file is open")
		}
		m = mustNext(t, s, 4, 40)
		f := m.TakeFile()
		if err := q.works(f); err != nil {
			t.Error(err)
		}
		f.Close()
		m.Close()
		mustNext(t, s, 5, 50).Close()
		if err := s.send(imsg.Header{Type: 6}, nil); err != nil {
			t.Error(err)
		}
	})
}

// files in flight that the tests below send: more than the limit of 64.
const manyFiles = 150

func devNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// takeFiles receives n messages of types from 1, each with a file.
func takeFiles(t *testing.T, c *imsg.Conn, from, n int) {
	t.Helper()
	for i := range n {
		m, err := c.Receive(deadlineCtx(t))
		if err != nil {
			t.Fatal(err)
		}
		checkFrame(t, m, uint32(from+i), 3)
		if !m.HasFile() {
			t.Fatalf("message %d has no file: %v", from+i, m.FileErr())
		}
		m.Close()
	}
}

// TestTooManyRefsSend sends more files than an ordinary user may have under way.
func TestTooManyRefsSend(t *testing.T) {
	if !inChild(t, asOrdinaryUser) {
		return
	}
	noLeak(t)
	setMaxFiles(t)
	a, b := imsgtest.Pair(t, nil)
	f := devNull(t)
	defer f.Close()
	ctx := deadlineCtx(t)
	done := make(chan error, 1)
	go func() {
		for i := range manyFiles {
			if err := a.Send(ctx, imsg.Header{Type: uint32(i + 1)}, f, pattern(uint32(i+1), 3)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	blocked := make(chan struct{})
	go func() {
		waitBlocked(t, 1, "(*sender).pause")
		close(blocked)
	}()
	select {
	case err := <-done:
		t.Skipf("no limit on files in flight here: %d sent, %v", manyFiles, err)
	case <-blocked:
	}
	// Others wait behind it and can still give up, whatever they send.
	for _, file := range []*os.File{nil, f} {
		short, cancel := context.WithCancel(ctx)
		errs := make(chan error, 1)
		go func() { errs <- a.Send(short, imsg.Header{Type: 999}, file, []byte("x")) }()
		waitBlocked(t, 1, "(*half).sleep")
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while the system has too many files: %v", err)
		}
	}
	takeFiles(t, b, 1, manyFiles)
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The one who waits for the system can give up, too.
	fillFlight := func(ctx context.Context) (i int, err error) {
		for err == nil {
			i++
			err = a.Send(ctx, imsg.Header{Type: uint32(i)}, f, pattern(uint32(i), 3))
		}
		return i, err
	}
	short, cancel := context.WithCancel(ctx)
	go func() {
		waitBlocked(t, 1, "(*sender).pause")
		cancel()
	}()
	n, err := fillFlight(short)
	if !errors.Is(err, context.Canceled) || a.QueueLen() != 0 {
		t.Errorf("%v after %d files, %d queued", err, n, a.QueueLen())
	}
	takeFiles(t, b, 1, n-1)
	if _, err := f.Stat(); err != nil {
		t.Errorf("the file is not ours any more: %v", err)
	}
	if err := a.Send(ctx, imsg.Header{Type: 1}, f, pattern(1, 3)); err != nil {
		t.Error(err)
	}
	takeFiles(t, b, 1, 1)
}

// TestTooManyRefsWriteSocket is the same for an event loop.
func TestTooManyRefsWriteSocket(t *testing.T) {
	if !inChild(t, asOrdinaryUser) {
		return
	}
	noLeak(t)
	setMaxFiles(t)
	sa, sb := imsgtest.Sockets(t)
	b := imsg.NewBuf(sa.FD, &imsg.Config{AllowFDPass: true})
	t.Cleanup(b.Clear)
	peer, err := imsg.NewConn(sb.Take(), &imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	sent := 0
	for ; sent < manyFiles && b.QueueLen() == 0; sent++ {
		if err := b.Compose(imsg.Header{Type: uint32(sent + 1)}, devNull(t), pattern(uint32(sent+1), 3)); err != nil {
			t.Fatal(err)
		}
		if err := b.WriteSocket(); err != nil {
			t.Fatalf("file %d: %v", sent+1, err)
		}
	}
	if b.QueueLen() == 0 {
		t.Skipf("no limit on files in flight here: %d sent", sent)
	}
	for range 3 {
		if err := b.WriteSocket(); err != nil || b.QueueLen() != 1 {
			t.Fatalf("%v with %d queued", err, b.QueueLen())
		}
	}
	if n := b.Stats().Sent; n.Messages != uint64(sent-1) || n.Files != uint64(sent-1) || n.Calls != uint64(sent-1) {
		t.Errorf("counters %+v after %d messages", n, sent-1)
	}
	takeFiles(t, peer, 1, sent-1)
	if err := b.Flush(); err != nil || b.QueueLen() != 0 {
		t.Fatalf("%v with %d queued", err, b.QueueLen())
	}
	takeFiles(t, peer, sent, 1)
}
