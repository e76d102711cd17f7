package relay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/relay"
	"example.org/imsg/internal/testutil"
)

// rawConn makes a bare socket of c.
func rawConn(t testing.TB, c *imsg.Conn) *net.UnixConn {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	defer f.Close()
	nc, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.UnixConn)
}

// A message is one of a stream. With file, it comes with the stream's file of
// that number, or with none that should have come if that is negative.
type message struct {
	h    imsg.Header
	n    int // bytes of payload
	file int
}

// stream returns messages of some size together: some with pid 0, some of the
// largest size, and with files ones with a file or that of a lost one.
func stream(r *rand.Rand, size int, files bool) (ms []message) {
	for total, file := 0, 0; total < size; {
		m := message{h: imsg.Header{Type: r.Uint32(), ID: r.Uint32(), PID: r.Int32()}, n: r.IntN(500)}
		switch r.IntN(40) {
		case 0:
			m.n = imsg.DefaultMaxSize - imsg.HeaderSize
		case 1:
			m.n = 0
		case 2:
			m.h.PID = 0
		case 3:
			m.h.PID = -1
		}
		switch r.IntN(50) {
		case 0, 1, 2:
			if files {
				file++
				m.file = file
			}
		case 3:
			if files && total > size/2 { // when the dialect is known
				m.file = -1
			}
		}
		total += imsg.HeaderSize + m.n
		ms = append(ms, m)
	}
	return ms
}

func (m message) encode(d imsg.Dialect) []byte {
	p := testutil.Pattern(m.h.Type, imsg.HeaderSize+m.n)
	d.Encode(p, binary.NativeEndian, m.h, len(p), m.file != 0)
	return p
}

// A fileSet is the files of a stream: file i is at offset i.
type fileSet struct {
	path  string
	files []*os.File
}

func newFileSet(t testing.TB, ms []message) *fileSet {
	fs := &fileSet{path: t.TempDir() + "/file"}
	testutil.Must(t, os.WriteFile(fs.path, nil, 0o600))
	for i := range len(ms) + 1 {
		if i > 0 && ms[i-1].file <= 0 {
			continue
		}
		f, err := os.OpenFile(fs.path, os.O_RDWR|os.O_APPEND, 0)
		testutil.Must(t, err)
		_, err = f.Seek(int64(len(fs.files)), io.SeekStart)
		testutil.Must(t, err)
		fs.files = append(fs.files, f)
	}
	t.Cleanup(func() {
		for _, f := range fs.files {
			f.Close()
		}
	})
	return fs
}

// is reports whether f is the same open file as the i-th.
func (fs *fileSet) is(f *os.File, i int) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil || at != int64(i) {
		return fmt.Errorf("file %d, %w, want %d", at, err, i)
	}
	if _, err := f.Seek(1000000, io.SeekCurrent); err != nil {
		return err
	}
	if at, err := fs.files[i].Seek(0, io.SeekCurrent); err != nil || at != int64(1000000+i) {
		return fmt.Errorf("file %d is another open file: at %d, %w", i, at, err)
	}
	return nil
}

// write writes the stream, each message with its file in pieces of its own.
// With cut, a piece ends anywhere.
func (fs *fileSet) write(c *net.UnixConn, r *rand.Rand, d imsg.Dialect, ms []message, cut bool) error {
	var p []byte
	flush := func(oob []byte) error {
		for len(p) > 0 {
			n := len(p)
			if cut {
				n = min(n, 1+r.IntN(3000))
			}
			n, _, err := c.WriteMsgUnix(p[:n], oob, nil)
			if err != nil {
				return err
			}
			p, oob = p[n:], nil
		}
		return nil
	}
	for _, m := range ms {
		if m.file > 0 {
			if err := flush(nil); err != nil {
				return err
			}
			p = m.encode(d)
			if err := flush(syscall.UnixRights(int(fs.files[m.file].Fd()))); err != nil {
				return err
			}
			continue
		}
		if p = append(p, m.encode(d)...); len(p) > 60000 {
			if err := flush(nil); err != nil {
				return err
			}
		}
	}
	return flush(nil)
}

