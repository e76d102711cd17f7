package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// socketPath returns a path short enough for an address.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "im")
	testutil.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// bound returns a socket of the given type with a name, which does not listen.
func bound(t *testing.T, path string, typ int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, typ, 0)
	testutil.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	unix.CloseOnExec(fd)
	testutil.Must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	return fd
}

// stale leaves a socket at path that nobody has open.
func stale(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	testutil.Must(t, err)
	defer unix.Close(fd)
	testutil.Must(t, errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)))
}

func answers(t *testing.T, l *imsg.Listener, path string) {
	t.Helper()
	c, s := connect(t, l, path, nil)
	c.Close()
	s.Close()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestListenMode(t *testing.T) {
	testutil.NoLeak(t)
	lc := imsg.ListenConfig{Mode: 0o620}
	if os.Geteuid() == 0 {
		lc.Owner = &imsg.Owner{UID: -1, GID: 12345}
	}
	path := socketPath(t)
	for range 100 {
		// Whoever gets in finds the mode and the owner that were asked for.
		done := testutil.Go(func() error {
			c, err := imsg.Dial(context.Background(), path, nil)
			for ; err != nil; c, err = imsg.Dial(context.Background(), path, nil) {
				runtime.Gosched()
			}
			c.Close()
			info, err := os.Stat(path)
			if err == nil && info.Mode().Perm() != lc.Mode {
				err = fmt.Errorf("mode %v", info.Mode())
			}
			if err == nil && lc.Owner != nil && info.Sys().(*syscall.Stat_t).Gid != uint32(lc.Owner.GID) {
				err = fmt.Errorf("group %d", info.Sys().(*syscall.Stat_t).Gid)
			}
			return err
		})
		l, err := lc.Listen(testutil.DeadlineCtx(t), path, nil)
		testutil.Must(t, err)
		testutil.Must(t, <-done)
		l.Close()
	}
	if os.Geteuid() != 0 {
		lc.Owner = &imsg.Owner{UID: 0, GID: -1}
		_, err := lc.Listen(testutil.DeadlineCtx(t), path, nil)
		testutil.WantError(t, "another owner", err, syscall.EPERM)
	}
	testutil.Equal(t, "the socket exists", exists(path), false)
}

func TestRemoveStale(t *testing.T) {
	testutil.NoLeak(t)
	ctx := testutil.DeadlineCtx(t)
	lc := imsg.ListenConfig{RemoveStale: true}
	for what, tt := range map[string]struct {
		make func(path string)
		want error
	}{
		"nothing": {func(string) {}, nil},
		"stale":   {func(path string) { stale(t, path) }, nil},
		"file": {func(path string) {
			testutil.Must(t, os.WriteFile(path, []byte("precious"), 0o600))
		}, syscall.EADDRINUSE},
		"listens": {func(path string) {
			testutil.Must(t, unix.Listen(bound(t, path, unix.SOCK_STREAM), 1))
		}, syscall.EADDRINUSE},
		"does not listen yet": {func(path string) { bound(t, path, unix.SOCK_STREAM) }, syscall.EADDRINUSE},
		"datagram":            {func(path string) { bound(t, path, unix.SOCK_DGRAM) }, syscall.EADDRINUSE},
		"seqpacket":           {func(path string) { bound(t, path, unix.SOCK_SEQPACKET) }, syscall.EADDRINUSE},
	} {
		path := socketPath(t)
		tt.make(path)
		before, _ := os.Lstat(path)
		if before != nil { // without being asked it removes nothing
			_, err := imsg.Listen(path, nil)
			testutil.WantError(t, fmt.Sprintf("%s: Listen", what), err, syscall.EADDRINUSE)
		}
		l, err := lc.Listen(ctx, path, nil)
		testutil.WantError(t, what, err, tt.want)
		testutil.Equal(t, what+": the lock exists", exists(path+".lock"), false)
		if err != nil {
			if after, _ := os.Lstat(path); !os.SameFile(before, after) {
				t.Errorf("%s: it was removed", what)
			}
			continue
		}
		answers(t, l, path)
		l.Close()
	}

	// Who holds the lock is waited for, and ctx ends the wait.
	path := socketPath(t)
	lock, err := os.Create(path + ".lock")
	testutil.Must(t, err)
	defer lock.Close()
	testutil.Must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	cancelled, cancel := context.WithCancel(ctx)
	go func() { testutil.WaitBlocked(t, 1, "lockPath"); cancel() }()
	_, err = lc.Listen(cancelled, path, nil)
	testutil.WantError(t, "locked", err, context.Canceled)
}

// TestRemoveStaleTogether starts many listeners where a stale socket is: one
// gets the path, and nobody removes it.
func TestRemoveStaleTogether(t *testing.T) {
	testutil.NoLeak(t)
	path := socketPath(t)
	lc := imsg.ListenConfig{RemoveStale: true}
	for range 50 {
		stale(t, path)
		const n = 8
		var wg sync.WaitGroup
		winners := make(chan *imsg.Listener, n)
		begin := make(chan struct{})
		for range n {
			wg.Go(func() {
				<-begin
				l, err := lc.Listen(testutil.DeadlineCtx(t), path, nil)
				if err == nil {
					winners <- l
				} else if !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
				}
			})
		}
		close(begin)
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d listeners", len(winners))
		}
		l := <-winners
		answers(t, l, path)
		l.Close()
	}
}

