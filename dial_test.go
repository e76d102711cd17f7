package imsg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// listen listens on a new path.
func listen(t *testing.T, cfg *imsg.Config) (*imsg.Listener, string) {
	t.Helper()
	path := socketPath(t)
	l, err := imsg.Listen(path, cfg)
	testutil.Must(t, err)
	t.Cleanup(func() { l.Close() })
	testutil.Equal(t, "address", l.Addr().String(), path)
	return l, path
}

func dial(t *testing.T, path string, cfg *imsg.Config) *imsg.Conn {
	t.Helper()
	c, err := imsg.Dial(testutil.DeadlineCtx(t), path, cfg)
	testutil.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// connect returns both sides of one connection.
func connect(t *testing.T, l *imsg.Listener, path string, cfg *imsg.Config) (client, server *imsg.Conn) {
	t.Helper()
	client = dial(t, path, cfg)
	server, err := l.Accept(testutil.DeadlineCtx(t))
	testutil.Must(t, err)
	t.Cleanup(func() { server.Close() })
	return client, server
}

func TestDialListen(t *testing.T) {
	testutil.NoLeak(t)
	l, path := listen(t, nil)
	client, server := connect(t, l, path, nil)
	for _, c := range [][2]*imsg.Conn{{client, server}, {server, client}} {
		testutil.Exchange(t, c[0], c[1], 1, 5)
		cred, err := c[0].PeerCred()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil || cred.PID != os.Getpid() && cred.PID != 0 || cred.UID != uint32(os.Geteuid()) || cred.GID != uint32(os.Getegid()) {
			t.Errorf("credentials %+v, %v", cred, err)
		}
	}
	_, err := os.Stat(path)
	testutil.Check(t, err)
	testutil.Check(t, l.Close())
	_, err = os.Stat(path)
	testutil.WantError(t, "the socket's file after Close", err, os.ErrNotExist)
	for range 2 {
		_, err := l.Accept(testutil.DeadlineCtx(t))
		testutil.WantOp(t, "Accept after Close", err, "accept", net.ErrClosed)
		testutil.WantError(t, "second Close", l.Close(), net.ErrClosed)
	}
	if c, err := imsg.Dial(testutil.DeadlineCtx(t), path, nil); !errors.Is(err, syscall.ENOENT) || c != nil {
		t.Errorf("Dial after Close: %v", err)
	}
	// A connection outlives its listener.
	testutil.Exchange(t, client, server, 2, 5)
}

func TestDialErrors(t *testing.T) {
	testutil.NoLeak(t)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	l, path := listen(t, nil)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		path string
		want error
	}{
		{"nobody", context.Background(), path + "x", syscall.ENOENT},
		{"no socket", context.Background(), "/dev/null", syscall.ECONNREFUSED},
		{"cancelled", cancelled, path, context.Canceled},
		{"too long", context.Background(), path + string(make([]byte, 200)), syscall.EINVAL},
	} {
		c, err := imsg.Dial(tt.ctx, tt.path, nil)
		testutil.WantOp(t, tt.name, err, "dial", tt.want)
		testutil.Equal(t, tt.name, c, (*imsg.Conn)(nil))
	}
	for _, tt := range []struct {
		path string
		want error
	}{{path, syscall.EADDRINUSE}, {filepath.Dir(path) + "/no/such", syscall.ENOENT}} {
		l, err := imsg.Listen(tt.path, nil)
		testutil.WantOp(t, tt.path, err, "listen", tt.want)
		testutil.Equal(t, tt.path, l, (*imsg.Listener)(nil))
	}
	l.Close()
	for _, fd := range []int{-1, 1 << 20} {
		c, err := imsg.NewConn(fd, nil)
		var oe *imsg.OpError
		if c != nil || !errors.As(err, &oe) || !errors.Is(err, syscall.EBADF) {
			t.Errorf("NewConn(%d): %v", fd, err)
		}
	}
}