// read reads as many bytes as the stream has, compares them and the files, and
// then wants the end.
func (fs *fileSet) read(c *net.UnixConn, d imsg.Dialect, ms []message) error {
	var want []byte
	for _, m := range ms {
		want = append(want, m.encode(d)...)
	}
	got := make([]byte, 0, len(want)+1<<16)
	next, oob := 1, make([]byte, 64)
	for {
		n, oobn, flags, _, err := c.ReadMsgUnix(got[len(got):min(cap(got), len(got)+65535)], oob)
		if errors.Is(err, io.EOF) || n == 0 && err == nil {
			break
		}
		if err != nil {
			return err
		}
		if flags&syscall.MSG_CTRUNC != 0 {
			return errors.New("a file was cut off")
		}
		if got = got[:len(got)+n]; len(got) > len(want) {
			return fmt.Errorf("%d bytes, and more, want %d", len(got), len(want))
		}
		msgs, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return err
		}
		for _, m := range msgs {
			fds, err := syscall.ParseUnixRights(&m)
			if err != nil {
				return err
			}
			for _, fd := range fds {
				f := os.NewFile(uintptr(fd), "file")
				err := fs.is(f, next)
				f.Close()
				if err != nil {
					return err
				}
				next++
			}
		}
	}
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		return fmt.Errorf("%d bytes, want %d; the first that differs is %d", len(got), len(want), at)
	}
	if next != len(fs.files) {
		return fmt.Errorf("%d files, want %d", next-1, len(fs.files)-1)
	}
	return nil
}

// TestExact passes 1.2 MB each way at a time, and compares every byte and every
// open file.
func TestExact(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
		for _, files := range []bool{false, true} {
			for _, cut := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v,files=%v,cut=%v", d, files, cut), func(t *testing.T) {
					p := start(t, relay.Config{Dialect: imsg.Auto})
					testExact(t, p, d, files, cut)
				})
			}
		}
	}
}

