package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
)

// Messages of tmux. Each has tmuxVersion in the id of its header and -1 in pid.
const (
	tmuxTerm      = 101 // -> string
	tmuxTTYName   = 102 // -> string
	tmuxStdin     = 104 // -> with a file
	tmuxDone      = 106 // ->
	tmuxStdout    = 110 // -> with a file
	tmuxLongFlags = 111 // -> u64
	tmuxCommand   = 200 // -> i32 number of arguments, strings
	tmuxExit      = 203 // <- i32 status
	tmuxExited    = 204 // <-
	tmuxExiting   = 205 // ->

	tmuxReadOpen   = 300 // <- i32 stream, i32 descriptor, string
	tmuxRead       = 301 // -> i32 stream, bytes
	tmuxReadDone   = 302 // -> i32 stream, i32 errno
	tmuxWriteOpen  = 303 // <- i32 stream, i32 descriptor, i32 flags, string
	tmuxWrite      = 304 // <- i32 stream, bytes
	tmuxWriteReady = 305 // -> i32 stream, i32 errno
	tmuxWriteClose = 306 // <- i32 stream

	tmuxVersion     = 8
	tmuxControlFlag = 0x2000
)

func tmuxHeader(typ uint32) imsg.Header { return imsg.Header{Type: typ, ID: tmuxVersion, PID: -1} }

// A tmuxClient is a connection of ours to a real server.
type tmuxClient struct {
	t    *testing.T
	ctx  context.Context
	conn *imsg.Conn
}

func (s *tmuxServer) dial(t *testing.T, d imsg.Dialect) *tmuxClient {
	t.Helper()
	ctx := bounded(t)
	conn, err := imsg.Dial(ctx, s.socket, &imsg.Config{Dialect: d, AllowFDPass: true})
	testutil.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &tmuxClient{t, ctx, conn}
}

func (c *tmuxClient) send(typ uint32, fields ...any) {
	c.t.Helper()
	send(c.t, c.ctx, c.conn, tmuxHeader(typ), encode(fields...))
}

func (c *tmuxClient) expect(typ uint32) []byte {
	c.t.Helper()
	return expect(c.t, c.ctx, c.conn, typ)
}

// command introduces us, with files if they are not nil, and sends a command,
// all in as few system calls as there are files. The files belong to the queue.
func (c *tmuxClient) command(flags uint64, in, out *os.File, args ...string) error {
	c.t.Helper()
	queue := func(typ uint32, f *os.File, fields ...any) {
		c.t.Helper()
		if err := c.conn.Compose(tmuxHeader(typ), f, encode(fields...)); err != nil {
			c.t.Fatal(err)
		}
	}
	queue(tmuxTerm, nil, "xterm")
	queue(tmuxTTYName, nil, "")
	if in != nil {
		queue(tmuxStdin, in)
		queue(tmuxStdout, out)
	}
	queue(tmuxLongFlags, nil, flags) // last: see TestTmuxCutClient
	queue(tmuxDone, nil)
	queue(tmuxCommand, nil, int32(len(args)), strings.Join(args, "\x00"))
	return c.conn.Flush(c.ctx)
}

// finish plays the end of a command, whose exit status must be 0, and hangs up:
// the server waits for that.
func (c *tmuxClient) finish() {
	c.t.Helper()
	if p := c.expect(tmuxExit); len(p) > 0 && number(c.t, p, 0) != 0 {
		c.t.Errorf("exit status %d", number(c.t, p, 0))
	}
	c.send(tmuxExiting)
	c.expect(tmuxExited)
	c.conn.Close()
}

// pipe returns a pipe that is closed when the test ends.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	testutil.Must(t, err)
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// readUntil reads lines up to one that begins with prefix.
func readUntil(t *testing.T, r *bufio.Reader, prefix string) (lines string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if lines += line; err != nil {
			t.Fatalf("no %q in %q: %v", prefix, lines, err)
		}
		if strings.HasPrefix(line, prefix) {
			return lines
		}
	}
}

// A control client's commands and their output go through two pipes that we
// pass: that they work proves that the files have arrived.
func TestTmuxFiles(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		c := s.dial(t, s.dialect)
		inR, inW := pipe(t)
		outR, outW := pipe(t)
		outR.SetReadDeadline(time.Now().Add(limit))
		testutil.Must(t, c.command(tmuxControlFlag, inR, outW, "attach-session"))
		if n := c.conn.Stats().Sent.Files; n != 2 {
			t.Errorf("%d files sent, want 2", n)
		}
		out := bufio.NewReader(outR)
		readUntil(t, out, "%session-changed")
		io.WriteString(inW, "display-message -p hello-over-passed-fd\n")
		readUntil(t, out, "hello-over-passed-fd")
		io.WriteString(inW, "\n") // an empty line is the end
		c.finish()
		// The server closes what it was given, and so have we.
		if rest, err := io.ReadAll(out); err != nil {
			t.Errorf("at the end of the pipe: %q, %v", rest, err)
		}
	})
}

