package imsg_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

func TestBadLength(t *testing.T) {
	tests := []struct {
		name     string
		d        imsg.Dialect // that the reader speaks
		wire     imsg.Dialect // that the header is written in
		len      int          // in the header
		file     bool
		max      int // SetMaxSize, 0 for the default
		wantLen  int
		wantText string
	}{
		{"0", imsg.Current, imsg.Current, 0, false, 0, 0, "below 16"},
		{"7", imsg.Current, imsg.Current, 7, false, 0, 7, "below 16"},
		{"15", imsg.Current, imsg.Current, 15, false, 0, 15, "below 16"},
		{"15 and a file", imsg.Current, imsg.Current, 15, true, 0, 15, "below 16"},
		{"16385", imsg.Current, imsg.Current, 16385, false, 0, 16385, "above 16384"},
		{"16385 and a file", imsg.Current, imsg.Current, 16385, true, 0, 16385, "above 16384"},
		{"65535", imsg.Current, imsg.Current, 65535, false, 0, 65535, "above 16384"},
		{"1 GiB", imsg.Current, imsg.Current, 1 << 30, false, 0, 1 << 30, "above 16384"},
		{"2 GiB - 1", imsg.Current, imsg.Current, 1<<31 - 1, true, 0, 1<<31 - 1, "above 16384"},
		{"own maximum", imsg.Current, imsg.Current, 117, false, 100, 117, "above 116"},
		{"no payload allowed", imsg.Current, imsg.Current, 17, false, -1, 17, "above 16"},
		{"legacy 0", imsg.Legacy, imsg.Legacy, 0, false, 0, 0, "below 16"},
		{"legacy 7 and a file", imsg.Legacy, imsg.Legacy, 7, true, 0, 7, "below 16"},
		{"legacy 15", imsg.Legacy, imsg.Legacy, 15, false, 0, 15, "below 16"},
		{"legacy 16385", imsg.Legacy, imsg.Legacy, 16385, false, 0, 16385, "above 16384"},
		{"legacy 65535", imsg.Legacy, imsg.Legacy, 65535, true, 0, 65535, "above 16384"},
		{"auto 7", imsg.Auto, imsg.Current, 7, false, 0, 7, "below 16"},
		{"auto 15 and a file", imsg.Auto, imsg.Current, 15, true, 0, 15, "below 16"},
		{"auto 1 GiB", imsg.Auto, imsg.Current, 1 << 30, false, 0, 1 << 30, "above 16384"},
		{"auto 16385", imsg.Auto, imsg.Current, 16385, false, 0, 16385, "above 16384"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "auto 1 GiB" && !testutil.LittleEndian() {
				t.Skip("a legacy header of 16384 bytes here")
			}
			testutil.BothSides(t, imsg.Config{Dialect: tt.d, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				if tt.max != 0 {
					testutil.Must(t, s.Set(max(tt.max, 0)))
				}
				good := testutil.Frame(tt.wire, 1, 0, false)
				behind := testutil.Frame(tt.wire, 9, 0, false) // must never be delivered
				peer.Write(slices.Concat(good, good, testutil.RawHeader(tt.wire, 2, tt.len, tt.file), behind))
				for range 2 {
					testutil.MustNext(t, s, 1, 0).Close()
				}
				err := testutil.ReceiveError(t, s)
				var he *imsg.HeaderError
				if !errors.As(err, &he) || he.Len != tt.wantLen || !errors.Is(err, syscall.ERANGE) || !errors.Is(err, imsg.ErrTooLarge) {
					t.Errorf("error %#v", err)
				}
				testutil.Equal(t, "timeout", testutil.WantOp(t, "a bad header", err, "receive", imsg.ErrTooLarge).Timeout(), false)
				if want := fmt.Sprintf("imsg: receive: header length %d %s", tt.wantLen, tt.wantText); !strings.HasPrefix(err.Error(), want) {
					t.Errorf("text %q, want %q", err, want)
				}
				testutil.WantError(t, "send after a bad header", s.Send(imsg.Header{Type: 3}, nil), nil)
			})
		})
	}
}

