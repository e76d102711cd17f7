//go:build unix && !aix

package unixmsg

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// TestRecvMany sends pieces, some with a file, and compares all that comes
// with what was sent.
func TestRecvMany(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sizes []int // negative: with a file
	}{
		{"one", []int{-20}},
		{"plain", []int{10, 20, 30}},
		{"files", []int{-20, -30, -40, -1}},
		{"both", []int{100, -20, 5, -30, 7, 7, -16, 1000}},
		{"more than fit one call", bytesWithFiles(3 * MaxParts)},
		{"longer than a part", []int{-3000, -3000, 5000, -9000}},
	} {
		for _, size := range []int{1, 100, 4 << 10, 64 << 10} {
			t.Run(fmt.Sprintf("%s, %d bytes", tt.name, size), func(t *testing.T) {
				noLeak(t)
				a, b := pair(t, true)
				var sent, got []byte
				var ends []int // of the pieces with a file
				var pipes []int
				for i, n := range tt.sizes {
					file := -1
					if n < 0 {
						n = -n
						r, w := pipe(t)
						defer unix.Close(w)
						file, pipes = w, append(pipes, r)
						ends = append(ends, len(sent)+n)
					}
					p := bytes.Repeat([]byte{byte(i + 1)}, n)
					if k, err := Send(a, [][]byte{p}, file, 0); k != n || err != nil {
						t.Fatal(k, err)
					}
					sent = append(sent, p...)
				}
				unix.Shutdown(a, unix.SHUT_WR)
				p, parts := make([]byte, size), make([]Part, MaxParts)
				files := 0
				for {
					n, err := RecvMany(b, p, parts, 0)
					check.Must(t, err)
					if parts[0].N == 0 {
						break
					}
					w := 0
					for _, part := range parts[:n] {
						w += int(part.N)
						if part.Lost {
							t.Error("a file was lost")
						}
						if part.File < 0 {
							continue
						}
						// It came with the first bytes of its piece, and nothing of a later one.
						if at := len(got) + w; files >= len(ends) || at > ends[files] && !part.Full {
							t.Fatalf("file %d came with bytes up to %d, ends %v", files, at, ends)
						}
						if _, err := unix.Write(int(part.File), []byte{byte(files)}); err != nil {
							t.Error(err)
						}
						mustClose(t, int(part.File))
						var q [2]byte
						if k, err := unix.Read(pipes[files], q[:]); k != 1 || q[0] != byte(files) || err != nil {
							t.Errorf("file %d is another one: %d %v", files, q[0], err)
						}
						files++
					}
					got = append(got, p[:w]...)
					if runtime.GOOS == "linux" && n > 1 && bytes.Count(p[w:], []byte{0}) != len(p)-w {
						t.Error("what was moved is still there")
					}
					clear(p)
				}
				if !bytes.Equal(got, sent) || files != len(ends) {
					t.Errorf("%d bytes of %d, %d files of %d", len(got), len(sent), files, len(ends))
				}
			})
		}
	}
}

func bytesWithFiles(n int) (sizes []int) {
	for i := range n {
		sizes = append(sizes, -(16 + i))
	}
	return sizes
}

// TestRecvManyWaitsForOne would hang if a blocking socket had to fill all parts.
func TestRecvManyWaitsForOne(t *testing.T) {
	noLeak(t)
	a, b := pair(t, false)
	go Send(a, [][]byte{[]byte("hello")}, -1, 0)
	p, parts := make([]byte, 4<<10), make([]Part, MaxParts)
	n, err := RecvMany(b, p, parts, 0)
	if n != 1 || err != nil || string(p[:parts[0].N]) != "hello" || parts[0].File != -1 || parts[0].Full {
		t.Errorf("%d parts, %+v, %v", n, parts[0], err)
	}

}