func TestAccept(t *testing.T) {
	testutil.NoLeak(t)
	l, path := listen(t, nil)
	accept := func(ctx context.Context) error {
		c, err := l.Accept(ctx)
		if err == nil {
			c.Close()
		}
		return err
	}
	for round := range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { testutil.WaitBlocked(t, 1, "(*Listener).Accept"); cancel() }()
		testutil.WantError(t, fmt.Sprintf("round %d", round), accept(ctx), context.Canceled)
		testutil.WantError(t, "cancelled before", accept(ctx), context.Canceled)
		ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
		oe := testutil.WantOp(t, fmt.Sprint("round ", round), accept(ctx), "accept", context.DeadlineExceeded)
		testutil.Equal(t, "timeout", oe.Timeout(), true)
		cancel()
		a, b := connect(t, l, path, nil) // the deadline is not left behind
		a.Close()
		b.Close()
	}

	// Many at a time: one gives up, all connections are accepted once.
	const n = 8
	results := make(chan error, n)
	ctx, cancel := context.WithCancel(context.Background())
	for i := range n {
		go func() {
			if i == 0 {
				results <- accept(ctx)
			} else {
				results <- accept(context.Background())
			}
		}()
	}
	testutil.WaitBlocked(t, n, "(*Listener).Accept")
	cancel()
	testutil.WantError(t, "the one who gives up", <-results, context.Canceled)
	for range n / 2 {
		c := dial(t, path, nil)
		testutil.WantError(t, "accept", <-results, nil)
		c.Close()
	}
	testutil.WaitBlocked(t, n/2-1, "(*Listener).Accept")
	testutil.Check(t, l.Close())
	for range n/2 - 1 {
		testutil.WantError(t, "Accept during Close", <-results, net.ErrClosed)
	}
}

// TestAcceptMany connects and accepts with many goroutines.
func TestAcceptMany(t *testing.T) {
	testutil.NoLeak(t)
	const n, each = 4, 25
	l, path := listen(t, nil)
	ctx := testutil.DeadlineCtx(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint32]bool{}
	for g := range n {
		wg.Go(func() {
			for i := range each {
				c, err := imsg.Dial(ctx, path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				testutil.Check(t, c.Send(ctx, imsg.Header{Type: uint32(g*each + i)}, nil))
				c.Close()
			}
		})
		wg.Go(func() {
			for range each {
				c, err := l.Accept(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				m, err := c.Receive(ctx)
				testutil.Check(t, err)
				mu.Lock()
				if seen[m.Type()] {
					t.Errorf("connection %d twice", m.Type())
				}
				seen[m.Type()] = true
				mu.Unlock()
				m.Close()
				c.Close()
			}
		})
	}
	wg.Wait()
	testutil.Equal(t, "connections", len(seen), n*each)
}

// TestRefusedFiles sends a file to a side that did not ask for files.
func TestRefusedFiles(t *testing.T) {
	s, _ := imsgtest.Sockets(t)
	refuses := unixmsg.SetPassRights(s.FD, false) == nil
	files := &imsg.Config{AllowFDPass: true}
	for _, toServer := range []bool{true, false} {
		t.Run(fmt.Sprintf("to the server %v", toServer), func(t *testing.T) {
			testutil.NoLeak(t)
			serverCfg, clientCfg := files, (*imsg.Config)(nil)
			if toServer {
				serverCfg, clientCfg = nil, files
			}
			l, path := listen(t, serverCfg)
			to, from := connect(t, l, path, clientCfg)
			if toServer {
				to, from = from, to
			}
			ctx := testutil.DeadlineCtx(t)
			testutil.Must(t, from.Send(ctx, imsg.Header{Type: 1}, nil, testutil.Pattern(1, 5)))
			p := testutil.NewProbe(t)
			err := from.Send(ctx, imsg.Header{Type: 2}, p.W, testutil.Pattern(2, 5))
			testutil.ReceiveAll(t, to, 1)
			if refuses {
				if !errors.Is(err, syscall.EPERM) || !errors.Is(err, imsg.ErrFileNotSent) {
					t.Errorf("%v, want EPERM", err)
				}
				testutil.WantError(t, "the next message", from.Send(ctx, imsg.Header{Type: 3}, nil, testutil.Pattern(3, 3)), nil)
				testutil.ReceiveAll(t, to, 3)
			} else {
				testutil.Check(t, err)
				m, err := to.Receive(ctx)
				testutil.Check(t, err)
				testutil.WantLost(t, m)
				m.Close()
			}
			p.W.Close()
			testutil.WantClosed(t, "the file", p)
			testutil.WantError(t, "the error", to.Send(ctx, imsg.Header{Type: 4}, p.W), imsg.ErrNoFDPass)
			testutil.WantError(t, "the other direction", to.Send(ctx, imsg.Header{Type: 4}, nil), nil)
			testutil.ReceiveAll(t, from, 4)
		})
	}
}

// TestDialFullQueue connects where no more clients may wait to be accepted.
func TestDialFullQueue(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a full queue from nobody who listens")
	}
	testutil.NoLeak(t)
	path := socketPath(t)
	fd := bound(t, path, unix.SOCK_STREAM)
	testutil.Must(t, unix.Listen(fd, 0))
	dial(t, path, nil)
	const n = 4
	results := make(chan error, n)
	ctx, cancel := context.WithCancel(context.Background())
	for i := range n {
		ctx := ctx
		if i > 0 {
			ctx = testutil.DeadlineCtx(t)
		}
		go func() {
			c, err := imsg.Dial(ctx, path, nil)
			if err == nil {
				c.Close()
			}
			results <- err
		}()
	}
	testutil.WaitBlocked(t, n, "imsg.Dial")
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait to be accepted") {
		t.Errorf("the one who gives up: %v", err)
	}
	for range n {
		s, _, err := unix.Accept(fd)
		testutil.Must(t, err)
		unix.Close(s)
	}
	for range n - 1 {
		testutil.Check(t, <-results)
	}
}

