package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/tmux"
)

// A cutter stands between a client and a server, and hangs up on both after a
// number of the client's bytes, as if the client had been killed there.
type cutter struct {
	t      *testing.T
	l      *net.UnixListener
	server string
	work   sync.WaitGroup

	mu   sync.Mutex
	skip int // connections that are left alone
	left int // bytes of the next one
	sent []byte
	over chan struct{} // closed when it has ended
}

// newCutter makes one at the path "cut" in dir.
func newCutter(t *testing.T, dir, server string) *cutter {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "cut"), Net: "unix"})
	testutil.Must(t, err)
	c := &cutter{t: t, l: l, server: server}
	c.set(0, 1<<30)
	c.work.Go(func() {
		for {
			client, err := l.AcceptUnix()
			if err != nil {
				return
			}
			c.work.Go(func() { c.join(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.work.Wait()
	})
	return c
}

// set says where to cut: the connection after the next skip ones, behind n
// bytes.
func (c *cutter) set(skip, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skip, c.left, c.sent, c.over = skip, n, nil, make(chan struct{})
}

// whole returns what the client has sent on the connection, which ends.
func (c *cutter) whole() []byte {
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	<-over
	return c.sent
}

// join passes bytes and files on until the client's are used up.
func (c *cutter) join(client *net.UnixConn) {
	defer client.Close()
	server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.server, Net: "unix"})
	if err != nil {
		return // the test will notice
	}
	c.mu.Lock()
	cut := c.skip == 0
	c.skip--
	over := c.over
	c.mu.Unlock()
	if cut {
		defer close(over)
	}
	c.work.Go(func() {
		io.Copy(struct{ io.Writer }{client}, struct{ io.Reader }{server})
		client.CloseWrite()
	})
	defer server.Close()
	p, oob := make([]byte, 64<<10), make([]byte, 64)
	for {
		n, on, _, _, err := client.ReadMsgUnix(p, oob)
		n = max(n, 0) // -1 with an error
		end := err != nil || n == 0
		if cut {
			c.mu.Lock()
			if end = end || n >= c.left; n > c.left {
				n = c.left
			}
			c.left -= n
			c.sent = append(c.sent, p[:n]...)
			c.mu.Unlock()
		}
		if n > 0 {
			server.WriteMsgUnix(p[:n], oob[:on], nil)
		}
		for _, fd := range rights(oob[:on]) {
			syscall.Close(fd)
		}
		if end {
			return
		}
	}
}

func rights(oob []byte) (fds []int) {
	messages, _ := syscall.ParseSocketControlMessage(oob)
	for _, m := range messages {
		f, _ := syscall.ParseUnixRights(&m)
		fds = append(fds, f...)
	}
	return fds
}

// A client that goes away at any byte of what it has to say leaves the server
// alive, whatever it was doing. tmux 3.3a and 3.5a end when a control client is
// cut between LONGFLAGS and the end of DONE: nothing can cut ours there, since
// these 40 bytes begin a system call (TestIdentifyCutEverywhere).
func TestTmuxCutClient(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		cut := newCutter(t, s.dir, s.socket)
		cfg := &tmux.Config{Dir: s.dir, Env: []string{"A=b"}}
		direct := s.client(t, ctx)
		if r, err := direct.Run(ctx, "set-buffer", "-b", "text", "some text"); err != nil || r.Err() != nil {
			t.Fatal(err, r.Err())
		}
		c, err := tmux.Dial(ctx, filepath.Join(s.dir, "cut"), cfg)
		testutil.Must(t, err)
		channels := 0
		for _, tt := range []struct {
			name string
			skip int // the question for the version
			run  func(ctx context.Context) error
		}{
			{"control", 1, func(ctx context.Context) error {
				k, err := c.Control(ctx, "peer")
				if err == nil {
					k.Close()
				}
				return err
			}},
			{"print", 0, func(ctx context.Context) error {
				_, err := c.Run(ctx, "display-message", "-p", "x")
				return err
			}},
			{"load", 0, func(ctx context.Context) error {
				return c.LoadBuffer(ctx, "loaded", bytes.NewReader(make([]byte, 100)))
			}},
			{"save", 0, func(ctx context.Context) error { return c.SaveBuffer(ctx, "text", io.Discard) }},
			{"wait", 0, func(ctx context.Context) error {
				channels++
				channel := fmt.Sprintf("channel%04d", channels)
				direct.Run(ctx, "wait-for", "-S", channel)
				return c.WaitFor(ctx, channel)
			}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				cut.set(tt.skip, 1<<30)
				testutil.Must(t, tt.run(ctx))
				whole := cut.whole()
				begin, end := fragile(t, whole)
				for n := range whole {
					if n > begin && n < end && tt.name == "control" {
						continue
					}
					cut.set(tt.skip, n)
					tt.run(ctx) // may succeed, if it is cut after the end
					if ctx.Err() != nil {
						t.Fatalf("cut after %d of %d bytes: %v", n, len(whole), ctx.Err())
					}
					if _, err := direct.Run(ctx, "has-session", "-t", "peer"); err != nil {
						t.Fatalf("the server after a cut after %d of %d bytes: %v", n, len(whole), err)
					}
				}
			})
		}
		s.alive(t, "afterwards")
	})
}

