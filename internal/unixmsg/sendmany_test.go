//go:build unix && !aix

package unixmsg

import (
	"bytes"
	"fmt"
	"testing"

	"example.org/imsg/internal/check"
	"golang.org/x/sys/unix"
)

// TestSendMany sends groups, some with a file, through sockets of several sizes,
// and compares all that comes with what was sent.
func TestSendMany(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sizes []int // negative: with a file
		bufs  int   // pieces of each group
	}{
		{"one", []int{-20}, 1},
		{"plain first", []int{20, -30, -40}, 1},
		{"pieces", []int{-20, -300, -40, -50}, 7},
		{"more than fit one call", bytesWithFiles(3 * MaxGroups), 1},
		{"more pieces than fit one call", bytesWithFiles(20), 9},
		{"large", []int{-9000, -9000, -9000, -9000}, 2},
	} {
		for _, room := range []int{0, 4096} {
			t.Run(fmt.Sprintf("%s, room %d", tt.name, room), func(t *testing.T) {
				noLeak(t)
				a, b := pair(t, true)
				if room > 0 {
					check.Must(t, unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_SNDBUF, room))
				}
				_, w := pipe(t)
				defer unix.Close(w)
				var groups []Group
				var want, got []byte
				files := 0
				for i, n := range tt.sizes {
					g := Group{File: -1}
					if n < 0 {
						n, g.File = -n, w
						files++
					}
					p := bytes.Repeat([]byte{byte(i + 1)}, n)
					want = append(want, p...)
					for k := tt.bufs; k > 0; k-- {
						g.Bufs = append(g.Bufs, p[:len(p)/k])
						p = p[len(p)/k:]
					}
					groups = append(groups, g)
				}
				p, came := make([]byte, 1<<16), 0
				for len(groups) > 0 {
					n, err := SendMany(a, groups, DontWait)
					if err != nil && err != unix.EAGAIN {
						t.Fatal(err)
					}
					for n > 0 { // drop what was sent
						g := &groups[0]
						k := min(n, len(g.Bufs[0]))
						g.Bufs[0] = g.Bufs[0][k:]
						g.File = -1
						n -= k
						for len(g.Bufs) > 0 && len(g.Bufs[0]) == 0 {
							g.Bufs = g.Bufs[1:]
						}
						if len(g.Bufs) == 0 {
							groups = groups[1:]
						}
					}
					for {
						n, file, lost, err := Recv(b, p, DontWait)
						if err == unix.EAGAIN {
							break
						}
						if err != nil || lost {
							t.Fatal(err, lost)
						}
						if file >= 0 {
							came++
							mustClose(t, file)
						}
						got = append(got, p[:n]...)
					}
				}
				if !bytes.Equal(got, want) || came != files {
					t.Errorf("%d bytes of %d, %d files of %d", len(got), len(want), came, files)
				}
			})
		}
	}
}
