package imsg_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/internal/testutil"
)

// TestStartChild talks to a child that sends back what it gets, on several
// descriptors, and ends when its parent closes the channel.
func TestStartChild(t *testing.T) {
	for _, fd := range []int{0, 3, 5} {
		t.Run(fmt.Sprint(fd), func(t *testing.T) {
			testutil.NoLeak(t)
			cmd := exec.Command("sh", "-c", fmt.Sprintf("cat <&%d >&%d", fd, fd))
			c, err := imsg.StartChild(cmd, fd, nil)
			testutil.Must(t, err)
			ctx := testutil.DeadlineCtx(t)
			testutil.Must(t, c.Send(ctx, imsg.Header{Type: 7, ID: 8}, nil, []byte("to and fro")))
			m := testutil.Receive(t, c)
			if m.Type() != 7 || m.ID() != 8 || string(m.Bytes()) != "to and fro" {
				t.Errorf("%+v, %q", m.Header(), m.Bytes())
			}
			m.Close()
			c.Close()
			testutil.Check(t, cmd.Wait())
		})
	}
}

// TestStartChildGone sees the end of a child as the end of its channel.
func TestStartChildGone(t *testing.T) {
	testutil.NoLeak(t)
	cmd := exec.Command("true")
	c, err := imsg.StartChild(cmd, 3, nil)
	testutil.Must(t, err)
	defer c.Close()
	if _, err := c.Receive(testutil.DeadlineCtx(t)); err != io.EOF {
		t.Error(err)
	}
	testutil.Check(t, cmd.Wait())
}

func TestStartChildFails(t *testing.T) {
	testutil.NoLeak(t)
	used := func(fd int) *exec.Cmd {
		cmd := exec.Command("true")
		switch fd {
		case 0:
			cmd.Stdin = os.Stdin
		case 1:
			cmd.Stdout = os.Stderr
		case 2:
			cmd.Stderr = os.Stderr
		default:
			cmd.ExtraFiles = make([]*os.File, fd-2)
			cmd.ExtraFiles[fd-3] = os.Stderr
		}
		return cmd
	}
	for _, c := range []struct {
		cmd *exec.Cmd
		fd  int
		is  error
	}{
		{exec.Command("/nonexistent"), 3, os.ErrNotExist},
		{exec.Command("true"), -1, ibuf.ErrInvalid},
		{used(0), 0, ibuf.ErrInvalid},
		{used(1), 1, ibuf.ErrInvalid},
		{used(2), 2, ibuf.ErrInvalid},
		{used(4), 4, ibuf.ErrInvalid},
	} {
		if _, err := imsg.StartChild(c.cmd, c.fd, nil); !errors.Is(err, c.is) {
			t.Errorf("descriptor %d: %v, want %v", c.fd, err, c.is)
		}
		if c.cmd.Process != nil {
			t.Errorf("descriptor %d: started", c.fd)
		}
	}
}
