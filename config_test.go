package imsg_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

func TestMaxSizeBounds(t *testing.T) {
	for _, tt := range []struct {
		d     imsg.Dialect
		n     int
		limit int // in the error, 0 for none
	}{
		{imsg.Current, 0, 0},
		{imsg.Current, 65520, 0},
		{imsg.Current, 1<<31 - 1 - 16, 0},
		{imsg.Current, 1<<31 - 16, 1<<31 - 17},
		{imsg.Current, 1<<31 - 1, 1<<31 - 17},
		{imsg.Current, -1, 1<<31 - 17},
		{imsg.Current, -1 << 31, 1<<31 - 17},
		{imsg.Legacy, 0, 0},
		{imsg.Legacy, 65519, 0},
		{imsg.Legacy, 65520, 65519},
		{imsg.Legacy, 1<<31 - 17, 65519},
		{imsg.Auto, 65519, 0},
		{imsg.Auto, 65520, 0},
		{imsg.Auto, 1<<31 - 16, 1<<31 - 17},
		{imsg.Auto, -1, 1<<31 - 17},
	} {
		t.Run(fmt.Sprint(tt.d, tt.n), func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{Dialect: tt.d}
			_, b := peerOf(t, cfg)
			c, _ := imsgtest.Pair(t, cfg)
			for _, set := range []func(int) error{b.SetMaxSize, c.SetMaxSize} {
				err := set(tt.n)
				if tt.limit == 0 {
					testutil.Check(t, err)
					continue
				}
				want := fmt.Sprintf("imsg: set max size: payload of %d bytes, limit %d with the %v dialect: too large", tt.n, tt.limit, tt.d)
				if !errors.Is(err, imsg.ErrTooLarge) || !errors.Is(err, syscall.ERANGE) || err.Error() != want {
					t.Errorf("%v, want %q", err, want)
				}
			}
			if tt.limit != 0 { // what was before still holds
				testutil.WantError(t, "the error", b.Compose(imsg.Header{}, nil, make([]byte, 16369)), imsg.ErrTooLarge)
				testutil.Check(t, b.Compose(imsg.Header{}, nil, make([]byte, 16368)))
			}
		})
	}
}

// TestLargestMessages sends the largest message each dialect has.
func TestLargestMessages(t *testing.T) {
	for _, tt := range []struct {
		d imsg.Dialect
		n int
	}{{imsg.Current, 16368}, {imsg.Legacy, 65519}, {imsg.Auto, 65519}, {imsg.Current, 3 << 20}} {
		for _, file := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.d, tt.n, file), func(t *testing.T) {
				testutil.NoLeak(t)
				a, b := imsgtest.Pair(t, &imsg.Config{Dialect: tt.d})
				for _, c := range []*imsg.Conn{a, b} {
					testutil.Must(t, c.SetMaxSize(tt.n))
				}
				var f *os.File
				if file {
					f = testutil.OwnFile(t)
				}
				done := make(chan error, 1)
				ctx := testutil.DeadlineCtx(t)
				go func() { done <- a.Send(ctx, imsg.Header{Type: 1}, f, testutil.Pattern(1, tt.n)) }()
				m := testutil.ReceiveFrame(t, b, 1, tt.n)
				testutil.WantFile(t, m, file)
				m.Close()
				testutil.Check(t, <-done)
			})
		}
	}
}

// TestAuto lets an Auto channel listen to a peer, and looks at what it writes.
func TestAuto(t *testing.T) {
	type step struct {
		wire imsg.Dialect
		size int
		file bool
		want imsg.Dialect // in force afterwards, on a little-endian machine
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"silence", nil},
		{"no files", []step{{imsg.Current, 0, false, imsg.Auto}, {imsg.Current, 300, false, imsg.Auto}, {imsg.Current, 65519, false, imsg.Auto}}},
		{"no files, legacy", []step{{imsg.Legacy, 0, false, imsg.Auto}, {imsg.Legacy, 65519, false, imsg.Auto}}},
		{"current at once", []step{{imsg.Current, 4, true, imsg.Current}}},
		{"legacy at once", []step{{imsg.Legacy, 4, true, imsg.Legacy}}},
		{"current later", []step{{imsg.Current, 4, false, imsg.Auto}, {imsg.Current, 0, true, imsg.Current}, {imsg.Current, 5, false, imsg.Current}, {imsg.Current, 5, true, imsg.Current}}},
		{"legacy later", []step{{imsg.Legacy, 4, false, imsg.Auto}, {imsg.Legacy, 0, true, imsg.Legacy}, {imsg.Legacy, 5, false, imsg.Legacy}, {imsg.Legacy, 5, true, imsg.Legacy}}},
		{"large with a file, current", []step{{imsg.Current, 65519, true, imsg.Current}}},
		{"large with a file, legacy", []step{{imsg.Legacy, 65519, true, imsg.Legacy}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			peer, s := imsgtest.Sockets(t)
			b := testutil.NewBuf(t, s.FD, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true})
			testutil.Must(t, b.SetMaxSize(65519))
			side := testutil.BufSide(t, b, s.FD)
			in := imsg.Auto
			look := func() {
				t.Helper()
				testutil.Equal(t, "dialect", b.Dialect(), in)
				for _, file := range []bool{false, true} {
					var f *os.File
					if file {
						f = testutil.DevNull(t)
					}
					testutil.Must(t, b.Compose(imsg.Header{Type: 3, ID: 4, PID: 5}, f, []byte("hello")))
					testutil.Must(t, b.Flush())
					want := make([]byte, imsg.HeaderSize)
					in.Encode(want, binary.NativeEndian, imsg.Header{Type: 3, ID: 4, PID: 5}, 21, file)
					wantWritten(t, peer, append(want, "hello"...)) // which closes the file
				}
			}
			look()
			for i, st := range tt.steps {
				typ := uint32(i + 1)
				peer.Write(testutil.Frame(st.wire, typ, st.size, st.file), testutil.NewProbe(t).FDs(st.file)...)
				m := testutil.MustNext(t, side, typ, st.size)
				testutil.WantFile(t, m, st.file)
				m.Close()
				if in = st.want; !testutil.LittleEndian() {
					in = st.wire // every header tells there
				}
				look()
			}
		})
	}
}

