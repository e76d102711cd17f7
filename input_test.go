package imsg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// cut splits the sends so that none crosses one of the stream offsets at.
func cut(ps []testutil.Piece, at ...int) []testutil.Piece {
	var out []testutil.Piece
	off := 0
	for _, p := range ps {
		for _, c := range at {
			if k := c - off; k > 0 && k < len(p.P) {
				out = append(out, testutil.Piece{P: p.P[:k], Fd: p.Fd})
				p = testutil.Piece{P: p.P[k:], Fd: -1}
				off += k
			}
		}
		out = append(out, p)
		off += len(p.P)
	}
	return out
}

// testFiles returns n different files and their inodes.
func testFiles(t *testing.T, n int) (fds []int, inodes []uint64) {
	t.Helper()
	for range n {
		p := testutil.NewProbe(t)
		fds, inodes = append(fds, p.Fd()), append(inodes, p.Inode)
	}
	return fds, inodes
}

// collect takes what has arrived and describes it, one string a message.
func collect(t *testing.T, b *imsg.Buf, inodes []uint64, got []string) []string {
	for m := range b.All() {
		file := -1
		if fd := m.TakeFD(); fd >= 0 {
			inode, err := testutil.Inode(fd)
			testutil.Must(t, err)
			file = slices.Index(inodes, inode)
			unix.Close(fd)
		}
		i := int(m.Type())
		ok := bytes.Equal(m.Bytes(), testutil.Payload(i, m.Len())) && m.ID() == 7 && m.PID() == 9 && m.FileErr() == nil
		got = append(got, fmt.Sprint(i, m.Len(), file, ok))
		m.Close()
	}
	return got
}

// bytesOf is how long the stream of msgs is.
func bytesOf(msgs []testutil.WireMsg) (n int) {
	for _, m := range msgs {
		n += imsg.HeaderSize + m.Size
	}
	return n
}

func describe(msgs []testutil.WireMsg) []string {
	var want []string
	for i, m := range msgs {
		want = append(want, fmt.Sprint(i, m.Size, m.File, true))
	}
	return want
}