func testExact(t *testing.T, p *proxy, d imsg.Dialect, files, cut bool) {
	r := rand.New(rand.NewPCG(1, uint64(d)))
	c, s := p.connect(bounded(t), nil)
	client, server := rawConn(t, c), rawConn(t, s)
	deadline, _ := bounded(t).Deadline()
	client.SetDeadline(deadline)
	server.SetDeadline(deadline)
	var all sync.WaitGroup
	check := func(what string, f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	var total relay.Totals
	for _, way := range []struct {
		name     string
		from, to *net.UnixConn
	}{{"to the server", client, server}, {"to the client", server, client}} {
		ms := stream(r, 1200000, files)
		fs := newFileSet(t, ms)
		writer := rand.New(rand.NewPCG(2, r.Uint64()))
		check(way.name+", write", func() error {
			err := fs.write(way.from, writer, d, ms, cut)
			return errors.Join(err, way.from.CloseWrite())
		})
		check(way.name+", read", func() error { return fs.read(way.to, d, ms) })
		total.Messages += int64(len(ms))
		total.Files += int64(len(fs.files) - 1)
		for _, m := range ms {
			total.Bytes += int64(imsg.HeaderSize + m.n)
		}
	}
	all.Wait()
	if got := p.record.Totals(); got != total {
		t.Errorf("recorded %+v, want %+v", got, total)
	}
	select {
	case err := <-p.errs:
		t.Error(err)
	default:
	}
}

// TestDialectFromOtherSide lets one side tell the dialect, and looks at what the
// other side gets, and whether its own first file is understood.
func TestDialectFromOtherSide(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
		t.Run(d.String(), func(t *testing.T) {
			p, ctx := start(t, relay.Config{Dialect: imsg.Auto}), bounded(t)
			c, s := p.connect(ctx, &imsg.Config{Dialect: d, AllowFDPass: true})
			server := rawConn(t, s)
			f := testutil.DevNull(t)
			testutil.Must(t, c.Send(ctx, imsg.Header{Type: 1, PID: 7}, nil, []byte("plain")))
			testutil.Must(t, c.Send(ctx, imsg.Header{Type: 2, PID: 7}, f))
			want := make([]byte, 2*imsg.HeaderSize+5)
			d.Encode(want, binary.NativeEndian, imsg.Header{Type: 1, PID: 7}, imsg.HeaderSize+5, false)
			copy(want[imsg.HeaderSize:], "plain")
			d.Encode(want[imsg.HeaderSize+5:], binary.NativeEndian, imsg.Header{Type: 2, PID: 7}, imsg.HeaderSize, true)
			got := make([]byte, len(want))
			_, err := io.ReadFull(server, got)
			testutil.Must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("got  % x\nwant % x", got, want)
			}
			// A mark without a file tells nothing by itself in this direction: the
			// client's messages have.
			d.Encode(got, binary.NativeEndian, imsg.Header{Type: 3}, imsg.HeaderSize, true)
			_, err = server.Write(got[:imsg.HeaderSize])
			testutil.Must(t, err)
			m := testutil.Receive(t, c)
			if m.Type() != 3 || !errors.Is(m.FileErr(), imsg.ErrFileLost) || m.PID() != 0 {
				t.Errorf("type %d, pid %d, %v", m.Type(), m.PID(), m.FileErr())
			}
			m.Close()
			server.Close()
			expectEnd(t, ctx, c)
			for _, r := range p.recordsAtEnd() {
				if want := known(d); r.Marked && r.Dialect != want {
					t.Errorf("type %d: %v, want %v", r.Header.Type, r.Dialect, want)
				}
			}
		})
	}
}

func known(d imsg.Dialect) capture.Dialect {
	if d == imsg.Legacy {
		return capture.Legacy
	}
	return capture.Current
}

