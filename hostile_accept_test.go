package imsg_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// TestAcceptFullTable accepts with no, one and two descriptors free. A client
// that could not be accepted yet must not be turned away.
func TestAcceptFullTable(t *testing.T) {
	if !inChild(t, nil) {
		return
	}
	setMaxFiles(t)
	for free := range 3 {
		t.Run(fmt.Sprintf("%d free", free), func(t *testing.T) {
			noLeak(t)
			l, path := listen(t, nil)
			client, err := imsg.Dial(deadlineCtx(t), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			if err := client.Send(deadlineCtx(t), imsg.Header{Type: 1}, nil, pattern(1, 3)); err != nil {
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
			release := fillTable(t)
			for _, fd := range reserve {
				unix.Close(fd)
			}
			server, err := l.Accept(deadlineCtx(t))
			release()
			var oe *imsg.OpError
			if err != nil && (!errors.Is(err, syscall.EMFILE) || !errors.As(err, &oe)) {
				t.Errorf("Accept: %v, want EMFILE", err)
			}
			if err != nil {
				if server, err = l.Accept(deadlineCtx(t)); err != nil {
					t.Fatalf("the client was turned away: %v", err)
				}
			}
			receiveAll(t, server, 1)
			server.Close()
		})
	}
}
