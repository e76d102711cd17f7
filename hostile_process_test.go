package imsg_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// startChild runs the calling test in another process, with one side of a
// channel as descriptor 3, or as standard output. There inside is true.
func startChild(t *testing.T, stdout bool) (inside bool, c *imsg.Conn, cmd *exec.Cmd) {
	t.Helper()
	if os.Getenv(testutil.ChildEnv) == t.Name() {
		return true, nil, nil
	}
	a, b := imsgtest.Pair(t, nil)
	f, err := b.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), testutil.ChildEnv+"="+t.Name())
	cmd.Stderr = os.Stderr
	if stdout {
		cmd.Stdout = f
	} else {
		cmd.ExtraFiles = []*os.File{f}
	}
	if err := cmd.Start(); err != nil {
		testutil.NeedExec(t, err)
		t.Fatal(err)
	}
	b.Close()
	return false, a, cmd
}

// TestProcessKilled kills the peer while it owes us half a message and we wait
// for it both ways.
func TestProcessKilled(t *testing.T) {
	inside, c, cmd := startChild(t, false)
	if inside {
		p := append(testutil.Frame(imsg.Current, 1, 10, false), testutil.Frame(imsg.Current, 2, 10, false)[:20]...)
		if _, err := unix.Write(3, p); err != nil {
			t.Fatal(err)
		}
		unix.Poll(nil, 60_000) // until we are killed
		t.Fatal("not killed")
	}
	ctx := testutil.DeadlineCtx(t)
	testutil.ReceiveAll(t, c, 1)
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() {
		for {
			if err := c.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, 10_000)); err != nil {
				sent <- err
				return
			}
		}
	}()
	go func() { _, err := c.Receive(ctx); received <- err }()
	testutil.WaitBlocked(t, 1, "(*Conn).Send")
	testutil.WaitBlocked(t, 1, "(*Conn).Receive")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("send: %v", err)
	}
	if err := <-received; !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("receive: %v", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
}

// TestProcessExits receives what a process sent, with a file, before it ended.
func TestProcessExits(t *testing.T) {
	inside, c, cmd := startChild(t, false)
	if inside {
		b := imsg.NewBuf(3, &imsg.Config{AllowFDPass: true})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("from the dead"))
		w.Close()
		if err := errors.Join(
			b.Compose(imsg.Header{Type: 1}, r, testutil.Pattern(1, 3)),
			b.Compose(imsg.Header{Type: 2}, nil, testutil.Pattern(2, 3)),
			b.Flush()); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	m, err := c.Receive(testutil.DeadlineCtx(t))
	if err != nil {
		t.Fatal(err)
	}
	testutil.CheckFrame(t, m, 1, 3)
	if m.PID() != int32(cmd.Process.Pid) {
		t.Errorf("pid %d, want %d", m.PID(), cmd.Process.Pid)
	}
	f := m.TakeFile()
	p, err := io.ReadAll(f)
	if err != nil || string(p) != "from the dead" {
		t.Errorf("the file: %q, %v", p, err)
	}
	f.Close()
	m.Close()
	testutil.ReceiveAll(t, c, 2)
	if _, err := c.Receive(testutil.DeadlineCtx(t)); err != io.EOF {
		t.Errorf("%v, want io.EOF", err)
	}
}

// TestNoSIGPIPE writes to a channel on standard output whose peer is gone: an
// error, and not the signal that ends other programs.
func TestNoSIGPIPE(t *testing.T) {
	inside, c, cmd := startChild(t, true)
	if inside {
		for _, files := range []bool{false, true} {
			b := imsg.NewBuf(1, &imsg.Config{AllowFDPass: files})
			for { // the parent is gone when the first write fails
				if err := b.Compose(imsg.Header{Type: 1}, nil, []byte("x")); err != nil {
					if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
						t.Fatal(err)
					}
					break
				}
				b.Flush()
			}
		}
		conn, err := imsg.NewConn(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("Conn: %v, want EPIPE", err)
		}
		os.Exit(0) // the test's own report would go to the channel
	}
	m, err := c.Receive(testutil.DeadlineCtx(t))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	c.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
}