// TestWrongKind makes channels of descriptors that are no stream sockets of the
// unix domain.
func TestWrongKind(t *testing.T) {
	testutil.NoLeak(t)
	pair := func(typ int) *os.File {
		fds, err := unix.Socketpair(unix.AF_UNIX, typ, 0)
		testutil.Must(t, err)
		unix.Close(fds[1])
		return os.NewFile(uintptr(fds[0]), "")
	}
	tcp := func(typ int) *os.File {
		fd, err := unix.Socket(unix.AF_INET, typ, 0)
		testutil.Must(t, err)
		return os.NewFile(uintptr(fd), "")
	}
	r, w, err := os.Pipe()
	testutil.Must(t, err)
	defer w.Close()
	for _, tt := range []struct {
		f    *os.File
		what string
		want error
	}{
		{testutil.DevNull(t), "character device", syscall.ENOTSOCK},
		{r, "pipe", syscall.ENOTSOCK},
		{pair(unix.SOCK_DGRAM), "unix datagram socket", syscall.EPROTOTYPE},
		{pair(unix.SOCK_SEQPACKET), "unix seqpacket socket", syscall.EPROTOTYPE},
		{tcp(unix.SOCK_STREAM), "IPv4 stream socket", syscall.EAFNOSUPPORT},
		{tcp(unix.SOCK_DGRAM), "IPv4 datagram socket", syscall.EAFNOSUPPORT},
	} {
		fd := int(tt.f.Fd())
		unix.SetNonblock(fd, false)
		b := imsg.NewBuf(fd, nil)
		_, nerr := imsg.NewConn(fd, nil)
		_, ferr := imsg.FileConn(tt.f, nil)
		for name, err := range map[string]error{
			"NewConn":     nerr,
			"FileConn":    ferr,
			"ReadSocket":  b.ReadSocket(),
			"WriteSocket": b.WriteSocket(),
			"Flush":       b.Flush(),
			"Compose":     b.Compose(imsg.Header{Type: 1}, nil),
		} {
			testutil.WantOp(t, name+" of a "+tt.what, err, "open", tt.want)
			if !strings.Contains(err.Error(), tt.what) {
				t.Errorf("%s of a %s: %v", name, tt.what, err)
			}
		}
		testutil.Equal(t, tt.what+": non-blocking", nonblocking(t, fd), false)
		tt.f.Close()
	}
}

// TestAcceptFullTable accepts with no, one and two descriptors free. A client
// that could not be accepted yet must not be turned away.
func TestAcceptFullTable(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t, 64)
	for free := range 3 {
		t.Run(fmt.Sprintf("%d free", free), func(t *testing.T) {
			testutil.NoLeak(t)
			l, path := listen(t, nil)
			client := dial(t, path, nil)
			testutil.Must(t, client.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil, testutil.Pattern(1, 3)))
			var reserve []int
			for range free {
				fd, err := unix.Dup(0)
				testutil.Must(t, err)
				reserve = append(reserve, fd)
			}
			release := testutil.FillTable(t)
			for _, fd := range reserve {
				unix.Close(fd)
			}
			server, err := l.Accept(testutil.DeadlineCtx(t))
			release()
			if err != nil {
				testutil.WantOp(t, "Accept", err, "accept", syscall.EMFILE)
				server, err = l.Accept(testutil.DeadlineCtx(t))
				testutil.Must(t, err) // or the client was turned away
			}
			testutil.ReceiveAll(t, server, 1)
			server.Close()
		})
	}
}

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
	testutil.WantEOF(t, c)
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
		_, err := imsg.StartChild(c.cmd, c.fd, nil)
		testutil.WantError(t, fmt.Sprintf("descriptor %d", c.fd), err, c.is)
		if c.cmd.Process != nil {
			t.Errorf("descriptor %d: started", c.fd)
		}
	}
}

