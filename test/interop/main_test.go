package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(tmuxChild); socket != "" {
		tmuxChildMain(socket)
		os.Exit(1)
	}
	imsgtest.Main(m)
}

// limit bounds every test here. On a machine with nothing else to do most take a
// part of a second.
const limit = time.Minute

// bounded returns a context for one test.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// missing skips a test that lacks its peer. Where all are promised to be
// there, it fails.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// unpacked returns the command line of a program below the directory that an
// environment variable names: run by the loader there, if there is one, because
// the program may need newer libraries than the system has.
func unpacked(t testing.TB, env, program string) []string {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		missing(t, "%s is not set", env)
	}
	path := filepath.Join(dir, program)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	loaders, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*/ld-linux*.so.*"))
	if len(loaders) == 0 {
		return []string{path}
	}
	return []string{loaders[0], "--library-path", filepath.Dir(loaders[0]), path}
}

// A child is a program that has the other side of our socket.
type child struct {
	t      *testing.T
	ctx    context.Context
	cmd    *exec.Cmd
	stderr bytes.Buffer
	socket *imsgtest.Socket // ours, until conn is called
}

// start starts a program that finds its side of a socket pair at descriptor 0
// or 3.
func start(t *testing.T, fd int, argv ...string) *child {
	t.Helper()
	ours, theirs := imsgtest.Sockets(t)
	f := os.NewFile(uintptr(theirs.Take()), "child")
	defer f.Close()
	c := &child{t: t, ctx: bounded(t), socket: ours}
	c.cmd = exec.CommandContext(c.ctx, argv[0], argv[1:]...)
	c.cmd.Env = []string{"PATH=/usr/bin:/bin"}
	c.cmd.Stderr = &c.stderr
	if fd == 0 {
		c.cmd.Stdin = f
	} else {
		c.cmd.ExtraFiles = []*os.File{f}
	}
	testutil.Must(t, c.cmd.Start())
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.cmd.Process.Kill()
			c.cmd.Wait()
		}
	})
	return c
}

// conn makes a Conn of our side.
func (c *child) conn(d imsg.Dialect) *imsg.Conn {
	c.t.Helper()
	fd := c.socket.Take()
	conn, err := imsg.NewConn(fd, &imsg.Config{Dialect: d, AllowFDPass: true})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// exit waits for the child and checks its exit status.
func (c *child) exit(want int) {
	c.t.Helper()
	err := c.cmd.Wait()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		c.t.Fatal(err)
	}
	if got := c.cmd.ProcessState.ExitCode(); got != want {
		c.t.Errorf("exit status %d, want %d; stderr: %s", got, want, c.stderr.Bytes())
	}
}

// send sends one message without a file.
func send(t *testing.T, ctx context.Context, c *imsg.Conn, h imsg.Header, data ...[]byte) {
	t.Helper()
	testutil.Must(t, c.Send(ctx, h, nil, data...))
}

// expect receives a message of the type wanted and returns a copy of its
// payload.
func expect(t *testing.T, ctx context.Context, c *imsg.Conn, typ uint32) []byte {
	t.Helper()
	m, err := c.Receive(ctx)
	if err != nil {
		t.Fatalf("waiting for type %d: %v", typ, err)
	}
	defer m.Close()
	if m.Type() != typ {
		t.Fatalf("type %d came, want %d: % x", m.Type(), typ, m.Bytes())
	}
	return bytes.Clone(m.Bytes())
}

// expectEnd receives until the peer hangs up, and fails if anything comes
// before. A peer that hung up without having read everything resets.
func expectEnd(t *testing.T, ctx context.Context, c *imsg.Conn) {
	t.Helper()
	m, err := c.Receive(ctx)
	if err == nil {
		t.Errorf("type %d came, want the end: % x", m.Type(), m.Bytes())
		m.Close()
	} else if !hungUp(err) {
		t.Errorf("error %v, want the end", err)
	}
}

// hungUp reports whether err is how a peer that closed its side is noticed.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// encode puts fields one behind the other: numbers in host byte order, strings
// with a NUL behind them.
func encode(fields ...any) (p []byte) {
	for _, v := range fields {
		if s, ok := v.(string); ok {
			p = append(append(p, s...), 0)
		} else {
			p, _ = binary.Append(p, binary.NativeEndian, v)
		}
	}
	return p
}

// number decodes the i-th of the 32-bit numbers in a payload.
func number(t *testing.T, p []byte, i int) int32 {
	t.Helper()
	if len(p) < 4*i+4 {
		t.Fatalf("payload of %d bytes has no number %d", len(p), i)
	}
	return int32(binary.NativeEndian.Uint32(p[4*i:]))
}