// deliver sends the pieces and reads after each, or once all are sent, and
// checks that every message is whole and has its own file.
func deliver(t *testing.T, d imsg.Dialect, ps []testutil.Piece, glued bool, msgs []testutil.WireMsg, inodes []uint64) {
	t.Helper()
	a, r := imsgtest.Sockets(t)
	defer a.Close()
	defer r.Close()
	b := imsg.NewBuf(r.FD, &imsg.Config{Dialect: d, AllowFDPass: true})
	defer b.Clear()
	var got []string
	read := func() {
		if err := b.ReadSocket(); err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		got = collect(t, b, inodes, got)
	}
	for _, p := range ps {
		var fds []int
		if p.Fd >= 0 {
			fds = []int{p.Fd}
		}
		a.Write(p.P, fds...)
		if !glued {
			read()
		}
	}
	for i := 0; i < 3*len(ps)+64 && len(got) < len(msgs); i++ {
		read()
	}
	if want := describe(msgs); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

// Every file is on its message, wherever the stream is cut, once and twice.
func TestCutEverywhere(t *testing.T) {
	fds, inodes := testFiles(t, 3)
	long := []testutil.WireMsg{{Size: 0, File: -1}, {Size: 3, File: 0}, {Size: 5, File: -1}, {Size: 0, File: 1}, {Size: 40, File: 2}, {Size: 0, File: -1}, {Size: 1, File: -1}}
	short := []testutil.WireMsg{{Size: 1, File: -1}, {Size: 2, File: 0}, {Size: 0, File: 1}}
	for _, bt := range testutil.Batchings {
		for _, d := range []imsg.Dialect{bt.Dialect, imsg.Auto} {
			t.Run(bt.Name+" read as "+d.String(), func(t *testing.T) {
				ps := bt.Encode(long, fds)
				deliver(t, d, ps, true, long, inodes)
				var every []int
				for at := 1; at < bytesOf(long); at++ {
					deliver(t, d, cut(ps, at), false, long, inodes)
					deliver(t, d, cut(ps, at), true, long, inodes)
					every = append(every, at)
				}
				deliver(t, d, cut(ps, every...), false, long, inodes)

				ps = bt.Encode(short, fds)
				for x := 1; x < bytesOf(short); x++ {
					for y := x + 1; y < bytesOf(short); y++ {
						deliver(t, d, cut(ps, x, y), false, short, inodes)
					}
				}
			})
		}
	}
}

// A writer that sends a file with the first byte of a long batch whose last
// message claims it is understood although the batch is read in pieces.
func TestCutLongBatch(t *testing.T) {
	fds, inodes := testFiles(t, 2)
	for _, d := range []imsg.Dialect{imsg.Current, imsg.Legacy} {
		bt := testutil.Batching{Dialect: d, Last: true}
		for size := range 17 { // so that a read ends everywhere in the last header
			msgs := []testutil.WireMsg{{Size: 4000 + size, File: -1}, {Size: 30, File: -1}, {Size: 16000, File: -1}, {Size: 1, File: 0}, {Size: 20000 - 16000, File: -1}, {Size: 2, File: 1}}
			deliver(t, d, bt.Encode(msgs, fds), true, msgs, inodes)
		}
	}
}

// libutil loses the file when 65520 to 65534 bytes of whole messages precede
// it, since its read then ends in the middle of the header. Ours reads other
// sizes, so every one of them is straddled.
func TestCutStraddle(t *testing.T) {
	fds, inodes := testFiles(t, 1)
	for _, edge := range []int{65535, 4 << 10, 20 << 10, 16 << 10, 64 << 10, 84 << 10} {
		for k := 0; k <= imsg.HeaderSize; k++ {
			for _, bt := range testutil.Batchings[:2] {
				var msgs []testutil.WireMsg
				for n := edge - k; n > 0; {
					size := min(n, 16000)
					if rest := n - size; rest > 0 && rest < imsg.HeaderSize {
						size -= imsg.HeaderSize
					}
					msgs = append(msgs, testutil.WireMsg{Size: size - imsg.HeaderSize, File: -1})
					n -= size
				}
				msgs = append(msgs, testutil.WireMsg{Size: 10, File: 0}, testutil.WireMsg{Size: 0, File: -1})
				ps := bt.Encode(msgs, fds)
				deliver(t, bt.Dialect, ps, true, msgs, inodes)
			}
		}
	}
}

// TestManyReadsBeforeGet reads, in pieces of every size, small and large
// messages of which few are taken until all have arrived: each once, in order.
func TestManyReadsBeforeGet(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testutil.NoLeak(t)
			rnd := rand.New(rand.NewPCG(seed, 1))
			peer, b := peerOf(t, nil)
			testutil.Must(t, b.SetMaxSize(1<<20))
			var stream []byte
			var sizes []int
			for len(stream) < 600_000 {
				n := rnd.IntN(2000)
				if rnd.IntN(4) == 0 {
					n = rnd.IntN(200_000)
				}
				stream = append(stream, testutil.Frame(imsg.Current, uint32(len(sizes)+1), n, false)...)
				sizes = append(sizes, n)
			}
			taken := 0
			take := func(n int) {
				for m := range b.All() {
					testutil.CheckFrame(t, m, uint32(taken+1), sizes[taken])
					m.Close()
					if taken++; taken == n {
						return
					}
				}
			}
			piece := 500 + rnd.IntN(3000)
			if seed%4 == 0 {
				piece = 20_000
			}
			for len(stream) > 0 {
				n := min(len(stream), 1+rnd.IntN(piece))
				push(t, peer, b, stream[:n])
				stream = stream[n:]
				if rnd.IntN(16) == 0 {
					take(taken + 1)
				}
			}
			take(len(sizes))
			if taken != len(sizes) {
				t.Fatalf("%d messages of %d", taken, len(sizes))
			}
		})
	}
}

// TestOneMessageKept keeps the first message and forgets all others without
// closing them: "slower, never wrong" must not mean that memory grows.
func TestOneMessageKept(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := testutil.DeadlineCtx(t)
	payload := make([]byte, 16000)
	receive := func() imsg.Message {
		testutil.Must(t, a.Send(ctx, imsg.Header{Type: 1}, nil, payload))
		return testutil.Receive(t, b)
	}
	kept := receive()
	before := testutil.Heap()
	for range 4000 {
		receive()
	}
	if grown := testutil.Heap() - before; grown > 8<<20 {
		t.Errorf("one message of %d bytes kept %d bytes of memory of 4000 forgotten ones", kept.Len(), grown)
	}
	kept.Close()
}

// TestMessageAboveMaxPending receives one message that is larger than
// MaxPendingBytes: nobody can take it before it is whole.
func TestMessageAboveMaxPending(t *testing.T) {
	testutil.NoLeak(t)
	peer, b := peerOf(t, &imsg.Config{MaxPendingBytes: 1000})
	push(t, peer, b, testutil.Frame(imsg.Current, 1, 9000, false))
	getFrame(t, b, 1, 9000).Close()
}

