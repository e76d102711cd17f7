package stream

import (
	"bytes"
	"testing"

	"example.org/imsg/internal/stream/streamtest"
	"example.org/imsg/test/wireref"
)

// newReference returns a reference reader of the tests' own framing.
func newReference(hold int) *wireref.Reader {
	r := &wireref.Reader{Files: true, Hold: hold, ParseLen: streamtest.HeaderSize, Parse: func(p []byte) (n int, mark, ok bool) {
		n, mark, err := streamtest.Parse(p)
		return n, mark, err == nil
	}}
	if hold > 0 {
		r.Dialect = wireref.Legacy
	}
	return r
}

// A gotMsg is a message that the framer has cut.
type gotMsg struct {
	p    []byte
	fd   int
	lost bool
}

// fuzzStream returns a message for each byte of msgs, from 5 bytes to 16 KiB,
// followed by raw bytes that need not be messages.
func fuzzStream(msgs, raw []byte) (p []byte) {
	for i, b := range msgs[:min(len(msgs), 100)] {
		p = append(p, streamtest.Msg(streamtest.HeaderSize+int(b>>1)*int(b>>1), b&1 != 0, byte(i))...)
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
// and compares with the reference reader. Messages are taken and closed late or
// at once, pieces come in parts, and plain headers are parsed by the framer
// itself or not. Every descriptor must end up on one message or be closed, once.
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
			fr.PlainMax = streamtest.Limit
		}
		ref := newReference(fr.HoldFiles)
		var got []gotMsg
		var open []Frame
		taken := make(map[int]int)
		fedTo, nextFD := 0, 100
		var ferr error
		take := func(hold bool) {
			for m, ok := fr.Next(); ok; m, ok = fr.Next() {
				w := gotMsg{p: bytes.Clone(m.Bytes()), lost: m.FileLost(), fd: m.TakeFD()}
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
		feed := func(n, fd int, lost, full bool) bool {
			var with []wireref.Flight
			if lost || fd >= 0 {
				with = append(with, wireref.Flight{})
			}
			if fd >= 0 {
				with[0].File = &wireref.File{ID: fd}
			}
			ref.Read(stream[fedTo:fedTo+n], full, with...)
			fedTo += n
			ferr = fr.Advance(n, fd, lost, full)
			return ferr == nil
		}
		file := func(comes bool) int {
			if !comes {
				return -1
			}
			nextFD++
			return nextFD - 1
		}
		for _, s := range script {
			p := fr.Buffer()
			n := copy(p, stream[fedTo:][:min(fuzzPiece(s), len(stream)-fedTo)])
			if n == 0 {
				continue
			}
			fd, lost := file(s&0x80 != 0), s&0xe0 == 0x60
			if parts && n > 1 { // the first half by itself
				if !feed(n/2, fd, lost, s&2 != 0) {
					break
				}
				p, n = p[n/2:], n-n/2
				fd, lost = file(s&4 != 0), false
			}
			if !feed(n, fd, lost, n == len(p)) {
				break
			}
			if s&0x40 != 0 {
				continue // take later
			}
			take(s&0x20 != 0)
			if s&1 != 0 {
				fr.Release()
			}
		}
		take(false)
		if (ferr != nil) != (ref.Err != nil) {
			t.Fatalf("the end is %v, want %v", ferr, ref.Err)
		}
		compareMsgs(t, got, ref.Ready)
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

func compareMsgs(t *testing.T, got []gotMsg, want []*wireref.Message) {
	t.Helper()
	for i, w := range want {
		if w.Maybe && i >= len(got) {
			return
		}
		if i >= len(got) {
			t.Fatalf("%d messages, want %d", len(got), len(want))
		}
		fd := -1
		if w.File != nil {
			fd = w.File.ID
		}
		if g := got[i]; !bytes.Equal(g.p[streamtest.HeaderSize:], w.Payload) || g.fd != fd || g.lost != w.Lost {
			t.Fatalf("message %d: %d bytes, file %d, lost %v; want %d bytes, file %d, lost %v", i,
				len(g.p), g.fd, g.lost, w.Len, fd, w.Lost)
		}
	}
	if len(got) > len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
}