// TestCrossedDialects is how real users get hurt: the wrong one must fail, or
// lose the file and say so where the wire says it.
func TestCrossedDialects(t *testing.T) {
	if !testutil.LittleEndian() {
		t.Skip("big-endian: every header differs")
	}
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p := testutil.Pass(t, peer, testutil.Frame(imsg.Legacy, 1, 4, true))
		err := testutil.ReceiveError(t, s)
		var he *imsg.HeaderError
		if !errors.As(err, &he) || he.Len != 1<<16+20 || he.Limit != 16384 {
			t.Errorf("%v", err)
		}
		testutil.WantClosed(t, "the file", p)
	})
	testutil.BothSides(t, imsg.Config{AllowFDPass: true, Dialect: imsg.Legacy}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		p := testutil.Pass(t, peer, testutil.Frame(imsg.Current, 1, 4, true))
		m := testutil.MustNext(t, s, 1, 4)
		testutil.WantFile(t, m, false) // the legacy dialect knows no such flag
		m.Close()
		s.Clear()
		testutil.WantClosed(t, "the file", p)
	})
}

// TestAutoAbove64K lets an Auto channel with a large maximum listen to headers
// that are valid in both dialects.
func TestAutoAbove64K(t *testing.T) {
	if !testutil.LittleEndian() {
		t.Skip("big-endian: the ambiguous lengths are others")
	}
	type msg struct {
		size int
		file bool
	}
	for _, tt := range []struct {
		name  string
		wire  imsg.Dialect
		plain int // messages of 16000 bytes before, so that reads are large
		msgs  []msg
		want  imsg.Dialect
	}{
		{"a route of bgpd", imsg.Current, 0, []msg{{96000, false}}, imsg.Current},
		{"shortest ambiguous", imsg.Current, 0, []msg{{65536, false}}, imsg.Current},
		{"longest ambiguous", imsg.Current, 0, []msg{{131055, false}}, imsg.Current},
		{"too short for legacy", imsg.Current, 0, []msg{{65535, false}}, imsg.Current},
		{"too long for legacy", imsg.Current, 0, []msg{{131056, false}}, imsg.Current},
		{"up to legacy's longest", imsg.Current, 0, []msg{{65519, false}}, imsg.Auto},
		{"legacy with a file", imsg.Legacy, 0, []msg{{4, true}, {300, false}}, imsg.Legacy},
		{"legacy's longest with a file", imsg.Legacy, 0, []msg{{65519, true}}, imsg.Legacy},
		{"legacy with a file, large reads", imsg.Legacy, 40, []msg{{4, true}, {300, false}, {0, true}}, imsg.Legacy},
		{"a file behind a large one", imsg.Current, 0, []msg{{65536, false}, {4, true}}, imsg.Current},
		{"a file behind a large one, large reads", imsg.Current, 40, []msg{{65536, false}, {4, true}, {70000, false}, {0, true}}, imsg.Current},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				testutil.Must(t, s.Set(200_000))
				msgs := append(slices.Repeat([]msg{{16000, false}}, tt.plain), tt.msgs...)
				p := testutil.NewProbe(t)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i, m := range msgs {
						peer.Write(testutil.Frame(tt.wire, uint32(i), m.size, m.file), p.FDs(m.file)...)
					}
				}()
				for i, want := range msgs {
					testutil.PassOver(t, s, uint32(i), want.size, want.file)
				}
				<-done
				testutil.Equal(t, "dialect", s.Dialect(), tt.want)
			})
		})
	}
}