// TestLargeMessageBehindUntaken receives a large message in pieces, and a small
// one, while an older one waits to be taken.
func TestLargeMessageBehindUntaken(t *testing.T) {
	for _, piece := range []int{2900, 7000, 50_000} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			testutil.NoLeak(t)
			peer, b := peerOf(t, nil)
			testutil.Must(t, b.SetMaxSize(1<<20))
			sizes := []int{100, 1_000_000, 50, 60}
			for i, n := range sizes {
				for p := range slices.Chunk(testutil.Frame(imsg.Current, uint32(i+1), n, false), piece) {
					push(t, peer, b, p)
				}
			}
			for i, n := range sizes {
				getFrame(t, b, uint32(i+1), n).Close()
			}
		})
	}
}

// TestUnclaimedAfterFullReads sends files that no message claims: the first
// two with so much that reads fill their memory one after the other. None may
// stay open once the messages that it came with are there.
func TestUnclaimedAfterFullReads(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		var probes []*testutil.Probe
		for _, count := range []int{3, 40, 1, 1, 1} {
			probes = append(probes, testutil.Pass(t, peer, bytes.Repeat(testutil.Frame(imsg.Current, 1, 2000, false), count)))
		}
		for range 3 + 40 + 3 {
			testutil.MustNext(t, s, 1, 2000).Close()
		}
		testutil.WantClosed(t, "the files", probes...)
	})
}

// TestMarkWithoutFile delivers marked messages whose file did not come.
func TestMarkWithoutFile(t *testing.T) {
	for _, allow := range []bool{true, false} {
		t.Run(fmt.Sprintf("passing %v", allow), func(t *testing.T) {
			testutil.EachDialect(t, testutil.Dialects, imsg.Config{AllowFDPass: allow}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
				peer.Write(testutil.Frame(d, 1, 4, true))
				peer.Write(testutil.Frame(d, 2, 0, true))
				peer.Write(testutil.Frame(d, 3, 9, false))
				for _, typ := range []uint32{1, 2} {
					m := testutil.MustNext(t, s, typ, []int{4, 0}[typ-1])
					err := m.FileErr()
					if !errors.Is(err, imsg.ErrFileLost) || m.HasFile() || m.TakeFile() != nil || m.TakeFD() != -1 {
						t.Errorf("message %d: %v, file %v", typ, err, m.HasFile())
					}
					testutil.Equal(t, "the text", err.Error(), fmt.Sprintf("imsg: receive type %d: file lost on the way", typ))
					m.Close()
					if m.FileErr() != nil {
						t.Error("a closed message has a lost file")
					}
				}
				testutil.PassOver(t, s, 3, 9, false)
				// Only now: the kernel would have glued it to the others.
				p := testutil.Pass(t, peer, testutil.Frame(d, 4, 1, true))
				m := testutil.MustNext(t, s, 4, 1)
				if m.HasFile() != allow || (m.FileErr() == nil) != allow {
					t.Errorf("file passing %v: file %v, %v", allow, m.HasFile(), m.FileErr())
				}
				if allow && p.Closed() {
					t.Error("the file is closed before its message")
				}
				m.Close()
				testutil.WantClosed(t, "the file", p)
				testutil.Check(t, s.Send(imsg.Header{Type: 5}, nil))
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
					testutil.PassOver(t, s, uint32(i+1), n, false)
				}
				testutil.WantClosed(t, "the file", p)
				// One that is claimed afterwards is not mistaken for it.
				q := testutil.NewProbe(t)
				peer.Write(testutil.Frame(imsg.Current, 3, 0, true), q.Fd())
				q.WantIn(testutil.MustNext(t, s, 3, 0))
			})
		})
	}
}

