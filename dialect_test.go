package imsg_test

import (
	"errors"
	"slices"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

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
				if err := s.Set(200_000); err != nil {
					t.Fatal(err)
				}
				msgs := append(slices.Repeat([]msg{{16000, false}}, tt.plain), tt.msgs...)
				p := testutil.NewProbe(t)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i, m := range msgs {
						var fds []int
						if m.file {
							fds = []int{p.Fd()}
						}
						peer.Write(testutil.Frame(tt.wire, uint32(i), m.size, m.file), fds...)
					}
				}()
				for i, want := range msgs {
					m := testutil.MustNext(t, s, uint32(i), want.size)
					if m.HasFile() != want.file || m.FileErr() != nil {
						t.Errorf("message %d: file %v, %v", i, m.HasFile(), m.FileErr())
					}
					m.Close()
				}
				<-done
				if s.Dialect() != tt.want {
					t.Errorf("dialect %v, want %v", s.Dialect(), tt.want)
				}
			})
		})
	}
}

// TestAutoBecomesLegacy raises the maximum of an Auto channel whose peer then
// turns out to speak Legacy, which has no such messages.
func TestAutoBecomesLegacy(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true})
	t.Cleanup(b.Clear)
	if err := b.SetMaxSize(100_000); err != nil {
		t.Fatal(err)
	}
	peer.Write(testutil.Frame(imsg.Legacy, 1, 4, true), 0)
	testutil.MustNext(t, testutil.BufSide(t, b, s.FD), 1, 4).Close()
	if err := b.Compose(imsg.Header{}, nil, make([]byte, 65520)); !errors.Is(err, imsg.ErrTooLarge) {
		t.Errorf("65520 bytes to a Legacy peer: %v", err)
	}
	if err := b.Compose(imsg.Header{}, nil, make([]byte, 65519)); err != nil {
		t.Error(err)
	}
	if err := b.SetMaxSize(65520); !errors.Is(err, imsg.ErrTooLarge) {
		t.Errorf("a maximum that Legacy does not have: %v", err)
	}
}

// TestSetDialect is a relay that tells one side what it learnt from the other.
func TestSetDialect(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Legacy, imsg.Current} {
		t.Run(d.String(), func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				s.SetDialect(d)
				if s.Dialect() != d {
					t.Errorf("dialect %v, want %v", s.Dialect(), d)
				}
				f := testutil.DevNull(t)
				if err := s.Send(imsg.Header{Type: 1, ID: 2, PID: 3}, f); err != nil {
					t.Fatal(err)
				}
				f.Close()
				want := testutil.RawHeader(d, 1, imsg.HeaderSize, true)
				if got := testutil.ReadAvailable(t, peer.FD); string(got) != string(want) {
					t.Errorf("wrote % x, want % x", got, want)
				}
				peer.Write(testutil.Frame(d, 2, 5, true), 0)
				m := testutil.MustNext(t, s, 2, 5)
				if !m.HasFile() {
					t.Error("no file")
				}
				m.Close()
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
		if err := s.Set(100_000); err != nil {
			t.Fatal(err)
		}
		f := testutil.DevNull(t)
		defer f.Close()
		if err := s.Send(imsg.Header{Type: 1}, f); !errors.Is(err, imsg.ErrDialectUnknown) {
			t.Errorf("a file: %v", err)
		}
		if err := s.Send(imsg.Header{Type: 1}, nil, make([]byte, 65520)); !errors.Is(err, imsg.ErrDialectUnknown) {
			t.Errorf("65520 bytes: %v", err)
		}
		if _, err := f.Stat(); err != nil {
			t.Errorf("the file that was refused: %v", err)
		}
		if err := s.Send(imsg.Header{Type: 1}, nil, []byte("plain")); err != nil {
			t.Errorf("a plain message: %v", err)
		}
		peer.Write(testutil.Frame(imsg.Legacy, 2, 0, true), 0)
		testutil.MustNext(t, s, 2, 0).Close()
		f2 := testutil.DevNull(t)
		defer f2.Close()
		if err := s.Send(imsg.Header{Type: 1}, f2); err != nil {
			t.Errorf("a file when the dialect is known: %v", err)
		}
	})
}
