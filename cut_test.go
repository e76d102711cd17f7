package imsg_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
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
		f, err := os.CreateTemp(t.TempDir(), "file")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fds = append(fds, int(f.Fd()))
		inodes = append(inodes, inode(t, int(f.Fd())))
	}
	return fds, inodes
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Ino)
}

// collect takes what has arrived and describes it, one string a message.
func collect(t *testing.T, b *imsg.Buf, inodes []uint64, got []string) []string {
	for m := range b.All() {
		file := -1
		if fd := m.TakeFD(); fd >= 0 {
			for i, ino := range inodes {
				if ino == inode(t, fd) {
					file = i
				}
			}
			unix.Close(fd)
		}
		i := int(m.Type())
		ok := bytes.Equal(m.Bytes(), testutil.Payload(i, m.Len())) && m.ID() == 7 && m.PID() == 9 && m.FileErr() == nil
		got = append(got, fmt.Sprint(i, m.Len(), file, ok))
		m.Close()
	}
	return got
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

func streamLen(ps []testutil.Piece) (n int) {
	for _, p := range ps {
		n += len(p.P)
	}
	return n
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
				for at := 1; at < streamLen(ps); at++ {
					deliver(t, d, cut(ps, at), false, long, inodes)
					deliver(t, d, cut(ps, at), true, long, inodes)
				}
				every := make([]int, streamLen(ps))
				for i := range every {
					every[i] = i
				}
				deliver(t, d, cut(ps, every...), false, long, inodes)

				ps = bt.Encode(short, fds)
				for x := 1; x < streamLen(ps); x++ {
					for y := x + 1; y < streamLen(ps); y++ {
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