// TestStartChildRestores leaves a command that did not start as it was: its
// fields can be copied to another one.
func TestStartChildRestores(t *testing.T) {
	testutil.NoLeak(t)
	for fd := range 5 {
		cmd := exec.Command("/nonexistent")
		_, err := imsg.StartChild(cmd, fd, nil)
		testutil.WantError(t, fmt.Sprintf("descriptor %d", fd), err, os.ErrNotExist)
		if cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil || cmd.ExtraFiles != nil {
			t.Errorf("descriptor %d: left in the command: %v %v %v %v", fd, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles)
		}
	}
}

// socketPairs runs fn with the two ends of a TCP and of a unix stream, blocking
// or not, and checks that this is still so at the end.
func socketPairs(t *testing.T, blocking bool, fn func(t *testing.T, a, b *os.File)) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			testutil.NoLeak(t)
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			l, err := net.Listen(network, address)
			if network == "tcp" && err != nil {
				t.Skip(err)
			}
			testutil.Must(t, err)
			defer l.Close()
			client, err := net.Dial(network, l.Addr().String())
			testutil.Must(t, err)
			defer client.Close()
			server, err := l.Accept()
			testutil.Must(t, err)
			defer server.Close()
			var files []*os.File
			for _, c := range []net.Conn{client, server} {
				f, err := c.(interface{ File() (*os.File, error) }).File()
				testutil.Must(t, err)
				defer f.Close()
				control(t, f, func(fd int) { testutil.Must(t, syscall.SetNonblock(fd, !blocking)) })
				files = append(files, f)
			}
			fn(t, files[0], files[1])
			for _, f := range files {
				control(t, f, func(fd int) {
					testutil.Equal(t, "blocking", unixmsg.Blocking(fd), blocking)
				})
			}
		})
	}
}

func control(t *testing.T, f *os.File, fn func(fd int)) {
	t.Helper()
	raw, err := f.SyscallConn()
	testutil.Must(t, err)
	testutil.Must(t, raw.Control(func(fd uintptr) { fn(int(fd)) }))
}

func netConn(t *testing.T, f *os.File) net.Conn {
	t.Helper()
	c, err := imsg.NetConn(f)
	testutil.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// waitPolling waits until n goroutines sleep in poll(2).
func waitPolling(t *testing.T, n int) {
	t.Helper()
	testutil.WaitSystemCall(t, n, "unixmsg.PollWake")
}

type ioResult struct {
	n   int
	err error
}

// start calls a method on a goroutine of its own.
func start(method func([]byte) (int, error), p []byte) <-chan ioResult {
	got := make(chan ioResult, 1)
	go func() {
		n, err := method(p)
		got <- ioResult{n, err}
	}()
	return got
}

func wantNetError(t *testing.T, what string, err, want error) {
	t.Helper()
	if oe := (*net.OpError)(nil); !errors.As(err, &oe) || !errors.Is(err, want) {
		t.Errorf("%s: %T %v, want %v", what, err, err, want)
	}
}

// moreThanFits is more than the buffers of a connection hold.
const moreThanFits = 64 << 20

func TestNetConn(t *testing.T) {
	for _, blocking := range []bool{true, false} {
		t.Run(fmt.Sprintf("blocking %v", blocking), func(t *testing.T) {
			socketPairs(t, blocking, func(t *testing.T, fa, fb *os.File) {
				a, b := netConn(t, fa), netConn(t, fb)
				fa.SetDeadline(time.Now()) // is f's own
				if a.LocalAddr().String() != b.RemoteAddr().String() || b.LocalAddr().String() != a.RemoteAddr().String() ||
					a.LocalAddr().Network() != b.RemoteAddr().Network() {
					t.Errorf("addresses %v %v, %v %v", a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr())
				}
				data := testutil.Pattern(1, 4<<20)
				for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
					sent := start(c[0].Write, data)
					got := make([]byte, len(data))
					_, err := io.ReadFull(c[1], got)
					testutil.Must(t, err)
					if r := <-sent; r.n != len(data) || r.err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, %v, or others than were sent", r.n, r.err)
					}
					for _, method := range []func([]byte) (int, error){c[0].Read, c[0].Write} {
						if n, err := method(nil); n != 0 || err != nil {
							t.Errorf("no bytes: %d, %v", n, err)
						}
					}
				}
				got := start(b.Read, make([]byte, 1))
				testutil.Must(t, a.(interface{ CloseWrite() error }).CloseWrite())
				if r := <-got; r.n != 0 || r.err != io.EOF {
					t.Errorf("at the end: %d, %v", r.n, r.err)
				}
				_, err := b.Write([]byte("x")) // the other direction goes on
				testutil.Must(t, err)
				_, err = io.ReadFull(a, make([]byte, 1))
				testutil.Must(t, err)
			})
		})
	}
}