// TestAutoBecomesLegacy raises the maximum of an Auto channel whose peer then
// turns out to speak Legacy, which has no such messages.
func TestAutoBecomesLegacy(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := testutil.NewBuf(t, s.FD, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true})
	testutil.Must(t, b.SetMaxSize(100_000))
	peer.Write(testutil.Frame(imsg.Legacy, 1, 4, true), 0)
	testutil.MustNext(t, testutil.BufSide(t, b, s.FD), 1, 4).Close()
	testutil.WantError(t, "65520 bytes to a Legacy peer", b.Compose(imsg.Header{}, nil, make([]byte, 65520)), imsg.ErrTooLarge)
	testutil.Check(t, b.Compose(imsg.Header{}, nil, make([]byte, 65519)))
	testutil.WantError(t, "a maximum that Legacy does not have", b.SetMaxSize(65520), imsg.ErrTooLarge)
}

// TestSetDialect is a relay that tells one side what it learnt from the other.
func TestSetDialect(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Legacy, imsg.Current} {
		t.Run(d.String(), func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				s.SetDialect(d)
				testutil.Equal(t, "dialect", s.Dialect(), d)
				f := testutil.DevNull(t)
				testutil.Must(t, s.Send(imsg.Header{Type: 1, ID: 2, PID: 3}, f))
				f.Close()
				want := testutil.RawHeader(d, 1, imsg.HeaderSize, true)
				wantWritten(t, peer, want)
				peer.Write(testutil.Frame(d, 2, 5, true), 0)
				testutil.PassOver(t, s, 2, 5, true)
			})
		})
	}
}

// TestRequireDialect refuses what would be a guess, and nothing else.
func TestRequireDialect(t *testing.T) {
	if !testutil.LittleEndian() {
		t.Skip("big-endian: every message is a guess")
	}
	testutil.BothSides(t, imsg.Config{Dialect: imsg.Auto, AllowFDPass: true, RequireDialect: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		testutil.Must(t, s.Set(100_000))
		f := testutil.OwnFile(t)
		testutil.WantError(t, "a file", s.Send(imsg.Header{Type: 1}, f), imsg.ErrDialectUnknown)
		testutil.WantError(t, "65520 bytes", s.Send(imsg.Header{Type: 1}, nil, make([]byte, 65520)), imsg.ErrDialectUnknown)
		testutil.WantOpen(t, "the file that was refused", f)
		testutil.WantError(t, "a plain message", s.Send(imsg.Header{Type: 1}, nil, []byte("plain")), nil)
		peer.Write(testutil.Frame(imsg.Legacy, 2, 0, true), 0)
		testutil.MustNext(t, s, 2, 0).Close()
		testutil.WantError(t, "a file when the dialect is known", s.Send(imsg.Header{Type: 1}, testutil.OwnFile(t)), nil)
	})
}

// TestAutoQueuedFile queues a file before the peer's dialect is known: it goes
// out in what the peer then turns out to speak.
func TestAutoQueuedFile(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Legacy, imsg.Current} {
		t.Run(d.String(), func(t *testing.T) {
			testutil.NoLeak(t)
			cfg := &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}
			peer, sb := imsgtest.Sockets(t)
			b := testutil.NewBuf(t, sb.FD, cfg)
			peer2, sc := imsgtest.Sockets(t)
			c := testutil.NewConn(t, sc.Take(), cfg)
			testutil.Must(t, c.SetMaxSize(70_000))
			for _, compose := range []func(imsg.Header, *os.File, ...[]byte) error{b.Compose, c.Compose} {
				testutil.Must(t, errors.Join(
					compose(imsg.Header{Type: 1, ID: 2, PID: 3}, nil, testutil.Pattern(1, 5)),
					compose(imsg.Header{Type: 2, ID: 3, PID: 4}, testutil.DevNull(t), testutil.Pattern(2, 6)),
					compose(imsg.Header{Type: 3, ID: 4, PID: 5}, testutil.DevNull(t)),
					compose(imsg.Header{Type: 4, ID: 5, PID: 6}, nil)))
			}
			want := slices.Concat(testutil.Frame(d, 1, 5, false), testutil.Frame(d, 2, 6, true),
				testutil.Frame(d, 3, 0, true), testutil.Frame(d, 4, 0, false))
			peer.Write(testutil.Frame(d, 9, 0, true), 0)
			testutil.MustNext(t, testutil.BufSide(t, b, sb.FD), 9, 0).Close()
			testutil.Must(t, b.Flush())
			peer2.Write(testutil.Frame(d, 9, 0, true), 0)
			testutil.ReceiveAll(t, c, 9)
			testutil.Must(t, c.Flush(testutil.DeadlineCtx(t)))
			wantWritten(t, peer, want)
			wantWritten(t, peer2, want)
		})
	}
}