// TestEOF ends the stream behind every number of bytes of two messages.
func TestEOF(t *testing.T) {
	first, second := 3, 5
	whole := imsg.HeaderSize + first
	end := whole + imsg.HeaderSize + second
	for _, d := range testutil.Dialects {
		for cut := 0; cut <= end; cut++ {
			t.Run(fmt.Sprintf("%v %d", d, cut), func(t *testing.T) {
				testutil.BothSides(t, imsg.Config{Dialect: d}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
					p := slices.Concat(testutil.Frame(d, 1, first, false), testutil.Frame(d, 2, second, false))
					peer.Write(p[:cut])
					peer.Close()
					want := 0
					for _, n := range []int{whole, end} {
						if cut >= n {
							want++
						}
					}
					for i := range want {
						testutil.MustNext(t, s, uint32(i+1), []int{first, second}[i]).Close()
					}
					err := testutil.ReceiveError(t, s)
					between := cut == 0 || cut == whole || cut == end
					if between && err != io.EOF {
						t.Errorf("between messages: %#v, want io.EOF", err)
					}
					var oe *imsg.OpError
					if !between && (!errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || !errors.As(err, &oe)) {
						t.Errorf("inside a message: %#v, want io.ErrUnexpectedEOF in an OpError", err)
					}
					if n := s.Stats().Received; n.Messages != uint64(want) || n.Bytes != uint64(cut) {
						t.Errorf("counters %+v, want %d messages and %d bytes", n, want, cut)
					}
				})
			})
		}
	}
}

// TestGarbage feeds random bytes: a clear error, or messages, and nothing else.
func TestGarbage(t *testing.T) {
	for i := range 64 {
		d := testutil.Dialects[i%len(testutil.Dialects)]
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{Dialect: d, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				p := testutil.Pattern(uint32(i), 4096)
				if i%4 == 0 {
					p = bytes.Repeat([]byte{0, 0, byte(i), 0}, 1024)
				}
				peer.Write(p)
				peer.Close()
				for range 4096 {
					m, err := s.Next()
					if err == nil {
						m.Close()
						continue
					}
					var he *imsg.HeaderError
					if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &he) {
						t.Errorf("error %v", err)
					}
					return
				}
				t.Error("more messages than bytes")
			})
		})
	}
}

// TestFileFlood sends a file with every byte. A reader never holds many.
func TestFileFlood(t *testing.T) {
	for _, mark := range []bool{false, true} {
		t.Run(fmt.Sprintf("mark %v", mark), func(t *testing.T) {
			testutil.NoLeak(t)
			peer, b := peerOf(t, &imsg.Config{AllowFDPass: true})
			p := testutil.NewProbe(t)
			before := len(imsgtest.OpenFDs())
			most, messages := 0, 0
			for range 5 {
				for _, c := range testutil.Frame(imsg.Current, 1, 100, mark) {
					peer.Write([]byte{c}, p.Fd(), p.Fd())
					testutil.Must(t, b.ReadSocket())
					most = max(most, len(imsgtest.OpenFDs())-before)
					for m := range b.All() {
						testutil.WantFile(t, m, mark)
						messages++
						m.Close()
					}
				}
			}
			if messages != 5 || most > imsg.HeaderSize {
				t.Errorf("%d messages, up to %d files held", messages, most)
			}
			p.W.Close()
			testutil.WantClosed(t, "the file", p)
		})
	}
}

// TestFileInFlightWhenTheChannelEnds ends a legacy channel by too many files
// while a message that has claimed one is not complete yet: it never will be.
func TestFileInFlightWhenTheChannelEnds(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true, Dialect: imsg.Legacy, MaxQueueFiles: 16}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		q := testutil.NewProbe(t)
		f := testutil.Frame(imsg.Legacy, 1, 100, true)
		p := testutil.Pass(t, peer, f[:20])
		for i := range 17 {
			peer.Write(f[20+i:21+i], q.Fd())
		}
		q.W.Close()
		testutil.ReceiveError(t, s)
		testutil.WantClosed(t, "that nobody claimed, and of the message that never comes", q, p)
	})
}