// fragile tells where LONGFLAGS begins and DONE ends.
func fragile(t *testing.T, p []byte) (begin, end int) {
	t.Helper()
	for i := 0; i < len(p); {
		h, n, _ := imsg.Current.Decode(p[i:], binary.NativeEndian)
		switch h.Type {
		case tmuxLongFlags:
			begin = i
		case tmuxDone:
			return begin, i + n
		}
		i += n & 0xffff // without the mark of a file, in either dialect
	}
	t.Fatal("no DONE")
	return 0, 0
}

// Attaches that are cancelled at any time leave the server alive.
func TestTmuxCancelledControl(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		for i := range 200 {
			short, cancel := context.WithTimeout(ctx, time.Duration(rand.Int64N(int64(4*time.Millisecond))))
			if k, err := c.Control(short, "peer"); err == nil {
				k.Close()
			}
			cancel()
			if _, err := c.Run(ctx, "has-session", "-t", "peer"); err != nil {
				t.Fatalf("the server after %d cancelled attaches: %v", i+1, err)
			}
		}
		s.alive(t, "afterwards")
	})
}

// tmuxChild is set in a process that attaches again and again until it is
// killed.
const tmuxChild = "IMSG_TEST_TMUX_CHILD"

func tmuxChildMain(socket string) {
	ctx := context.Background()
	c, err := tmux.Dial(ctx, socket, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		k, err := c.Control(ctx, "peer")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("attached")
		if os.Getenv("IMSG_TEST_TMUX_STAY") != "" {
			<-k.Events()
			select {}
		}
		k.Close()
	}
}

// child starts such a process and waits until it has attached once.
func (s *tmuxServer) child(t *testing.T, ctx context.Context, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	testutil.Must(t, err)
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), append(env, tmuxChild+"="+s.socket)...)
	r, w := pipe(t)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	testutil.Must(t, cmd.Start())
	w.Close()
	p := make([]byte, 8)
	r.SetReadDeadline(time.Now().Add(limit))
	if _, err := io.ReadFull(r, p); err != nil || string(p) != "attached" {
		rest, _ := io.ReadAll(r)
		t.Fatalf("%s%s: %v", p, rest, err)
	}
	go io.Copy(io.Discard, r) // until it is killed
	return cmd
}

func TestTmuxKilledControl(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		for i := range 30 {
			cmd := s.child(t, ctx)
			for range rand.IntN(2000) {
				runtime.Gosched()
			}
			cmd.Process.Kill()
			cmd.Wait()
			if _, err := c.Run(ctx, "has-session", "-t", "peer"); err != nil {
				t.Fatalf("the server after %d killed clients: %v", i+1, err)
			}
		}
		s.alive(t, "afterwards")
	})
}

// A control client that does not run at all does not stop the server while a
// pane writes 10 MB. The pane itself may wait for it, as with tmux 3.3a.
func TestTmuxStoppedControl(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		cmd := s.child(t, ctx, "IMSG_TEST_TMUX_STAY=1")
		defer func() {
			cmd.Process.Kill()
			cmd.Wait()
		}()
		cmd.Process.Signal(syscall.SIGSTOP)
		over := s.flood(t, ctx)
		s.alive(t, "with a stopped client")
		cmd.Process.Kill()
		over()
		s.alive(t, "afterwards")
	})
}

// flood lets a pane write 10 MB, and checks that the server answers meanwhile.
// What it returns waits until all is written.
func (s *tmuxServer) flood(t *testing.T, ctx context.Context) (over func()) {
	t.Helper()
	c := s.client(t, ctx)
	s.pane(t, ctx, fmt.Sprintf("head -c 10000000 /dev/zero | tr '\\0' x; %s -S %s wait-for -S flooded", strings.Join(s.argv, " "), s.socket))
	for range 5 {
		if r := s.tmux(t, ctx, "", "ls"); r.status != 0 {
			t.Errorf("ls: %v", r)
		}
	}
	return func() {
		t.Helper()
		if err := c.WaitFor(ctx, "flooded"); err != nil {
			t.Errorf("the pane: %v", err)
		}
	}
}
