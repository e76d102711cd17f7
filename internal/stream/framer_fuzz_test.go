package stream

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

// modelArrived notes the file that came with n bytes at stream offset beg; full
// says that the read had no room for more.
func modelArrived(files []heldFile, n, fd int, lost bool, beg uint64, full bool) []heldFile {
	end := beg + uint64(n)
	if full {
		end = openEnd
	}
	if last := len(files) - 1; last >= 0 && files[last].end == openEnd {
		files[last].end = end
		if lost {
			files[last].end = beg
		} else if fd >= 0 {
			files[last].end = beg + uint64(n)
		}
	}
	if fd >= 0 || lost {
		files = append(files, heldFile{fd, beg, end})
	}
	return files
}

// fuzzStream returns a message for each byte of msgs, from 5 bytes to 16 KiB,
// followed by raw bytes that need not be messages.
func fuzzStream(msgs, raw []byte) (p []byte) {
	for i, b := range msgs[:min(len(msgs), 100)] {
		p = append(p, testMsg(testHeader+int(b>>1)*int(b>>1), b&1 != 0, byte(i))...)
	}
	return append(p, raw...)
}

// fuzzPiece is how many bytes one read delivers: few or many.
func fuzzPiece(s byte) int {
	n := int(s & 0x1f)
	if n >= 8 {
		n = (n - 7) * (n - 7) * 40
	}
	return n
}

// FuzzFramer feeds a stream in the pieces that the script says, with files,
// and compares with a model that sees the stream whole. Messages are taken and
// closed late or at once, pieces come in parts, and plain headers are parsed by
// the framer itself or not. Every descriptor must end up on one message or be
// closed, once.
func FuzzFramer(f *testing.F) {
	f.Add([]byte{1, 4, 1}, []byte{9, 9}, []byte{0x83, 2, 3, 0x81, 31}, uint8(0))
	f.Add([]byte{255, 3, 254, 0, 1, 200}, []byte{}, []byte{0x9f, 0x5f, 0xff, 31, 0x5f, 1, 31, 31}, uint8(0))
	f.Add([]byte{20, 254, 14, 15}, []byte{}, []byte{0x60 | 30, 0x40 | 20, 0x40 | 20, 0x40 | 20, 0x40 | 20, 0x40 | 25, 31}, uint8(4))
	f.Add([]byte{}, []byte{0, 0, 0}, []byte{0x83}, uint8(0))
	f.Add([]byte{}, []byte{255, 255, 1, 0}, []byte{0x81, 0xff}, uint8(1))
	f.Add([]byte{1, 5, 1, 7, 1}, []byte{}, []byte{0x84, 3, 0x86, 9, 0x9f, 31}, uint8(140))
	f.Add([]byte{1, 5, 1, 7, 1}, []byte{}, []byte{0x84, 3, 0x86, 9, 0x9f, 31}, uint8(145))
	f.Add([]byte{1, 4, 2, 6, 8, 3, 40, 7}, []byte{9, 9}, []byte{0x83, 20, 3, 0x81, 31, 31, 31}, uint8(80))
	f.Add([]byte{4, 2, 6, 200}, []byte{4, 0, 0, 0, 0}, []byte{31, 31, 31}, uint8(64))
	f.Fuzz(func(t *testing.T, msgs, raw, script []byte, hold uint8) {
		stream := fuzzStream(msgs, raw)
		fr, closed := newTestFramer(int(hold % 20))
		parts := hold >= 128 // what one read delivers came in two
		if hold&64 != 0 {
			fr.PlainMax = testLimit
		}
		var files []heldFile
		var got []wantMsg
		var open []Frame
		taken := make(map[int]int)
		fedTo, nextFD := 0, 100
		var ferr error
		take := func(hold bool) {
			for m, ok := fr.Next(); ok; m, ok = fr.Next() {
				w := wantMsg{p: bytes.Clone(m.Bytes()), lost: m.FileLost(), fd: m.TakeFD()}
				if w.fd >= 0 {
					taken[w.fd]++
				}
				got = append(got, w)
				if hold {
					open = append(open, m)
				} else {
					m.Close()
				}
			}
		}
		for _, s := range script {
			n, fd, lost := min(fuzzPiece(s), len(stream)-fedTo), -1, false
			p := fr.Buffer()
			if n = copy(p, stream[fedTo:fedTo+n]); n == 0 {
				continue
			}
			if s&0x80 != 0 {
				fd = nextFD
				nextFD++
			} else if s&0x60 == 0x60 {
				lost = true
			}
			if parts && n > 1 { // the first half by itself
				full := s&2 != 0
				files = modelArrived(files, n/2, fd, lost, uint64(fedTo), full)
				if ferr = fr.Advance(n/2, fd, lost, full); ferr != nil {
					break
				}
				p, fedTo, n = p[n/2:], fedTo+n/2, n-n/2
				fd, lost = -1, false
				if s&4 != 0 {
					fd = nextFD
					nextFD++
				}
			}
			full := n == len(p)
			files = modelArrived(files, n, fd, lost, uint64(fedTo), full)
			if ferr = fr.Advance(n, fd, lost, full); ferr != nil {
				break
			}
			fedTo += n
			if s&0x40 != 0 {
				continue // take later
			}
			take(s&0x20 != 0)
			if s&1 != 0 {
				fr.Release()
			}
		}
		take(false)
		if ferr == nil && fr.HoldFiles == 0 {
			want, bad := modelStream(stream[:fedTo], files)
			if bad {
				t.Fatalf("the framer took a bad header")
			}
			compareMsgs(t, got, want)
		}
		i := 0
		for _, m := range open {
			for !bytes.Equal(m.Bytes(), got[i].p) { // both in order
				if i++; i == len(got) {
					t.Fatal("a message has changed while it was held")
				}
			}
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
