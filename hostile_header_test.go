package imsg_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
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
					if err := s.Set(max(tt.max, 0)); err != nil {
						t.Fatal(err)
					}
				}
				good := testutil.Frame(tt.wire, 1, 0, false)
				behind := testutil.Frame(tt.wire, 9, 0, false) // must never be delivered
				peer.Write(slices.Concat(good, good, testutil.RawHeader(tt.wire, 2, tt.len, tt.file), behind))
				for range 2 {
					m, err := s.Next()
					if err != nil {
						t.Fatal(err)
					}
					testutil.CheckFrame(t, m, 1, 0)
					m.Close()
				}
				err := testutil.ReceiveError(t, s)
				var he *imsg.HeaderError
				if !errors.As(err, &he) || he.Len != tt.wantLen || !errors.Is(err, syscall.ERANGE) || !errors.Is(err, imsg.ErrTooLarge) {
					t.Errorf("error %#v", err)
				}
				var oe *imsg.OpError
				if !errors.As(err, &oe) || oe.Op != "receive" || oe.Timeout() {
					t.Errorf("error %#v", err)
				}
				if want := fmt.Sprintf("imsg: receive: header length %d %s", tt.wantLen, tt.wantText); err.Error() != want {
					t.Errorf("text %q, want %q", err, want)
				}
				if err := s.Send(imsg.Header{Type: 3}, nil); err != nil {
					t.Errorf("send after a bad header: %v", err)
				}
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
						m, err := s.Next()
						if err != nil {
							t.Fatal(err)
						}
						testutil.CheckFrame(t, m, uint32(i+1), []int{first, second}[i])
						m.Close()
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