// TestErrorWakesAll lets many goroutines wait for a stream that ends.
func TestErrorWakesAll(t *testing.T) {
	for _, eof := range []bool{false, true} {
		t.Run(fmt.Sprintf("eof %v", eof), func(t *testing.T) {
			testutil.NoLeak(t)
			const n = 5
			peer, s := imsgtest.Sockets(t)
			c := testutil.NewConn(t, s.Take(), nil)
			errs := make(chan error, n)
			for range n {
				go func() { _, err := c.Receive(testutil.DeadlineCtx(t)); errs <- err }()
			}
			testutil.WaitBlocked(t, n, "(*Conn).Receive")
			if eof { // only this direction: the other one still works
				testutil.Must(t, unix.Shutdown(peer.FD, unix.SHUT_WR))
			} else {
				peer.Write(testutil.RawHeader(imsg.Current, 1, 7, false))
			}
			first := <-errs
			var he *imsg.HeaderError
			if eof != (first == io.EOF) || eof == errors.As(first, &he) {
				t.Errorf("error %v", first)
			}
			testutil.SameError(t, first, n-1, func() error { return <-errs })
			testutil.WantError(t, "the other direction", c.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 1}, nil), nil)
		})
	}
}

// busyPair returns two Conns that would poll busily for an hour.
func busyPair(t *testing.T) (a, b *imsg.Conn) {
	testutil.NoLeak(t)
	return imsgtest.Pair(t, &imsg.Config{BusyPoll: time.Hour})
}

func TestBusyPoll(t *testing.T) {
	a, b := busyPair(t)
	ctx := testutil.DeadlineCtx(t)
	go func() {
		for m, err := range b.All(ctx) {
			if err == nil {
				err = b.Send(ctx, m.Header(), nil, m.Bytes())
				m.Close()
			}
			if err != nil {
				return // a misses the answer
			}
		}
	}()
	for i := range uint32(1000) {
		testutil.Must(t, a.Send(ctx, imsg.Header{Type: i + 1}, nil, []byte("ping")))
		m, err := a.Receive(ctx)
		if err != nil || m.Type() != i+1 || string(m.Bytes()) != "ping" {
			t.Fatalf("round %d: type %d, %v", i, m.Type(), err)
		}
		m.Close()
	}
}

// TestBusyPollEnds lets everything that ends a Receive end one that polls.
func TestBusyPollEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(c *imsg.Conn, cancel func())
		want error
	}{
		{"close", func(c *imsg.Conn, _ func()) { c.Close() }, net.ErrClosed},
		{"cancel", func(_ *imsg.Conn, cancel func()) { cancel() }, context.Canceled},
		{"deadline", func(c *imsg.Conn, _ func()) { c.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := busyPair(t)
			ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
			defer cancel()
			done := testutil.Go(func() error { _, err := a.Receive(ctx); return err })
			tt.end(a, cancel)
			testutil.WantError(t, "the error", <-done, tt.want)
		})
	}
}

// TestOutOfBand sends out-of-band data, which are not part of the stream: they
// are dropped, and do not keep the socket readable.
func TestOutOfBand(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p := testutil.NewProbe(t)
		peer.Write(testutil.Frame(imsg.Current, 1, 3, false))
		testutil.MustNext(t, s, 1, 3).Close()
		err := unix.Sendmsg(peer.FD, []byte("!"), unix.UnixRights(p.Fd()), nil, unix.MSG_OOB|unix.MSG_NOSIGNAL)
		if err != nil {
			t.Skipf("no out-of-band data here: %v", err)
		}
		p.W.Close()
		peer.Write(testutil.Frame(imsg.Current, 2, 5, false))
		testutil.MustNext(t, s, 2, 5).Close()
		testutil.WantClosed(t, "the file that came out of band", p)
	})
	t.Run("poll", func(t *testing.T) {
		peer, s := imsgtest.Sockets(t)
		b := imsg.NewBuf(s.FD, nil)
		if err := unix.Sendto(peer.FD, []byte("!"), unix.MSG_OOB|unix.MSG_NOSIGNAL, nil); err != nil {
			t.Skipf("no out-of-band data here: %v", err)
		}
		testutil.WaitFD(t, s.FD, unix.POLLIN)
		testutil.Must(t, b.ReadSocket())
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.FD), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
			t.Errorf("readable again, with nothing to read: %d, %v", n, err)
		}
	})
}