// recordsAtEnd waits until all was written.
func (p *proxy) recordsAtEnd() []capture.Record {
	for {
		if r := p.records(); int64(len(r)) == p.record.Totals().Messages {
			return r
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRecords looks at everything that a record has.
func TestRecords(t *testing.T) {
	p, ctx := start(t, relay.Config{Dialect: imsg.Auto, Name: "/the/name"}), bounded(t)
	c, s := p.connect(ctx, &imsg.Config{AllowFDPass: true})
	dir := t.TempDir()
	f, err := os.OpenFile(dir+"/x", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	testutil.Must(t, err)
	defer f.Close()
	before := time.Now()
	testutil.Must(t, c.Send(ctx, imsg.Header{Type: 5, ID: 6, PID: 7}, f, []byte("pay"), []byte("load")))
	m := testutil.Receive(t, s)
	testutil.Must(t, s.Forward(ctx, m))
	m.Close()
	m = testutil.Receive(t, c)
	m.Close()
	rs := p.recordsAtEnd()
	if len(rs) != 2 {
		t.Fatalf("%d records, want 2", len(rs))
	}
	exe, _ := os.Executable()
	for i, r := range rs {
		if r.Dir != capture.DirOut+capture.Dir(i) || r.Channel != 1 || r.Name != "/the/name" || r.Header != (imsg.Header{Type: 5, ID: 6, PID: 7}) ||
			string(r.Payload) != "payload" || r.Len != 23 || r.Cut() != 0 || r.Dialect != capture.Current || !r.Marked || r.Wait >= 0 ||
			r.Time.Before(before) || len(r.Files) != 1 || r.Files[0].Lost {
			t.Errorf("record %d: %+v", i, r)
		}
		if _, err := os.Stat("/proc/self/exe"); err != nil {
			continue
		}
		if r.From.PID != os.Getpid() || r.To.PID != os.Getpid() || r.From.Exe != exe || r.To.Exe != exe {
			t.Errorf("from %+v to %+v, want %d %s", r.From, r.To, os.Getpid(), exe)
		}
		if got := r.Files[0]; got != (capture.File{From: -1, To: -1, Kind: "file", Path: dir + "/x", Flags: "wronly|append"}) {
			t.Errorf("file %+v", got)
		}
	}
}

func expectText(t testing.TB, c *imsg.Conn, want string) {
	t.Helper()
	m := testutil.Receive(t, c)
	defer m.Close()
	if string(m.Bytes()) != want {
		t.Errorf("%q, want %q", m.Bytes(), want)
	}
}

// TestHalfClose ends one direction after the other.
func TestHalfClose(t *testing.T) {
	p, ctx := start(t, relay.Config{}), bounded(t)
	c, s := p.connect(ctx, nil)
	testutil.Must(t, c.Send(ctx, imsg.Header{Type: 1}, nil, []byte("question")))
	testutil.Must(t, c.CloseWrite())
	expectText(t, s, "question")
	expectEnd(t, ctx, s)
	testutil.Must(t, s.Send(ctx, imsg.Header{Type: 2}, nil, []byte("answer")))
	testutil.Must(t, s.Close())
	expectText(t, c, "answer")
	expectEnd(t, ctx, c)
}

// TestClosed closes one end: the other cannot write any more, as without a
// relay, and the relay has ended.
func TestClosed(t *testing.T) {
	for side := range 2 {
		a, b := imsgtest.Pair(t, nil)
		c, d := imsgtest.Pair(t, nil)
		r := relay.New(relay.Config{Report: func(err error) { t.Error(err) }})
		done := make(chan bool)
		go func() {
			r.Pipe(context.Background(), relay.End{Conn: b}, relay.End{Conn: c})
			close(done)
		}()
		if side == 1 {
			a, d = d, a
		}
		testutil.Must(t, a.Send(context.Background(), imsg.Header{Type: 1}, nil, []byte("last words")))
		a.Close()
		<-done
		expectText(t, d, "last words")
		expectEnd(t, context.Background(), d)
		if err := d.Send(context.Background(), imsg.Header{Type: 2}, nil); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a message for nobody: %v", err)
		}
	}
}

// TestLostFile passes a lost file on as lost, and those behind it to their own
// messages.
func TestLostFile(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
		t.Run(d.String(), func(t *testing.T) {
			p, ctx := start(t, relay.Config{Dialect: d}), bounded(t)
			c, s := p.connect(ctx, nil)
			client := rawConn(t, c)
			s.SetDialect(d)
			ms := []message{{h: imsg.Header{Type: 1}, file: -1}, {h: imsg.Header{Type: 2}, file: 1}, {h: imsg.Header{Type: 3}, n: 9}, {h: imsg.Header{Type: 4, PID: 1}, file: 2},
				{h: imsg.Header{Type: 5, PID: 1}, file: -1}, {h: imsg.Header{Type: 6}, file: -1}, {h: imsg.Header{Type: 7, PID: 1}, file: 3}}
			fs := newFileSet(t, ms)
			for i, m := range ms {
				// One at a time: or a receiver may give a file to the message of
				// another's.
				testutil.Must(t, fs.write(client, nil, d, ms[i:i+1], false))
				got, err := s.Receive(ctx)
				testutil.Must(t, err)
				if got.Header() != m.h || got.Len() != m.n {
					t.Errorf("%+v, %d bytes, want %+v", got.Header(), got.Len(), m)
				}
				if lost := got.FileErr() != nil; lost != (m.file < 0) || got.HasFile() != (m.file > 0) {
					t.Errorf("type %d: lost %v, file %v", m.h.Type, lost, got.HasFile())
				}
				if f := got.TakeFile(); f != nil {
					if err := fs.is(f, m.file); err != nil {
						t.Errorf("type %d: %v", m.h.Type, err)
					}
					f.Close()
				}
				got.Close()
			}
		})
	}
}

// TestMaxSize passes messages of OpenBGPD's size, and of any that is asked for;
// a longer one ends its own connection only, with the place.
func TestMaxSize(t *testing.T) {
	for _, size := range []int{0, 128 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			p, ctx := start(t, relay.Config{Dialect: imsg.Auto, MaxSize: size}), bounded(t)
			if size == 0 {
				size = 128 << 10
			}
			c, s := p.connect(ctx, nil)
			other, echo := p.connect(ctx, nil)
			for _, x := range []*imsg.Conn{c, s} {
				testutil.Must(t, x.SetMaxSize(2<<20))
			}
			sent := make(chan error, 1)
			go func() {
				err := c.Send(ctx, imsg.Header{Type: 1, PID: 1}, nil, make([]byte, size))
				sent <- errors.Join(err, c.Send(ctx, imsg.Header{Type: 2, PID: 1}, nil, make([]byte, 5)))
			}()
			for _, want := range []int{size, 5} {
				m := testutil.Receive(t, s)
				if m.Len() != want {
					t.Errorf("%d bytes, want %d", m.Len(), want)
				}
				m.Close()
			}
			testutil.Must(t, <-sent)
			go func() { sent <- c.Send(ctx, imsg.Header{Type: 3}, nil, make([]byte, size+1)) }()
			var e *relay.Error
			var h *imsg.HeaderError
			if err := <-p.errs; !errors.As(err, &e) || !errors.As(err, &h) || e.Offset != int64(size+5+2*imsg.HeaderSize) ||
				!strings.Contains(err.Error(), fmt.Sprint("at byte ", e.Offset)) || !strings.Contains(err.Error(), "SetMaxSize") {
				t.Errorf("%v", err)
			}
			expectEnd(t, ctx, s)
			<-sent
			testutil.Must(t, other.Send(ctx, imsg.Header{Type: 4}, nil))
			m := testutil.Receive(t, echo)
			m.Close()
		})
	}
}

