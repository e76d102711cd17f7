package ibuf

import (
	"bytes"
	"testing"
)

// wantMsg is what a message must turn out to be: a simple model of the framer
// that sees the whole stream at once.
type wantMsg struct {
	p    []byte
	fd   int
	lost bool
}

// modelStream cuts stream, with which files arrived, into messages by the rule
// of HoldFiles 0: a file belongs to the first marked header that began in the
// bytes it arrived with.
func modelStream(stream []byte, files []heldFile) (msgs []wantMsg, bad bool) {
	for at := uint64(0); uint64(len(stream))-at >= testHeader; {
		n, mark, err := parseTest(stream[at:])
		if err != nil {
			return msgs, true
		}
		m := wantMsg{fd: -1, lost: mark}
		for i, h := range files {
			if mark && h.beg <= at && at < h.end {
				m.fd, m.lost = h.fd, h.fd < 0
				files = files[i+1:]
				break
			}
		}
		if uint64(len(stream))-at < uint64(n) {
			break
		}
		m.p = stream[at : at+uint64(n)]
		msgs = append(msgs, m)
		at += uint64(n)
	}
	return msgs, false
}

// FuzzFramer feeds a stream in the pieces that the script says, with files,
// and compares with a model that sees the stream whole. Every descriptor must
// end up on one message or be closed, once.
func FuzzFramer(f *testing.F) {
	f.Add([]byte{0, 3, 1, 0, 5, 0, 9, 9}, []byte{0x83, 2, 3}, uint8(0))
	f.Add(testMsg(300, true, 7), []byte{0x81, 1, 100, 120, 78}, uint8(0))
	f.Add(append(testMsg(5, false, 1), testMsg(9, true, 2)...), []byte{0x81, 1, 1, 1, 1, 1, 1}, uint8(4))
	f.Add([]byte{0, 0, 0}, []byte{0x83}, uint8(0))
	f.Add([]byte{255, 255, 1, 0}, []byte{0x81, 0xff}, uint8(1))
	f.Fuzz(func(t *testing.T, stream, script []byte, hold uint8) {
		fr, closed := newTestFramer(int(hold % 20))
		var files []heldFile
		var got []wantMsg
		var open []Frame
		taken := make(map[int]int)
		fedTo, nextFD := 0, 100
		var ferr error
		for _, s := range script {
			n, fd, lost := min(int(s&0x1f), len(stream)-fedTo), -1, false
			if n == 0 {
				continue
			}
			if s&0x80 != 0 {
				fd = nextFD
				nextFD++
			} else if s&0x40 != 0 {
				lost = true
			}
			if fd >= 0 || lost {
				files = append(files, heldFile{fd, uint64(fedTo), uint64(fedTo + n)})
			}
			if ferr = fr.Fed(copy(fr.Space(), stream[fedTo:fedTo+n]), fd, lost); ferr != nil {
				break
			}
			fedTo += n
			for m, ok := fr.Next(); ok; m, ok = fr.Next() {
				w := wantMsg{p: bytes.Clone(m.Bytes()), lost: m.FileLost(), fd: m.TakeFD()}
				if w.fd >= 0 {
					taken[w.fd]++
				}
				got = append(got, w)
				if s&0x20 != 0 {
					open = append(open, m)
				} else {
					m.Close()
				}
			}
			if s&0x20 == 0 && s&1 != 0 {
				fr.Idle()
			}
		}
		if ferr == nil && fr.HoldFiles == 0 {
			want, bad := modelStream(stream[:fedTo], files)
			if bad {
				t.Fatalf("the framer took a bad header")
			}
			compareMsgs(t, got, want)
		}
		for _, m := range open {
			m.Close()
		}
		fr.Clear()
		for fd := 100; fd < nextFD; fd++ {
			if taken[fd]+closed[fd] != 1 {
				t.Fatalf("descriptor %d: on %d messages, closed %d times", fd, taken[fd], closed[fd])
			}
		}
	})
}

func compareMsgs(t *testing.T, got, want []wantMsg) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i].p, want[i].p) || got[i].fd != want[i].fd || got[i].lost != want[i].lost {
			t.Fatalf("message %d: got %d bytes, file %d, lost %v; want %d bytes, file %d, lost %v", i,
				len(got[i].p), got[i].fd, got[i].lost, len(want[i].p), want[i].fd, want[i].lost)
		}
	}
}