// TestResetBehindMessages lets a peer go that has not read an answer, which is a
// reset, but has sent messages before: they come first, also to a receiver that
// expects files, for one has just come.
func TestResetBehindMessages(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p := testutil.NewProbe(t)
		peer.Write(testutil.Frame(imsg.Current, 1, 3, true), p.Fd())
		testutil.MustNext(t, s, 1, 3).Close()
		testutil.Must(t, s.Send(imsg.Header{Type: 9}, nil))
		peer.Write(testutil.Frame(imsg.Current, 2, 5, true), p.Fd())
		peer.Write(testutil.Frame(imsg.Current, 3, 0, true), p.Fd())
		peer.Write(testutil.Frame(imsg.Current, 4, 7, false))
		peer.Close()
		for i, n := range []int{5, 0, 7} {
			testutil.PassOver(t, s, uint32(i+2), n, i < 2)
		}
		if err := testutil.ReceiveError(t, s); !errors.Is(err, syscall.ECONNRESET) && (err != io.EOF || runtime.GOOS == "linux") {
			t.Errorf("the end: %v", err)
		}
	})
}

// TestFalsePID receives a message with another process's id in it.
func TestFalsePID(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := imsgtest.Sockets(t)
	c := testutil.NewConn(t, b.Take(), nil)
	for _, pid := range []int32{1, 0, -1, math.MinInt32} {
		p := make([]byte, imsg.HeaderSize)
		imsg.Current.Encode(p, binary.NativeEndian, imsg.Header{Type: 1, PID: pid}, len(p), false)
		peer.Write(p)
		m, err := c.Receive(testutil.DeadlineCtx(t))
		if err != nil || m.PID() != pid {
			t.Errorf("pid %d, %v; want %d", m.PID(), err, pid)
		}
		m.Close()
		cred, err := c.PeerCred()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil || cred.UID != uint32(os.Geteuid()) || cred.PID != os.Getpid() && cred.PID != 0 {
			t.Errorf("the kernel says %+v, %v", cred, err)
		}
	}
}

// Messages are taken, closed and queued many at a time, in order, with their
// files, and an end or an error comes behind the last of them.
func TestBatches(t *testing.T) {
	testutil.NoLeak(t)
	ctx := t.Context()
	a, b, err := imsg.Pair(&imsg.Config{AllowFDPass: true, MaxQueueMessages: 100})
	testutil.Must(t, err)
	defer b.Close()
	p := testutil.NewProbe(t)
	var out []imsg.Outgoing
	for i := range uint32(101) {
		out = append(out, imsg.Outgoing{Header: imsg.Header{Type: i}, Data: testutil.Pattern(i, int(i*37)%3000)})
	}
	out[40].File = p.W
	if n, err := a.ComposeBatch(out); n != 100 || !errors.Is(err, imsg.ErrQueueFull) || a.QueueLen() != 100 {
		t.Fatalf("%d queued: %v", n, err)
	}
	sent := testutil.Go(func() error { return errors.Join(a.Flush(ctx), a.Close()) })
	ms := make([]imsg.Message, 7)
	if n, err := b.ReceiveBatch(ctx, nil); n != 0 || err != nil {
		t.Errorf("no room: %d, %v", n, err)
	}
	next := uint32(0)
	for {
		n, err := b.ReceiveBatch(ctx, ms)
		if err != nil {
			if n != 0 || err != io.EOF {
				t.Errorf("%d, %v", n, err)
			}
			break
		}
		for _, m := range ms[:n] {
			testutil.CheckFrame(t, m, next, int(next*37)%3000)
			testutil.Equal(t, fmt.Sprintf("message %d: file", next), m.HasFile(), next == 40)
			next++
		}
		testutil.Check(t, imsg.CloseAll(ms[:n]))
		for _, m := range ms[:n] {
			if m.Bytes() != nil || m.Close() != nil {
				t.Error("a message is open after CloseAll")
			}
		}
	}
	testutil.Equal(t, "messages", next, 100)
	testutil.Check(t, <-sent)
	testutil.WantClosed(t, "the file", p)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if n, err := b.ReceiveBatch(gone, ms); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %d, %v", n, err)
	}
}