// TestGarbage lets either side say what is no message: it loses its
// connection, and nobody else does.
func TestGarbage(t *testing.T) {
	p, ctx := start(t, relay.Config{Dialect: imsg.Auto}), bounded(t)
	other, echo := p.connect(ctx, nil)
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "short"} {
		for side := range 2 {
			c, s := p.connect(ctx, nil)
			testutil.Must(t, c.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, 100)))
			testutil.Must(t, s.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, 100)))
			bad, good := c, s
			if side == 1 {
				bad, good = s, c
			}
			raw := rawConn(t, bad)
			raw.Write([]byte(text))
			raw.CloseWrite()
			var e *relay.Error
			if err := <-p.errs; !errors.As(err, &e) || e.Offset != 100+imsg.HeaderSize {
				t.Errorf("%q: %v", text, err)
			}
			m := testutil.Receive(t, good)
			m.Close()
			expectEnd(t, ctx, good)
		}
	}
	testutil.Must(t, other.Send(ctx, imsg.Header{Type: 4}, nil))
	m := testutil.Receive(t, echo)
	m.Close()
}

// TestNoTarget closes clients while there is no daemon, and serves those that
// come when there is one again.
func TestNoTarget(t *testing.T) {
	p, ctx := start(t, relay.Config{}), bounded(t)
	c, s := p.connect(ctx, nil)
	testutil.Must(t, p.daemon.Close()) // and removes its socket
	for _, want := range []error{syscall.ENOENT, syscall.ECONNREFUSED} {
		client, err := imsg.Dial(ctx, p.path, nil)
		testutil.Must(t, err)
		client.Send(ctx, imsg.Header{Type: 1}, nil)
		expectEnd(t, ctx, client)
		client.Close()
		var e *relay.TargetError
		if err := <-p.errs; !errors.As(err, &e) || !errors.Is(err, want) || e.Target != p.target {
			t.Errorf("%v, want %v", err, want)
		}
		if want == syscall.ENOENT {
			stale(t, p.target)
		}
	}
	// A connection from before is not harmed.
	testutil.Must(t, c.Send(ctx, imsg.Header{Type: 1}, nil))
	m := testutil.Receive(t, s)
	m.Close()
	testutil.Must(t, os.Remove(p.target))
	p.listen()
	c, s = p.connect(ctx, nil)
	testutil.Must(t, c.Send(ctx, imsg.Header{Type: 2}, nil))
	m = testutil.Receive(t, s)
	m.Close()
}