// TestOldWriter reads what a writer sends that puts files ahead: each write is
// of all messages up to the next with a file, which goes with the first byte,
// however much the kernel takes. So did OpenBSD before 6.9, and tmux 3.3a.
func TestOldWriter(t *testing.T) {
	const plain, files, size = 500, 40, 16000
	for _, d := range []imsg.Dialect{imsg.Legacy, imsg.Auto} {
		testutil.BothSides(t, imsg.Config{Dialect: d, AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
			testutil.Must(t, unix.SetsockoptInt(peer.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10))
			type message struct {
				p  []byte
				fd int // -1 when it is sent
			}
			var queue []message
			for i := range plain + files {
				m := message{testutil.Frame(imsg.Legacy, uint32(i), size, false), -1}
				if i >= plain {
					m = message{testutil.Frame(imsg.Legacy, uint32(i), 4, true), 0}
				}
				queue = append(queue, m)
			}
			most := 0
			done := make(chan error, 1)
			go func() {
				for len(queue) > 0 {
					var iov [][]byte
					var oob []byte
					for i := range queue {
						if iov = append(iov, queue[i].p); queue[i].fd >= 0 || len(iov) == 1024 {
							break
						}
					}
					last := &queue[len(iov)-1]
					if last.fd >= 0 {
						oob = unix.UnixRights(last.fd)
					}
					n, err := unix.SendmsgBuffers(peer.FD, iov, oob, nil, unix.MSG_NOSIGNAL)
					if err == unix.EAGAIN {
						testutil.WaitFD(t, peer.FD, unix.POLLOUT)
						continue
					}
					if err != nil {
						done <- err
						return
					}
					last.fd = -1
					for n > 0 || len(queue) > 0 && len(queue[0].p) == 0 {
						k := min(n, len(queue[0].p))
						queue[0].p, n = queue[0].p[k:], n-k
						if len(queue[0].p) > 0 {
							break
						}
						queue = queue[1:]
					}
					ahead := 0
					for _, m := range queue {
						if len(m.p) == imsg.HeaderSize+4 && m.fd < 0 {
							ahead++
						}
					}
					most = max(most, ahead)
				}
				done <- nil
			}()
			for i := range plain + files {
				n := size
				if i >= plain {
					n = 4
				}
				testutil.PassOver(t, s, uint32(i), n, i >= plain)
			}
			testutil.Must(t, <-done)
			t.Logf("%d files were ahead of their messages", most)
		})
	}
}

