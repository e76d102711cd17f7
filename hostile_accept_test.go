package imsg_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// TestAcceptFullTable accepts with no, one and two descriptors free. A client
// that could not be accepted yet must not be turned away.
func TestAcceptFullTable(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t)
	for free := range 3 {
		t.Run(fmt.Sprintf("%d free", free), func(t *testing.T) {
			testutil.NoLeak(t)
			l, path := listen(t, nil)
			client, err := imsg.Dial(testutil.DeadlineCtx(t), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			if err := client.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil, testutil.Pattern(1, 3)); err != nil {
				t.Fatal(err)
			}
			var reserve []int
			for range free {
				fd, err := unix.Dup(0)
				if err != nil {
					t.Fatal(err)
				}
				reserve = append(reserve, fd)
			}
			release := testutil.FillTable(t)
			for _, fd := range reserve {
				unix.Close(fd)
			}
			server, err := l.Accept(testutil.DeadlineCtx(t))
			release()
			var oe *imsg.OpError
			if err != nil && (!errors.Is(err, syscall.EMFILE) || !errors.As(err, &oe)) {
				t.Errorf("Accept: %v, want EMFILE", err)
			}
			if err != nil {
				if server, err = l.Accept(testutil.DeadlineCtx(t)); err != nil {
					t.Fatalf("the client was turned away: %v", err)
				}
			}
			testutil.ReceiveAll(t, server, 1)
			server.Close()
		})
	}
}