// stale leaves the socket of a process that has ended at path.
func stale(t testing.TB, path string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	testutil.Must(t, err)
	l.SetUnlinkOnClose(false)
	l.Close()
}

// TestVanishing has clients that leave at any time, while the server floods
// them. The server must notice as it does without a relay.
func TestVanishing(t *testing.T) {
	p, ctx := start(t, relay.Config{}), bounded(t)
	for i := range 20 {
		c, s := p.connect(ctx, nil)
		testutil.Must(t, c.Send(ctx, imsg.Header{Type: 1}, nil, make([]byte, 1000)))
		flooded := make(chan error)
		go func() {
			for {
				if err := s.Send(ctx, imsg.Header{Type: 2}, nil, make([]byte, 1000)); err != nil {
					flooded <- err
					return
				}
			}
		}()
		for range i {
			m := testutil.Receive(t, c)
			m.Close()
		}
		c.Close()
		if err := <-flooded; !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server: %v", err)
		}
		m := testutil.Receive(t, s) // what the client had said is not lost
		m.Close()
		expectEnd(t, ctx, s)
	}
}

// TestSlowReader has a client that reads nothing: the server is stopped, the
// relay holds little, and nothing is lost.
func TestSlowReader(t *testing.T) {
	p, ctx := start(t, relay.Config{}), bounded(t)
	c, s := p.connect(ctx, nil)
	const size = 10000
	const most = 16 << 20 / size
	sent := 0
	for ; sent < most; sent++ {
		// Full for so long: as much as fits is there. On a slow machine it may be less.
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		err := s.Send(short, imsg.Header{Type: uint32(sent)}, nil, make([]byte, size))
		cancel()
		if err != nil {
			break
		}
	}
	if sent == most {
		t.Errorf("the server could send %d bytes that nobody reads", most*size)
	}
	s.CloseWrite()
	for i := range sent {
		m := testutil.Receive(t, c)
		if m.Type() != uint32(i) || m.Len() != size {
			t.Fatalf("message %d: type %d, %d bytes", i, m.Type(), m.Len())
		}
		m.Close()
	}
}

// TestManyClients serves many at a time.
func TestManyClients(t *testing.T) {
	p, ctx := start(t, relay.Config{Dialect: imsg.Auto}), bounded(t)
	p.echo(ctx)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			c, err := imsg.Dial(ctx, p.path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for j := range 50 {
				h := imsg.Header{Type: uint32(i), ID: uint32(j), PID: int32(1000 + i)}
				if err := c.Send(ctx, h, nil, testutil.Pattern(h.ID, 100*j)); err != nil {
					t.Error(err)
					return
				}
				m, err := c.Receive(ctx)
				if err != nil || m.Header() != h || !bytes.Equal(m.Bytes(), testutil.Pattern(h.ID, 100*j)) {
					t.Errorf("%+v, %v, want %+v", m.Header(), err, h)
					return
				}
				m.Close()
			}
		})
	}
	all.Wait()
	if got := p.record.Totals().Messages; got != 100*50*2 {
		t.Errorf("%d messages recorded", got)
	}
	if p.relay.Channels() != 100 {
		t.Errorf("%d channels", p.relay.Channels())
	}
}