// TestHeldFiles fills the legacy FIFO: MaxQueueFiles wait, one more ends the
// channel.
func TestHeldFiles(t *testing.T) {
	for _, d := range []imsg.Dialect{imsg.Legacy, imsg.Auto} {
		for _, n := range []int{16, 17} {
			t.Run(fmt.Sprint(d, n), func(t *testing.T) {
				testutil.BothSides(t, imsg.Config{Dialect: d, AllowFDPass: true, MaxQueueFiles: 16}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
					var probes []*testutil.Probe
					for i := range n {
						p := testutil.NewProbe(t)
						probes = append(probes, p)
						peer.Write(testutil.Frame(imsg.Legacy, uint32(i+1), 2, false), p.Fd())
					}
					for i := range n {
						testutil.MustNext(t, s, uint32(i+1), 2).Close()
					}
					for i, p := range probes {
						p.W.Close()
						if open := !p.Closed(); n == 17 == open {
							t.Errorf("file %d of %d open: %v", i+1, n, open)
						}
					}
					if n == 17 {
						testutil.Equal(t, "the text", testutil.ReceiveError(t, s).Error(),
							"imsg: receive: 17 files that no message claims, limit 16 (MaxQueueFiles): too large")
						return
					}
					// The oldest goes to the first message that claims one.
					peer.Write(testutil.Frame(imsg.Legacy, 17, 2, true))
					testutil.MustNext(t, s, 17, 2).Close()
					for i, p := range probes {
						testutil.Equal(t, fmt.Sprintf("file %d closed", i+1), p.Closed(), i == 0)
					}
					s.Clear()
					testutil.WantClosed(t, "the files", probes...)
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
					testutil.WantFile(t, m, mark)
					if f := m.TakeFile(); mark {
						testutil.Check(t, probes[0].Works(f))
						f.Close()
					}
					m.Close()
					s.Clear()
					probes[0].W.Close()
					testutil.WantClosed(t, "file 1", probes[0])
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
					testutil.MustNext(t, s, 1, before).Close() // the kernel glued both
					peer.Write(slices.Concat(f[n:], testutil.Frame(d, 3, 1, false)))
					m := testutil.MustNext(t, s, 2, 9)
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

// TestFileBehindHeader sends the file with the last 6 bytes of a header, as no
// writer does: C gives it to that message, whose first byte came before here.
func TestFileBehindHeader(t *testing.T) {
	testutil.EachDialect(t, testutil.Dialects[:2], imsg.Config{AllowFDPass: true}, func(t *testing.T, d imsg.Dialect, peer *imsgtest.Socket, s *testutil.Side) {
		f := testutil.Frame(d, 2, 6, true)
		peer.Write(append(testutil.Frame(d, 1, 3, false), f[:10]...))
		testutil.MustNext(t, s, 1, 3).Close() // with the beginning of the next one
		p := testutil.Pass(t, peer, f[10:])
		m := testutil.MustNext(t, s, 2, 6)
		if legacy := d == imsg.Legacy; m.HasFile() != legacy || (m.FileErr() == nil) != legacy || p.Closed() == legacy {
			t.Errorf("file %v, %v, closed %v", m.HasFile(), m.FileErr(), p.Closed())
		}
		m.Close()
	})
}

// TestReceivedPayloadsAreCleared looks at the memory of messages that were
// closed, kept in a queue, or never taken before the channel ended.
func TestReceivedPayloadsAreCleared(t *testing.T) {
	testutil.BothSides(t, imsg.Config{}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		whole := testutil.RawHeader(imsg.Current, 1, imsg.HeaderSize+len(secret), false)
		whole = append(whole, secret...)
		half := whole[:len(whole)/2]
		peer.Write(slices.Concat(whole, whole, half))
		m, err := s.Next()
		if err != nil || string(m.Bytes()) != string(secret) {
			t.Fatalf("%q, %v", m.Bytes(), err)
		}
		taken := m.Bytes()
		behind := unsafe.Slice(&taken[0], len(secret)+len(whole)+len(half))[len(secret):]
		if !bytes.HasPrefix(behind, whole) || !bytes.HasSuffix(behind, half) {
			t.Fatal("what comes next is not behind the message: the test proves nothing")
		}
		s.Clear()
		checkZero(t, "never taken", behind)
		testutil.Equal(t, "an open message after the end of the channel", string(taken), string(secret))
		var q ibuf.Queue
		testutil.Must(t, imsg.Push(&q, m))
		checkZero(t, "moved to a queue", taken)
		kept, ok, err := imsg.Pop(&q)
		if !ok || err != nil || string(kept.Bytes()) != string(secret) {
			t.Fatalf("%v, %v", ok, err)
		}
		taken = kept.Bytes()
		kept.Close()
		checkZero(t, "closed", taken)
	})
}

// The files of messages that are dropped without Close are closed when the
// collector has run, but for some of the last ones.
func TestDroppedFiles(t *testing.T) {
	a, b := bufs(t, imsg.Config{AllowFDPass: true})
	const files = 100
	var probes []*testutil.Probe
	for range files {
		p := testutil.NewProbe(t)
		probes = append(probes, p)
		compose(t, a, b, imsg.Header{Type: 1}, p.W)
	}
	open := func() (n int) {
		for _, p := range probes {
			if p.Open() {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(testutil.Bound); open() > 8 && time.Now().Before(end); runtime.Gosched() {
		runtime.GC()
	}
	if n := open(); n > 8 {
		t.Errorf("%d of %d files are open", n, files)
	}
	b.Clear()
	runtime.KeepAlive(b)
}

// So are those that wait in a Buf or a Conn that is dropped: of a message that
// nobody has taken, and of one that has arrived in part.
func TestDroppedChannelFiles(t *testing.T) {
	cfg := &imsg.Config{AllowFDPass: true}
	for name, receive := range map[string]func(s *imsgtest.Socket) error{
		"Buf": func(s *imsgtest.Socket) error {
			b := imsg.NewBuf(s.FD, cfg)
			err := b.ReadSocket()
			m, _ := b.Get()
			return errors.Join(err, m.Close())
		},
		"Conn": func(s *imsgtest.Socket) error { // whose socket is dropped, too
			c, err := imsg.NewConn(s.Take(), cfg)
			if err != nil {
				return err
			}
			m, err := c.Receive(context.Background())
			return errors.Join(err, m.Close())
		},
	} {
		for _, size := range []int{imsg.HeaderSize, 100} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				testutil.NoLeak(t)
				ours, theirs := imsgtest.Sockets(t)
				first := testutil.RawHeader(imsg.Current, 1, imsg.HeaderSize, false)
				p := testutil.Pass(t, ours, append(first, testutil.RawHeader(imsg.Current, 2, size, true)...))
				testutil.Must(t, receive(theirs))
				for end := time.Now().Add(testutil.Bound); time.Now().Before(end); runtime.Gosched() {
					runtime.GC()
					hup := []unix.PollFd{{Fd: int32(ours.FD)}}
					unix.Poll(hup, 0)
					if p.Closed() && (theirs.FD >= 0 || hup[0].Revents != 0) {
						return
					}
				}
				t.Error("a file or a socket is open that nobody can take")
			})
		}
	}
}