// TestCloseKeepsSuccessor closes a listener whose path another one has got.
func TestCloseKeepsSuccessor(t *testing.T) {
	testutil.NoLeak(t)
	old, path := listen(t, nil)
	testutil.Must(t, os.Remove(path))
	l, err := imsg.Listen(path, nil)
	testutil.Must(t, err)
	testutil.Check(t, old.Close())
	answers(t, l, path)
	l.Close()
	testutil.Equal(t, "the socket exists", exists(path), false)
}

// TestHandOver gives the socket to another Listener.
func TestHandOver(t *testing.T) {
	testutil.NoLeak(t)
	l, path := listen(t, nil)
	f, err := l.File()
	testutil.Must(t, err)
	l.SetUnlinkOnClose(false)
	next, err := imsg.FileListener(f, nil)
	f.Close()
	testutil.Must(t, err)
	answers(t, next, path)
	l.Close()
	answers(t, next, path)
	testutil.Equal(t, "address", next.Addr().String(), path)
	next.Close()
	testutil.Equal(t, "the path that Close was not asked to remove exists", exists(path), true)
	_, err = l.File()
	testutil.WantError(t, "File after Close", err, net.ErrClosed)

	// What package net has made is not removed either, unless that is asked for.
	for _, unlink := range []bool{false, true} {
		os.Remove(path)
		nl, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		testutil.Must(t, err)
		l, err := imsg.NewListener(nl, nil)
		testutil.Must(t, err)
		if unlink {
			l.SetUnlinkOnClose(true)
		}
		answers(t, l, path)
		if l.Close(); exists(path) == unlink {
			t.Errorf("SetUnlinkOnClose(%v): exists %v", unlink, exists(path))
		}
	}
}

// TestListenerModeChanged lets a holder of a duplicate make the socket
// blocking, as os/exec does: Accept still ends with its context.
func TestListenerModeChanged(t *testing.T) {
	testutil.NoLeak(t)
	l, path := listen(t, nil)
	f, err := l.File()
	testutil.Must(t, err)
	defer f.Close()
	testutil.Must(t, unix.SetNonblock(int(f.Fd()), false))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { testutil.WaitBlocked(t, 1, "(*Listener).Accept"); cancel() }()
	testutil.Within(t, "Accept", func() {
		_, err := l.Accept(ctx)
		testutil.WantError(t, "Accept", err, context.Canceled)
	})
	answers(t, l, path)
}

func TestListenerKind(t *testing.T) {
	testutil.NoLeak(t)
	path := socketPath(t)
	nl, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Skip(err)
	}
	defer nl.Close()
	if _, err := imsg.NewListener(nl, nil); !errors.Is(err, syscall.EPROTOTYPE) || !strings.Contains(err.Error(), "seqpacket") {
		t.Errorf("NewListener of a seqpacket socket: %v", err)
	}
	null := testutil.OwnFile(t)
	_, err = imsg.FileListener(null, nil)
	testutil.WantError(t, "FileListener of /dev/null", err, syscall.ENOTSOCK)
}