// Each closes what its body has not kept, also when the loop is left.
func TestEach(t *testing.T) {
	testutil.NoLeak(t)
	for _, conn := range []bool{false, true} {
		ctx := t.Context()
		a, b := bufs(t, imsg.Config{AllowFDPass: true})
		ca, cb, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
		testutil.Must(t, err)
		compose := a.Compose
		if conn {
			compose = ca.Compose
		}
		var probes []*testutil.Probe
		for i := range uint32(50) {
			var w *os.File
			if i%10 == 3 {
				probes = append(probes, testutil.NewProbe(t))
				w = probes[len(probes)-1].W
			}
			testutil.Must(t, compose(imsg.Header{Type: i}, w, testutil.Pattern(i, 20)))
		}
		testutil.Must(t, errors.Join(a.Flush(), ca.Flush(ctx), ca.Close()))
		var kept, all []imsg.Message
		n := uint32(0)
		body := func(m imsg.Message) bool {
			testutil.CheckFrame(t, m, n, 20)
			all = append(all, m)
			if n++; n == 5 || n == 14 {
				kept = append(kept, m.Keep())
			}
			return n != 20
		}
		closed := func() {
			t.Helper()
			for i, m := range all {
				testutil.Equal(t, fmt.Sprintf("conn %v: message %d is open", conn, i), m.Bytes() != nil, i == 4 || i == 13)
			}
		}
		loop := func() {
			if conn {
				for m, err := range cb.Each(ctx) {
					if err != nil || !body(m) {
						break
					}
				}
				return
			}
			for n < 50 {
				testutil.Must(t, b.ReadSocket())
				for m := range b.Each() {
					if !body(m) {
						return
					}
				}
			}
		}
		loop()
		closed()
		loop()
		closed()
		if n != 50 || len(kept) != 2 {
			t.Fatalf("%d messages, %d kept", n, len(kept))
		}
		testutil.CheckFrame(t, kept[0], 4, 20)
		testutil.CheckFrame(t, kept[1], 13, 20)
		imsg.CloseAll(kept)
		testutil.WantClosed(t, fmt.Sprintf("conn %v", conn), probes...)
		cb.Close()
	}
}

// TestEachClosedByBody closes lent messages of earlier turns in the loop's body,
// in every way there is, which must not touch one that is kept.
func TestEachClosedByBody(t *testing.T) {
	ctx := t.Context()
	for name, again := range map[string]func(m imsg.Message){
		"Close":    func(m imsg.Message) { m.Close() },
		"CloseAll": func(m imsg.Message) { imsg.CloseAll([]imsg.Message{m, m}) },
	} {
		a, b := pairOf(t, nil)
		for i := range uint32(8) {
			testutil.Must(t, a.Compose(imsg.Header{Type: i}, nil, testutil.Pattern(i, 64)))
		}
		testutil.Must(t, a.Flush(ctx))
		var all []imsg.Message
		for m, err := range b.Each(ctx) {
			testutil.Must(t, err)
			switch len(all) {
			case 3:
				again(all[2])
			case 4:
				m.Keep()
			}
			if all = append(all, m); len(all) == 8 {
				break
			}
		}
		testutil.CheckFrame(t, all[4], 4, 64)
		for i := range uint32(3) { // nor is its memory used again
			testutil.Must(t, a.Send(ctx, imsg.Header{Type: 50 + i}, nil, testutil.Pattern(50+i, 900)))
			testutil.ReceiveFrame(t, b, 50+i, 900).Close()
			testutil.CheckFrame(t, all[4], 4, 64)
		}
		for i, m := range all {
			testutil.Equal(t, fmt.Sprintf("%s: message %d is open", name, i), m.Bytes() != nil, i == 4)
		}
		all[4].Close()
	}
}

// TestFullTable receives files when no descriptor is free.
func TestFullTable(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t, 64)
	testutil.EachDialect(t, testutil.Dialects, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
		p, q := testutil.NewProbe(t), testutil.NewProbe(t)
		peer.Write(testutil.Frame(d, 1, 10, false))
		peer.Write(testutil.Frame(d, 2, 20, true), p.Fd())
		peer.Write(testutil.Frame(d, 3, 30, true), p.Fd())
		peer.Write(testutil.Frame(d, 4, 40, true), q.Fd())
		peer.Write(testutil.Frame(d, 5, 50, false))
		p.W.Close()
		free := testutil.FillTable(t)
		testutil.PassOver(t, s, 1, 10, false)
		for typ := range uint32(2) {
			m := testutil.MustNext(t, s, typ+2, int(typ+2)*10)
			testutil.WantLost(t, m)
			m.Close()
		}
		free()
		testutil.WantClosed(t, "a lost file", p)
		q.WantIn(testutil.MustNext(t, s, 4, 40))
		testutil.MustNext(t, s, 5, 50).Close()
		testutil.Check(t, s.Send(imsg.Header{Type: 6}, nil))
	})
}