// TestStop ends a relay in the middle of a flood.
func TestStop(t *testing.T) {
	a, b := imsgtest.Pair(t, nil)
	c, d := imsgtest.Pair(t, nil)
	r := relay.New(relay.Config{Report: func(err error) { t.Error(err) }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan bool)
	go func() {
		r.Pipe(ctx, relay.End{Conn: b}, relay.End{Conn: c})
		close(done)
	}()
	go func() {
		for a.Send(context.Background(), imsg.Header{Type: 1}, nil, make([]byte, 16000)) == nil {
		}
	}()
	m := testutil.Receive(t, d)
	m.Close()
	cancel()
	<-done
}

// A stuckWriter fails, or writes nothing before it may.
type stuckWriter struct {
	log
	may chan bool
	err error
}

func (w *stuckWriter) Write(r *capture.Record) error {
	<-w.may
	if w.err != nil {
		return w.err
	}
	return w.log.Write(r)
}

// TestSlowRecorder has a writer that is stuck: messages go on for a while, then
// they wait, and none is lost.
func TestSlowRecorder(t *testing.T) {
	w := &stuckWriter{may: make(chan bool)}
	a, b := imsgtest.Pair(t, nil)
	c, d := imsgtest.Pair(t, nil)
	rec := relay.NewRecorder(w, func(err error) { t.Error(err) })
	r := relay.New(relay.Config{Record: rec, Report: func(err error) { t.Error(err) }})
	done := make(chan bool)
	go func() {
		r.Pipe(context.Background(), relay.End{Conn: b}, relay.End{Conn: c})
		close(done)
	}()
	const all = 100000
	sent := make(chan error, 1)
	go func() {
		for i := range all {
			if err := a.Compose(imsg.Header{Type: uint32(i)}, nil); err != nil {
				sent <- err
				return
			}
			if i%100 == 99 || i == all-1 {
				if err := a.Flush(context.Background()); err != nil {
					sent <- err
					return
				}
			}
		}
		a.CloseWrite()
		sent <- nil
	}()
	for i := range 1000 { // these do not wait for the writer
		m := testutil.Receive(t, d)
		if m.Type() != uint32(i) {
			t.Fatal(m.Type())
		}
		m.Close()
	}
	close(w.may)
	for i := 1000; i < all; i++ {
		m := testutil.Receive(t, d)
		if m.Type() != uint32(i) {
			t.Fatal(m.Type())
		}
		m.Close()
	}
	testutil.Must(t, <-sent)
	d.Close()
	<-done
	testutil.Must(t, rec.Close())
	if len(w.list) != all || w.list[all-1].Header.Type != all-1 {
		t.Errorf("%d recorded", len(w.list))
	}
}

// TestBadRecorder has a writer that fails, as with a full disk: messages go on,
// and it is said once.
func TestBadRecorder(t *testing.T) {
	w := &stuckWriter{may: make(chan bool), err: syscall.ENOSPC}
	close(w.may)
	a, b := imsgtest.Pair(t, nil)
	c, d := imsgtest.Pair(t, nil)
	said := 0
	rec := relay.NewRecorder(w, func(error) { said++ })
	r := relay.New(relay.Config{Record: rec, Report: func(err error) { t.Error(err) }})
	done := make(chan bool)
	go func() {
		r.Pipe(context.Background(), relay.End{Conn: b}, relay.End{Conn: c})
		close(done)
	}()
	for i := range 10 {
		testutil.Must(t, a.Send(context.Background(), imsg.Header{Type: uint32(i)}, nil))
		m := testutil.Receive(t, d)
		m.Close()
	}
	a.CloseWrite()
	d.CloseWrite()
	<-done
	if err := rec.Close(); !errors.Is(err, syscall.ENOSPC) || said != 1 {
		t.Errorf("%v, said %d times", err, said)
	}
}