func TestAbstractName(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has abstract names")
	}
	testutil.NoLeak(t)
	name := fmt.Sprintf("@imsg-test-%d", os.Getpid())
	for _, name := range []string{name, name + strings.Repeat("x", 107-len(name))} {
		lc := imsg.ListenConfig{RemoveStale: true}
		l, err := lc.Listen(testutil.DeadlineCtx(t), name, nil)
		testutil.Must(t, err)
		testutil.Equal(t, "address", l.Addr().String(), name)
		answers(t, l, name)
		f, err := l.File()
		testutil.Must(t, err)
		next, err := imsg.FileListener(f, nil)
		f.Close()
		testutil.Must(t, err)
		answers(t, next, name)
		next.Close()
		testutil.Check(t, l.Close())
	}
	lc := imsg.ListenConfig{Mode: 0o600}
	_, err := lc.Listen(testutil.DeadlineCtx(t), name, nil)
	testutil.WantError(t, "an abstract name with a mode", err, syscall.EINVAL)
}

func TestListenErrors(t *testing.T) {
	testutil.NoLeak(t)
	path := socketPath(t)
	long := path + strings.Repeat("x", 200)
	limit := fmt.Sprintf("path of %d bytes, limit %d", len(long), len(syscall.RawSockaddrUnix{}.Path)-1)
	for bad, text := range map[string]string{long: limit, "": "", path + "\x00x": ""} {
		_, derr := imsg.Dial(testutil.DeadlineCtx(t), bad, nil)
		_, lerr := imsg.Listen(bad, nil)
		for _, err := range []error{derr, lerr} {
			if !errors.Is(err, syscall.EINVAL) || !strings.Contains(fmt.Sprint(err), text) {
				t.Errorf("%q: %v, want EINVAL and %q", bad, err, text)
			}
		}
	}
	testutil.Equal(t, "what is at a cut path exists", exists(path), false)
	// The longest that is possible.
	longest := path + strings.Repeat("x", len(syscall.RawSockaddrUnix{}.Path)-1-len(path))
	l, err := imsg.Listen(longest, nil)
	testutil.Must(t, err)
	answers(t, l, longest)
	l.Close()
	lc := imsg.ListenConfig{RemoveStale: true}
	_, err = lc.Listen(testutil.DeadlineCtx(t), filepath.Dir(path)+"/no/such", nil)
	testutil.WantError(t, "no directory", err, fs.ErrNotExist)
}

// TestServe answers many clients at a time, and ends with its handlers.
func TestServe(t *testing.T) {
	for _, end := range []string{"context", "Close"} {
		testutil.NoLeak(t)
		l, path := listen(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		running := make(chan struct{})
		served := testutil.Go(func() error {
			return l.Serve(ctx, func(ctx context.Context, c *imsg.Conn) {
				for m, err := range c.All(ctx) {
					if err != nil {
						return
					}
					h := m.Header()
					m.Close()
					if h.Type == 2 { // stays until it is told
						running <- struct{}{}
						<-running
						return
					}
					c.Send(ctx, h, nil)
				}
			})
		})
		request := func(typ uint32) *imsg.Conn {
			c := dial(t, path, nil)
			testutil.Must(t, c.Send(testutil.DeadlineCtx(t), imsg.Header{Type: typ}, nil))
			return c
		}
		for range 8 {
			c := request(1)
			testutil.ReceiveAll(t, c, 1)
			if end == "Close" {
				c.Close() // or its handler waits for more
			}
		}
		c := request(2)
		<-running
		want := net.ErrClosed
		if end == "context" {
			want = context.Canceled
			cancel()
		} else {
			l.Close()
		}
		select {
		case err := <-served:
			t.Fatalf("%s: Serve has returned before its handler: %v", end, err)
		default:
		}
		running <- struct{}{}
		testutil.WantError(t, end, <-served, want)
		if _, err := c.Receive(testutil.DeadlineCtx(t)); err == nil {
			t.Error("the handler's Conn is still open")
		}
		cancel()
		l.Close()
	}
}

// TestServeFullTable serves while no descriptor is free: it waits, uses no
// processor meanwhile, and goes on when there is room.
func TestServeFullTable(t *testing.T) {
	if !testutil.InChild(t, func(*exec.Cmd) {}) {
		return
	}
	testutil.SetMaxFiles(t, 64)
	l, path := listen(t, nil)
	dial(t, path, nil)
	free := testutil.FillTable(t)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan struct{})
	served := testutil.Go(func() error { return l.Serve(ctx, func(context.Context, *imsg.Conn) { close(got) }) })
	testutil.WaitBlocked(t, 1, "(*Listener).backOff")
	free()
	testutil.Within(t, "the client is served", func() { <-got })
	cancel()
	testutil.WantError(t, "Serve", <-served, context.Canceled)
}
