//go:build imsgfault && linux

package fault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// forbidden makes every call of one name fail.
type forbidden struct {
	name  string
	errno unix.Errno
}

func (f forbidden) Ask(c unixmsg.Call) (fault unixmsg.Fault) {
	if c.Name == f.name {
		fault.Errno = f.errno
	}
	return fault
}

func (f forbidden) Tell(unixmsg.Call, unixmsg.Fault, unixmsg.Result) {}

// TestOptionalCalls runs without calls that an old kernel does not have or a
// filter forbids: channels work, and a descriptor that is no socket is still
// refused.
func TestOptionalCalls(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"getsockopt", "setsockopt", "recvmmsg"} {
		for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES, unix.ENOPROTOOPT, unix.EINVAL} {
			t.Run(fmt.Sprintf("%s/%s", name, unix.ErrnoName(errno)), func(t *testing.T) {
				unixmsg.SetHook(forbidden{name, errno})
				t.Cleanup(func() { unixmsg.SetHook(nil) })
				path := t.TempDir() + "/s"
				cfg := &imsg.Config{AllowFDPass: name != "setsockopt"}
				l, err := imsg.Listen(path, cfg)
				testutil.Must(t, err)
				defer l.Close()
				a, err := imsg.Dial(ctx, path, cfg)
				testutil.Must(t, err)
				defer a.Close()
				b, err := l.Accept(ctx)
				testutil.Must(t, err)
				defer b.Close()
				null, err := os.Open(os.DevNull)
				testutil.Must(t, err)
				defer null.Close()
				file := null
				if !cfg.AllowFDPass {
					file = nil
				}
				const n = 20
				for i := range uint32(n) {
					testutil.Must(t, a.Send(ctx, imsg.Header{Type: i}, file))
				}
				for i := range uint32(n) {
					m, err := b.Receive(ctx)
					testutil.Must(t, err)
					if m.Type() != i || m.FileErr() != nil || m.HasFile() != (file != nil) {
						t.Errorf("message %d: type %d, file %v, %v", i, m.Type(), m.HasFile(), m.FileErr())
					}
					m.Close()
				}
				if c, err := imsg.FileConn(null, nil); !errors.Is(err, unix.ENOTSOCK) {
					t.Errorf("a channel of /dev/null: %v, %v", c, err)
				}
			})
		}
	}
}
