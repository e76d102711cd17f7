package imsg_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestMarkWithoutFile delivers marked messages whose file did not come.
func TestMarkWithoutFile(t *testing.T) {
	for _, allow := range []bool{true, false} {
		t.Run(fmt.Sprintf("passing %v", allow), func(t *testing.T) {
			testutil.EachDialect(t, testutil.Dialects, imsg.Config{AllowFDPass: allow}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
				p := testutil.NewProbe(t)
				peer.Write(testutil.Frame(d, 1, 4, true))
				peer.Write(testutil.Frame(d, 2, 0, true))
				peer.Write(testutil.Frame(d, 3, 9, false))
				for _, typ := range []uint32{1, 2} {
					m := testutil.MustNext(t, s, typ, []int{4, 0}[typ-1])
					err := m.FileErr()
					if !errors.Is(err, imsg.ErrFileLost) || m.HasFile() || m.TakeFile() != nil || m.TakeFD() != -1 {
						t.Errorf("message %d: %v, file %v", typ, err, m.HasFile())
					}
					if want := fmt.Sprintf("imsg: receive type %d: file lost on the way", typ); err.Error() != want {
						t.Errorf("text %q, want %q", err, want)
					}
					m.Close()
					if m.FileErr() != nil {
						t.Error("a closed message has a lost file")
					}
				}
				m := testutil.MustNext(t, s, 3, 9)
				if m.FileErr() != nil || m.HasFile() {
					t.Errorf("unmarked message: %v, file %v", m.FileErr(), m.HasFile())
				}
				m.Close()
				// Only now: the kernel would have glued it to the others.
				peer.Write(testutil.Frame(d, 4, 1, true), p.Fd())
				p.W.Close()
				m = testutil.MustNext(t, s, 4, 1)
				if m.HasFile() != allow || (m.FileErr() == nil) != allow {
					t.Errorf("file passing %v: file %v, %v", allow, m.HasFile(), m.FileErr())
				}
				if allow {
					if p.Closed() {
						t.Error("the file is closed before its message")
					}
				}
				m.Close()
				if !p.Closed() {
					t.Error("the file is open after Close")
				}
				if err := s.Send(imsg.Header{Type: 5}, nil); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestUnclaimedFiles attaches files to messages that do not claim them.
func TestUnclaimedFiles(t *testing.T) {
	for _, where := range []string{"whole message", "in the payload", "with the end of one", "with half a header"} {
		t.Run(where, func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				p := testutil.NewProbe(t)
				f := testutil.Frame(imsg.Current, 1, 10, false)
				g := testutil.Frame(imsg.Current, 2, 5, false)
				switch where {
				case "whole message":
					peer.Write(f, p.Fd())
					peer.Write(g)
				case "in the payload":
					peer.Write(f[:20])
					peer.Write(f[20:23], p.Fd())
					peer.Write(slices.Concat(f[23:], g))
				case "with the end of one":
					peer.Write(f[:20])
					peer.Write(slices.Concat(f[20:], g), p.Fd())
				case "with half a header":
					peer.Write(f[:3], p.Fd())
					peer.Write(slices.Concat(f[3:], g))
				}
				p.W.Close()
				for i, n := range []int{10, 5} {
					m := testutil.MustNext(t, s, uint32(i+1), n)
					if m.HasFile() || m.FileErr() != nil {
						t.Errorf("message %d: file %v, %v", i+1, m.HasFile(), m.FileErr())
					}
					m.Close()
				}
				if !p.Closed() {
					t.Error("the file is still open")
				}
				// One that is claimed afterwards is not mistaken for it.
				q := testutil.NewProbe(t)
				peer.Write(testutil.Frame(imsg.Current, 3, 0, true), q.Fd())
				m := testutil.MustNext(t, s, 3, 0)
				file := m.TakeFile()
				m.Close()
				if err := q.Works(file); err != nil {
					t.Error(err)
				}
				file.Close()
			})
		})
	}
}

// TestHeldFiles fills the legacy FIFO: 16 files wait, the 17th ends the channel.
func TestHeldFiles(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Legacy, imsg.Auto} {
		for _, n := range []int{16, 17} {
			t.Run(fmt.Sprint(d, n), func(t *testing.T) {
				testutil.BothSides(t, imsg.Config{Dialect: d, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
					var probes []*testutil.Probe
					for i := range n {
						p := testutil.NewProbe(t)
						probes = append(probes, p)
						peer.Write(testutil.Frame(imsg.Legacy, uint32(i+1), 2, false), p.Fd())
					}
					for i := range n {
						m := testutil.MustNext(t, s, uint32(i+1), 2)
						m.Close()
					}
					for i, p := range probes {
						p.W.Close()
						if open := !p.Closed(); n == 17 == open {
							t.Errorf("file %d of %d open: %v", i+1, n, open)
						}
					}
					if n == 17 {
						err := testutil.ReceiveError(t, s)
						if want := "imsg: receive: ibuf: 17 files that no message claims, limit 16: too large"; err.Error() != want {
							t.Errorf("%q, want %q", err, want)
						}
						return
					}
					// The oldest goes to the first message that claims one.
					peer.Write(testutil.Frame(imsg.Legacy, 17, 2, true))
					m := testutil.MustNext(t, s, 17, 2)
					m.Close()
					for i, p := range probes {
						if p.Closed() != (i == 0) {
							t.Errorf("file %d closed: %v", i+1, p.Closed())
						}
					}
					s.Clear()
					for i, p := range probes {
						if !p.Closed() {
							t.Errorf("file %d is open at the end", i+1)
						}
					}
				})
			})
		}
	}
}

// TestSeveralFilesInOneControlMessage keeps the first of them.
func TestSeveralFilesInOneControlMessage(t *testing.T) {
	for _, n := range []int{2, 3, 8} {
		for _, mark := range []bool{true, false} {
			t.Run(fmt.Sprint(n, mark), func(t *testing.T) {
				if n > 2 {
					testutil.NeedTruncation(t)
				}
				testutil.EachDialect(t, []imsg.Dialect{imsg.Current, imsg.Legacy}, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
					var probes []*testutil.Probe
					var fds []int
					for range n {
						p := testutil.NewProbe(t)
						probes, fds = append(probes, p), append(fds, p.Fd())
					}
					peer.Write(testutil.Frame(d, 1, 3, mark), fds...)
					for _, p := range probes[1:] {
						p.W.Close()
					}
					m := testutil.MustNext(t, s, 1, 3)
					for i, p := range probes[1:] {
						if !p.Closed() {
							t.Errorf("file %d is open", i+2)
						}
					}
					if m.HasFile() != mark || m.FileErr() != nil {
						t.Errorf("file %v, %v", m.HasFile(), m.FileErr())
					}
					if f := m.TakeFile(); mark {
						if err := probes[0].Works(f); err != nil {
							t.Error(err)
						}
						f.Close()
					}
					m.Close()
					s.Clear()
					probes[0].W.Close()
					if !probes[0].Closed() {
						t.Error("file 1 is open at the end")
					}
				})
			})
		}
	}
}

// TestFileWithPartOfAHeader sends the file with the first n bytes of a message,
// alone or behind another message.
func TestFileWithPartOfAHeader(t *testing.T) {
	for _, before := range []int{0, 7} {
		for n := 1; n <= 24; n++ {
			t.Run(fmt.Sprint(before, n), func(t *testing.T) {
				testutil.EachDialect(t, testutil.Dialects, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
					p := testutil.NewProbe(t)
					f := testutil.Frame(d, 2, 9, true)
					peer.Write(testutil.Frame(d, 1, before, false))
					peer.Write(f[:n], p.Fd())
					m := testutil.MustNext(t, s, 1, before) // the kernel glued both
					m.Close()
					peer.Write(slices.Concat(f[n:], testutil.Frame(d, 3, 1, false)))
					m = testutil.MustNext(t, s, 2, 9)
					file := m.TakeFile()
					if err := p.Works(file); err != nil || m.FileErr() != nil {
						t.Errorf("%v, %v", err, m.FileErr())
					}
					file.Close()
					m.Close()
					testutil.MustNext(t, s, 3, 1).Close()
				})
			})
		}
	}
}
