//go:build imsgfault && linux

package fault_test

import (
	"errors"
	"os"
	"testing"
	"unsafe"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// TestFaultFile: every errno by which a kernel refuses to pass one file costs
// that message, whatever the errno says of other calls.
func TestFaultFile(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EBADF, unix.EINVAL, unix.EOPNOTSUPP, unix.EPERM, unix.EACCES} {
		for _, queued := range []bool{false, true} {
			t.Run(unix.ErrnoName(errno), func(t *testing.T) {
				testutil.NoLeak(t)
				w := newWorld(t)
				w.begin(nil)
				a, b := imsgtest.Pair(t, nil)
				ctx := testutil.DeadlineCtx(t)
				w.let(func(_ int, c unixmsg.Call) unixmsg.Fault {
					if c.File {
						return unixmsg.Fault{Errno: errno}
					}
					return unixmsg.Fault{}
				})
				p := newPipeFile(w)
				h := imsg.Header{Type: 1}
				var err error
				if queued {
					testutil.Must(t, a.Compose(h, p.w, testutil.Pattern(1, 100)))
					err = a.Flush(ctx)
				} else {
					err = a.Send(ctx, h, p.w, testutil.Pattern(1, 100))
				}
				if !errors.Is(err, imsg.ErrFileNotSent) || !errors.Is(err, errno) {
					t.Errorf("%v, want %v", err, errno)
				}
				if !queued {
					p.closeOurs(w)
				}
				testutil.Check(t, a.Send(ctx, imsg.Header{Type: 2}, nil, testutil.Pattern(2, 5)))
				w.let(nil)
				testutil.ReceiveAll(t, b, 2)
				p.end(w)
			})
		}
	}
}

// TestFaultIOURing passes an io_uring, which Linux refuses since 6.7.
func TestFaultIOURing(t *testing.T) {
	var params [120]byte
	r, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		t.Skip("no io_uring: ", errno)
	}
	fd := int(r)
	testutil.NoLeak(t)
	defer unix.Close(fd)
	a, b := imsgtest.Sockets(t)
	if err := unix.Sendmsg(a.FD, []byte("x"), unix.UnixRights(fd), nil, 0); err == nil {
		unix.Close(b.Take())
		t.Skip("this kernel passes an io_uring")
	}
	out, in := imsgtest.Pair(t, nil)
	fd, err := unixmsg.Dup(fd)
	testutil.Must(t, err)
	f := os.NewFile(uintptr(fd), "io_uring")
	ctx := testutil.DeadlineCtx(t)
	testutil.Must(t, out.Compose(imsg.Header{Type: 1}, f))
	testutil.Must(t, out.Compose(imsg.Header{Type: 2}, nil))
	if err := out.Flush(ctx); !errors.Is(err, imsg.ErrFileNotSent) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("%v, want EINVAL", err)
	}
	testutil.ReceiveAll(t, in, 2)
}