func TestNetConnDeadline(t *testing.T) {
	socketPairs(t, true, func(t *testing.T, fa, fb *os.File) {
		a, b := netConn(t, fa), netConn(t, fb)
		p := make([]byte, 1)
		testutil.Must(t, a.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		for range 2 { // it passes, and has passed
			_, err := a.Read(p)
			wantNetError(t, "read", err, os.ErrDeadlineExceeded)
			if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
				t.Errorf("%v is no timeout", err)
			}
		}
		for _, d := range []time.Time{{}, time.Now().Add(time.Hour)} { // one that waits hears of the next
			testutil.Must(t, a.SetDeadline(d))
			read, write := start(a.Read, p), start(a.Write, make([]byte, moreThanFits))
			waitPolling(t, 2)
			for range 1000 { // more than there is room for
				testutil.Must(t, a.SetDeadline(time.Now().Add(time.Hour)))
			}
			waitPolling(t, 2)
			testutil.Must(t, a.SetReadDeadline(time.Unix(1, 0)))
			r := <-read
			wantNetError(t, "waiting read", r.err, os.ErrDeadlineExceeded)
			testutil.Must(t, a.SetWriteDeadline(time.Unix(1, 0)))
			w := <-write
			wantNetError(t, "waiting write", w.err, os.ErrDeadlineExceeded)
			if r.n != 0 || w.n <= 0 || w.n >= moreThanFits {
				t.Errorf("read %d, wrote %d", r.n, w.n)
			}
			testutil.Must(t, a.SetDeadline(time.Time{})) // and it goes on
			write = start(a.Write, []byte("end"))
			got := make([]byte, w.n+3)
			_, err := io.ReadFull(b, got)
			testutil.Must(t, err)
			if w := <-write; w.n != 3 || w.err != nil || string(got[len(got)-3:]) != "end" {
				t.Errorf("after the deadline: %d, %v, %q", w.n, w.err, got[len(got)-3:])
			}
		}
	})
}

func TestNetConnClose(t *testing.T) {
	socketPairs(t, true, func(t *testing.T, fa, _ *os.File) {
		a := netConn(t, fa)
		p := make([]byte, 1)
		reads := []<-chan ioResult{start(a.Read, p), start(a.Read, make([]byte, 1))} // one waits for its turn
		write := start(a.Write, make([]byte, moreThanFits))
		waitPolling(t, 2)
		var deadlines sync.WaitGroup
		for range 2 {
			deadlines.Go(func() {
				for a.SetDeadline(time.Now().Add(time.Hour)) == nil {
				}
			})
		}
		testutil.Must(t, a.Close())
		deadlines.Wait()
		for _, got := range append(reads, write) {
			wantNetError(t, "woken", (<-got).err, net.ErrClosed)
		}
		_, err := a.Read(p)
		wantNetError(t, "read", err, net.ErrClosed)
		_, err = a.Write(p)
		wantNetError(t, "write", err, net.ErrClosed)
		wantNetError(t, "close write", a.(interface{ CloseWrite() error }).CloseWrite(), net.ErrClosed)
		wantNetError(t, "set deadline", a.SetDeadline(time.Time{}), net.ErrClosed)
		wantNetError(t, "close", a.Close(), net.ErrClosed)
	})
}

func TestNetConnErrors(t *testing.T) {
	testutil.NoLeak(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	testutil.Must(t, err)
	defer syscall.Close(fds[1])
	datagram := os.NewFile(uintptr(fds[0]), "datagram")
	defer datagram.Close()
	closed := testutil.DevNull(t)
	closed.Close()
	null := testutil.OwnFile(t)
	for _, c := range []struct {
		f    *os.File
		want error
	}{{null, syscall.ENOTSOCK}, {datagram, syscall.EPROTOTYPE}, {closed, os.ErrClosed}} {
		nc, err := imsg.NetConn(c.f)
		if oe := (*imsg.OpError)(nil); nc != nil || !errors.As(err, &oe) || !errors.Is(err, c.want) {
			t.Errorf("%v, %v, want %v", nc, err, c.want)
		}
	}
}