// Messages of exactly the largest size go both ways.
func TestTmuxBigMessages(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		const most = imsg.DefaultMaxSize - imsg.HeaderSize - 4 // behind the stream's number
		data := make([]byte, 6*most+1000)
		rand.NewChaCha8([32]byte{}).Read(data)
		path := filepath.Join(s.dir, "big")

		c := s.dial(t, s.dialect)
		testutil.Must(t, c.command(0, nil, nil, "load-buffer", "-b", "big", path))
		p := c.expect(tmuxReadOpen)
		stream := number(t, p, 0)
		if number(t, p, 1) != -1 || !bytes.Equal(p[8:], encode(path)) {
			t.Errorf("file to read: descriptor %d, path %q", number(t, p, 1), p[8:])
		}
		for rest := data; len(rest) > 0; {
			n := min(most, len(rest))
			c.send(tmuxRead, stream, rest[:n])
			rest = rest[n:]
		}
		c.send(tmuxReadDone, stream, int32(0))
		c.finish()

		c = s.dial(t, s.dialect)
		testutil.Must(t, c.command(0, nil, nil, "show-buffer", "-b", "big"))
		p = c.expect(tmuxWriteOpen)
		stream = number(t, p, 0)
		if number(t, p, 1) != 1 {
			t.Errorf("file to write: descriptor %d", number(t, p, 1))
		}
		c.send(tmuxWriteReady, stream, int32(0))
		var got []byte
		longest := 0
		for len(got) < len(data) {
			p = c.expect(tmuxWrite)
			longest = max(longest, imsg.HeaderSize+len(p))
			if number(t, p, 0) != stream {
				t.Fatalf("stream %d, want %d", number(t, p, 0), stream)
			}
			got = append(got, p[4:]...)
		}
		if !bytes.Equal(got, data) || longest != imsg.DefaultMaxSize {
			t.Errorf("%d bytes of %d came back, longest message %d", len(got), len(data), longest)
		}
		c.expect(tmuxWriteClose)
		c.finish()
	})
}

// The server's limits of a header are ours. It drops a client that breaks them
// and goes on.
func TestTmuxHeaderLimits(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		for _, n := range []int{0, imsg.HeaderSize - 1, imsg.DefaultMaxSize + 1, 65535} {
			c, err := net.Dial("unix", s.socket)
			testutil.Must(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(limit))
			hdr := make([]byte, imsg.HeaderSize)
			s.dialect.Encode(hdr, binary.NativeEndian, tmuxHeader(tmuxTerm), n, false)
			if _, err := c.Write(hdr); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(hdr); n > 0 || !hungUp(err) {
				t.Errorf("length %d: read %d bytes, %v, want the end", n, n, err)
			}
		}
		if r := s.tmux(t, bounded(t), "", "has-session", "-t", "peer"); r.status != 0 {
			t.Errorf("the server after bad headers: %v", r)
		}
	})
}

// What the wrong dialect does shows only when a file is passed. A current
// server takes the legacy mark for a length over its maximum and drops the
// client. A legacy server takes the current mark for a flag it does not know:
// the command runs, but without the files.
func TestTmuxCrossedDialects(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		other := imsg.Legacy
		if s.dialect == imsg.Legacy {
			other = imsg.Current
		}
		c := s.dial(t, other)
		inR, _ := pipe(t)
		outR, outW := pipe(t)
		err := c.command(0, inR, outW, "display-message", "-p", "hello")
		if s.dialect == imsg.Current {
			if err != nil && !hungUp(err) {
				t.Errorf("send: %v", err)
			}
			expectEnd(t, c.ctx, c.conn)
		} else {
			testutil.Must(t, err)
			stream := number(t, c.expect(tmuxWriteOpen), 0)
			c.send(tmuxWriteReady, stream, int32(0))
			if p := c.expect(tmuxWrite); string(p[4:]) != "hello\n" {
				t.Errorf("output %q", p[4:])
			}
			c.finish()
		}
		// In no case has the server kept a file.
		outR.SetReadDeadline(time.Now().Add(limit))
		if p, err := io.ReadAll(outR); len(p) > 0 || err != nil {
			t.Errorf("from the pipe: %q, %v", p, err)
		}
		if r := s.tmux(t, c.ctx, "", "has-session", "-t", "peer"); r.status != 0 {
			t.Errorf("the server after the wrong dialect: %v", r)
		}
	})
}
