package imsg_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// mustNext takes the next message, which must be what frame made.
func mustNext(t *testing.T, s *side, typ uint32, payload int) imsg.Message {
	t.Helper()
	m, err := s.next()
	if err != nil {
		t.Fatalf("message %d: %v", typ, err)
	}
	checkFrame(t, m, typ, payload)
	return m
}

// TestMarkWithoutFile delivers marked messages whose file did not come.
func TestMarkWithoutFile(t *testing.T) {
	for _, allow := range []bool{true, false} {
		t.Run(fmt.Sprintf("passing %v", allow), func(t *testing.T) {
			eachDialect(t, dialects, imsg.Config{AllowFDPass: allow}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *side) {
				p := newProbe(t)
				peer.Write(frame(d, 1, 4, true))
				peer.Write(frame(d, 2, 0, true))
				peer.Write(frame(d, 3, 9, false))
				for _, typ := range []uint32{1, 2} {
					m := mustNext(t, s, typ, []int{4, 0}[typ-1])
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
				m := mustNext(t, s, 3, 9)
				if m.FileErr() != nil || m.HasFile() {
					t.Errorf("unmarked message: %v, file %v", m.FileErr(), m.HasFile())
				}
				m.Close()
				// Only now: the kernel would have glued it to the others.
				peer.Write(frame(d, 4, 1, true), p.fd())
				p.w.Close()
				m = mustNext(t, s, 4, 1)
				if m.HasFile() != allow || (m.FileErr() == nil) != allow {
					t.Errorf("file passing %v: file %v, %v", allow, m.HasFile(), m.FileErr())
				}
				if allow {
					if p.closed() {
						t.Error("the file is closed before its message")
					}
				}
				m.Close()
				if !p.closed() {
					t.Error("the file is open after Close")
				}
				if err := s.send(imsg.Header{Type: 5}, nil); err != nil {
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
			bothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *side) {
				p := newProbe(t)
				f := frame(imsg.Current, 1, 10, false)
				g := frame(imsg.Current, 2, 5, false)
				switch where {
				case "whole message":
					peer.Write(f, p.fd())
					peer.Write(g)
				case "in the payload":
					peer.Write(f[:20])
					peer.Write(f[20:23], p.fd())
					peer.Write(slices.Concat(f[23:], g))
				case "with the end of one":
					peer.Write(f[:20])
					peer.Write(slices.Concat(f[20:], g), p.fd())
				case "with half a header":
					peer.Write(f[:3], p.fd())
					peer.Write(slices.Concat(f[3:], g))
				}
				p.w.Close()
				for i, n := range []int{10, 5} {
					m := mustNext(t, s, uint32(i+1), n)
					if m.HasFile() || m.FileErr() != nil {
						t.Errorf("message %d: file %v, %v", i+1, m.HasFile(), m.FileErr())
					}
					m.Close()
				}
				if !p.closed() {
					t.Error("the file is still open")
				}
				// One that is claimed afterwards is not mistaken for it.
				q := newProbe(t)
				peer.Write(frame(imsg.Current, 3, 0, true), q.fd())
				m := mustNext(t, s, 3, 0)
				file := m.TakeFile()
				m.Close()
				if err := q.works(file); err != nil {
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
				bothSides(t, imsg.Config{Dialect: d, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *side) {
					var probes []*probe
					for i := range n {
						p := newProbe(t)
						probes = append(probes, p)
						peer.Write(frame(imsg.Legacy, uint32(i+1), 2, false), p.fd())
					}
					for i := range n {
						m := mustNext(t, s, uint32(i+1), 2)
						m.Close()
					}
					for i, p := range probes {
						p.w.Close()
						if open := !p.closed(); n == 17 == open {
							t.Errorf("file %d of %d open: %v", i+1, n, open)
						}
					}
					if n == 17 {
						err := receiveError(t, s)
						if want := "imsg: receive: ibuf: 17 files that no message claims, limit 16: too large"; err.Error() != want {
							t.Errorf("%q, want %q", err, want)
						}
						return
					}
					// The oldest goes to the first message that claims one.
					peer.Write(frame(imsg.Legacy, 17, 2, true))
					m := mustNext(t, s, 17, 2)
					m.Close()
					for i, p := range probes {
						if p.closed() != (i == 0) {
							t.Errorf("file %d closed: %v", i+1, p.closed())
						}
					}
					s.clear()
					for i, p := range probes {
						if !p.closed() {
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
					needTruncation(t)
				}
				eachDialect(t, []imsg.Dialect{imsg.Current, imsg.Legacy}, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *side) {
					var probes []*probe
					var fds []int
					for range n {
						p := newProbe(t)
						probes, fds = append(probes, p), append(fds, p.fd())
					}
					peer.Write(frame(d, 1, 3, mark), fds...)
					for _, p := range probes[1:] {
						p.w.Close()
					}
					m := mustNext(t, s, 1, 3)
					for i, p := range probes[1:] {
						if !p.closed() {
							t.Errorf("file %d is open", i+2)
						}
					}
					if m.HasFile() != mark || m.FileErr() != nil {
						t.Errorf("file %v, %v", m.HasFile(), m.FileErr())
					}
					if f := m.TakeFile(); mark {
						if err := probes[0].works(f); err != nil {
							t.Error(err)
						}
						f.Close()
					}
					m.Close()
					s.clear()
					probes[0].w.Close()
					if !probes[0].closed() {
						t.Error("file 1 is open at the end")
					}
				})
			})
		}
	}
}

// needTruncation skips the test where files that do not fit a control message
// are left open, so that nobody can close them: in qemu's user mode, for one.
func needTruncation(t *testing.T) {
	t.Helper()
	if leavesOpen(t, 4) {
		t.Skip("files that did not fit a control message are left open here")
	}
}

// leavesOpen reports whether some of n files that are received with room for
// one are left open without telling. Padding is room for a second one on
// 64 bits.
func leavesOpen(t *testing.T, n int) bool {
	t.Helper()
	a, b := imsgtest.Sockets(t)
	p := newProbe(t)
	before := imsgtest.OpenFDs()
	a.Write([]byte{0}, slices.Repeat([]int{p.fd()}, n)...)
	oob := make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(b.FD, make([]byte, 1), oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range msgs {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	left := 0
	for fd := range imsgtest.OpenFDs() {
		if _, ok := before[fd]; !ok {
			unix.Close(fd)
			left++
		}
	}
	return left > 0
}

// TestFileWithPartOfAHeader sends the file with the first n bytes of a message,
// alone or behind another message.
func TestFileWithPartOfAHeader(t *testing.T) {
	for _, before := range []int{0, 7} {
		for n := 1; n <= 24; n++ {
			t.Run(fmt.Sprint(before, n), func(t *testing.T) {
				eachDialect(t, dialects, imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *side) {
					p := newProbe(t)
					f := frame(d, 2, 9, true)
					peer.Write(frame(d, 1, before, false))
					peer.Write(f[:n], p.fd())
					m := mustNext(t, s, 1, before) // the kernel glued both
					m.Close()
					peer.Write(slices.Concat(f[n:], frame(d, 3, 1, false)))
					m = mustNext(t, s, 2, 9)
					file := m.TakeFile()
					if err := p.works(file); err != nil || m.FileErr() != nil {
						t.Errorf("%v, %v", err, m.FileErr())
					}
					file.Close()
					m.Close()
					mustNext(t, s, 3, 1).Close()
				})
			})
		}
	}
}
