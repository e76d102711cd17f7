package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

// noAllocs fails the test if f allocates in the steady state.
func noAllocs(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	once := func() {
		if e := f(); e != nil && err == nil {
			err = e
		}
	}
	for range 100 {
		once() // until everything has its size
	}
	if n := testing.AllocsPerRun(200, once); n != 0 || err != nil {
		t.Errorf("%s: %v allocations, %v", what, n, err)
	}
}

// take receives n messages.
func take(c *imsg.Conn, n int) error {
	for range n {
		m, err := c.Receive(context.Background())
		if err != nil {
			return err
		}
		m.Close()
	}
	return nil
}

func TestNoAllocs(t *testing.T) {
	if testutil.Race {
		t.Skip("the race detector allocates")
	}
	testutil.NoLeak(t)
	bg := context.Background()
	cancellable, cancel := context.WithCancel(bg)
	defer cancel()
	for _, files := range []bool{false, true} {
		for _, size := range []int{0, 64, 4000, 16368} {
			name := fmt.Sprintf("%d bytes, file passing %v", size, files)
			cfg := &imsg.Config{AllowFDPass: files}
			p := make([]byte, size)
			h := imsg.Header{Type: 1}
			a, b, err := imsg.Pair(cfg)
			testutil.Must(t, err)
			noAllocs(t, "Send, Receive, Close of "+name, func() error {
				if err := a.Send(bg, h, nil, p); err != nil {
					return err
				}
				return take(b, 1)
			})
			noAllocs(t, "the same with a context that can end, of "+name, func() error {
				if err := a.Send(cancellable, h, nil, p); err != nil {
					return err
				}
				m, err := b.Receive(cancellable)
				m.Close()
				return err
			})
			noAllocs(t, "Queue and Flush of 6 times "+name, func() error {
				for range 6 {
					if err := a.Compose(h, nil, p); err != nil {
						return err
					}
				}
				if err := a.Flush(bg); err != nil {
					return err
				}
				return take(b, 6)
			})
			a.Close()
			b.Close()

			sa, sb := imsgtest.Sockets(t)
			out, in := imsg.NewBuf(sa.FD, cfg), imsg.NewBuf(sb.FD, cfg)
			for _, n := range []int{1, 6} {
				noAllocs(t, fmt.Sprintf("Buf, %d times %s", n, name), func() error {
					for range n {
						if err := out.Compose(h, nil, p); err != nil {
							return err
						}
					}
					if err := out.WriteSocket(); err != nil {
						return err
					}
					for got := 0; got < n; {
						if err := in.ReadSocket(); err != nil {
							return err
						}
						for m := range in.All() {
							m.Close()
							got++
						}
					}
					return in.ReadSocket() // nothing more: let go of big buffers
				})
			}
		}
	}
}

// TestNoAllocsPingPong counts both goroutines, which sleep between messages.
func TestNoAllocsPingPong(t *testing.T) {
	if testutil.Race {
		t.Skip("the race detector allocates")
	}
	testutil.NoLeak(t)
	for _, size := range []int{64, 16368} {
		a, b := imsgtest.Pair(t, nil)
		p := make([]byte, size)
		done := make(chan error, 1)
		bg := context.Background()
		go func() {
			for {
				m, err := b.Receive(bg)
				if err == nil {
					err = b.Send(bg, imsg.Header{Type: 2}, nil, m.Bytes())
				}
				if err != nil {
					done <- err
					return
				}
				m.Close()
			}
		}()
		noAllocs(t, fmt.Sprintf("ping-pong of %d bytes", size), func() error {
			if err := a.Send(bg, imsg.Header{Type: 1}, nil, p); err != nil {
				return err
			}
			return take(a, 1)
		})
		a.Close()
		<-done
	}
}

// TestAnnouncedSize announces a gigabyte: memory grows with what arrives.
func TestAnnouncedSize(t *testing.T) {
	testutil.BothSides(t, imsg.Config{}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		testutil.Must(t, s.Set(1<<31-17))
		peer.Write(testutil.RawHeader(imsg.Current, 1, 1<<30, false))
		peer.Write(make([]byte, 50_000))
		peer.Close()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		testutil.WantError(t, "the error", testutil.ReceiveError(t, s), io.ErrUnexpectedEOF)
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
					testutil.Must(t, err)
				}
				for got := 0; got < tt.n; {
					testutil.Must(t, errors.Join(out.WriteSocket(), in.ReadSocket()))
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

// TestIdleMemoryLate receives after its deadline: the Conns, which have received
// before, hold no memory for what comes next.
func TestIdleMemoryLate(t *testing.T) {
	testutil.NoLeak(t)
	const channels = 100
	p, ctx := make([]byte, 16000), context.Background()
	var conns []*imsg.Conn
	before := testutil.Heap()
	for range channels {
		a, b := imsgtest.Pair(t, nil)
		conns = append(conns, a, b)
		testutil.Must(t, errors.Join(a.Send(ctx, imsg.Header{Type: 1}, nil, p), take(b, 1), b.SetReadDeadline(time.Unix(1, 0))))
		_, err := b.Receive(ctx)
		testutil.WantError(t, "Receive", err, os.ErrDeadlineExceeded)
	}
	const limit = 6 << 10 // of both sides
	if n := (testutil.Heap() - before) / channels; n > limit {
		t.Errorf("an idle pair holds %d bytes", n)
	}
	runtime.KeepAlive(conns)
}

// TestSendNeedsNoQueue sends large messages in several parts on new channels:
// the kernel gets them from where they are, in one system call.
func TestSendNeedsNoQueue(t *testing.T) {
	if testutil.Race {
		t.Skip("the race detector allocates")
	}
	testutil.NoLeak(t)
	const size = 64 << 10
	for _, files := range []bool{false, true} {
		a, b := imsgtest.Pair(t, &imsg.Config{AllowFDPass: files})
		testutil.Must(t, errors.Join(a.SetMaxSize(size), b.SetMaxSize(size)))
		p, ctx := testutil.Pattern(1, size), context.Background()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := a.Send(ctx, imsg.Header{Type: 1}, nil, p[:1], nil, p[1:1000], p[1000:])
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > size/2 || err != nil {
			t.Errorf("%d bytes allocated, %v", n, err)
		}
		if n := a.Stats().Sent; n.Calls != 1 || n.Messages != 1 || n.Bytes != size+imsg.HeaderSize {
			t.Errorf("%+v", n)
		}
		testutil.ReceiveAll(t, b, 1)
		noAllocs(t, "a payload on the stack", func() error {
			var payload [32]byte
			payload[31] = 1
			if err := a.Send(ctx, imsg.Header{Type: 1}, nil, payload[:16], payload[16:]); err != nil {
				return err
			}
			return take(b, 1)
		})
	}
}
