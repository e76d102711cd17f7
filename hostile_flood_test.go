package imsg_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// TestFileFlood sends a file with every byte. A reader never holds many.
func TestFileFlood(t *testing.T) {
	for _, mark := range []bool{false, true} {
		t.Run(fmt.Sprintf("mark %v", mark), func(t *testing.T) {
			testutil.NoLeak(t)
			peer, s := imsgtest.Sockets(t)
			b := imsg.NewBuf(s.FD, &imsg.Config{AllowFDPass: true})
			t.Cleanup(b.Clear)
			p := testutil.NewProbe(t)
			before := len(imsgtest.OpenFDs())
			most, messages := 0, 0
			for range 5 {
				for _, c := range testutil.Frame(imsg.Current, 1, 100, mark) {
					peer.Write([]byte{c}, p.Fd(), p.Fd())
					if err := b.ReadSocket(); err != nil {
						t.Fatal(err)
					}
					most = max(most, len(imsgtest.OpenFDs())-before)
					for m := range b.All() {
						if m.HasFile() != mark || m.FileErr() != nil {
							t.Errorf("file %v, %v", m.HasFile(), m.FileErr())
						}
						messages++
						m.Close()
					}
				}
			}
			if messages != 5 || most > imsg.HeaderSize {
				t.Errorf("%d messages, up to %d files held", messages, most)
			}
			p.W.Close()
			if !p.Closed() {
				t.Error("a file is left")
			}
		})
	}
}

// TestFileInFlightWhenTheChannelEnds ends a legacy channel by too many files
// while a message that has claimed one is not complete yet: it never will be.
func TestFileInFlightWhenTheChannelEnds(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true, Dialect: imsg.Legacy}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p, q := testutil.NewProbe(t), testutil.NewProbe(t)
		f := testutil.Frame(imsg.Legacy, 1, 100, true)
		peer.Write(f[:20], p.Fd())
		p.W.Close()
		for i := range 17 {
			peer.Write(f[20+i:21+i], q.Fd())
		}
		q.W.Close()
		testutil.ReceiveError(t, s)
		if !q.Closed() {
			t.Error("a file that nobody claimed is open")
		}
		if !p.Closed() {
			t.Error("the file of the message that never comes is open")
		}
	})
}

// TestAnnouncedSize announces a gigabyte: memory grows with what arrives.
func TestAnnouncedSize(t *testing.T) {
	testutil.BothSides(t, imsg.Config{}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		if err := s.Set(1<<31 - 17); err != nil {
			t.Fatal(err)
		}
		peer.Write(testutil.RawHeader(imsg.Current, 1, 1<<30, false))
		peer.Write(make([]byte, 50_000))
		peer.Close()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := testutil.ReceiveError(t, s); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d bytes of memory for 50000", n)
		}
	})
}

// TestIdleMemory uses channels heavily and looks at what they hold afterwards.
func TestIdleMemory(t *testing.T) {
	for _, tt := range []struct {
		name        string
		n, size     int
		file, whole bool
	}{
		{"large", 40, 16000, false, false},
		{"many small", 20_000, 0, false, false},
		{"buffers", 2000, 100, false, true},
		{"files", 100, 100, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			const channels = 40 // enough for what else is on the heap not to count
			var bufs []*imsg.Buf
			before := testutil.Heap()
			for range channels {
				sa, sb := imsgtest.Sockets(t)
				cfg := &imsg.Config{AllowFDPass: true}
				out, in := imsg.NewBuf(sa.FD, cfg), imsg.NewBuf(sb.FD, cfg)
				bufs = append(bufs, out, in)
				p := make([]byte, tt.size)
				for i := range tt.n {
					h := imsg.Header{Type: uint32(i + 1)}
					var err error
					switch {
					case tt.whole:
						b := ibuf.New(len(p))
						b.Add(p)
						err = out.ComposeBuffer(h, b)
					case tt.file:
						err = out.Compose(h, testutil.DevNull(t), p)
					default:
						err = out.Compose(h, nil, p)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				for got := 0; got < tt.n; {
					if err := errors.Join(out.WriteSocket(), in.ReadSocket()); err != nil {
						t.Fatal(err)
					}
					for m := range in.All() {
						m.Close()
						got++
					}
				}
				if err := in.ReadSocket(); err != nil { // nothing more
					t.Fatal(err)
				}
			}
			const limit = 4 << 10
			if n := (testutil.Heap() - before) / channels; n > limit {
				t.Errorf("an idle channel holds %d bytes", n)
			}
			runtime.KeepAlive(bufs)
		})
	}
}

// TestErrorWakesAll lets many goroutines wait for a stream that ends.
func TestErrorWakesAll(t *testing.T) {
	for _, eof := range []bool{false, true} {
		t.Run(fmt.Sprintf("eof %v", eof), func(t *testing.T) {
			testutil.NoLeak(t)
			const n = 5
			peer, s := imsgtest.Sockets(t)
			c, err := imsg.NewConn(s.Take(), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			errs := make(chan error, n)
			for range n {
				go func() { _, err := c.Receive(testutil.DeadlineCtx(t)); errs <- err }()
			}
			testutil.WaitBlocked(t, n, "(*Conn).Receive")
			if eof { // only this direction: the other one still works
				if err := unix.Shutdown(peer.FD, unix.SHUT_WR); err != nil {
					t.Fatal(err)
				}
			} else {
				peer.Write(testutil.RawHeader(imsg.Current, 1, 7, false))
			}
			first := <-errs
			var he *imsg.HeaderError
			if eof != (first == io.EOF) || eof == errors.As(first, &he) {
				t.Errorf("error %v", first)
			}
			testutil.SameError(t, first, n-1, func() error { return <-errs })
			if err := c.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil); err != nil {
				t.Errorf("the other direction: %v", err)
			}
		})
	}
}
