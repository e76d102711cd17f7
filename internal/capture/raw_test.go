package capture_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
)

// A wireMessage is one to be encoded.
type wireMessage struct {
	typ  uint32
	n    int // bytes of payload
	file bool
}

func encode(d imsg.Dialect, order binary.ByteOrder, ms ...wireMessage) (b []byte) {
	for _, m := range ms {
		p := make([]byte, imsg.HeaderSize+m.n)
		d.Encode(p, order, imsg.Header{Type: m.typ, ID: 7, PID: 4242}, len(p), m.file)
		for i := range m.n {
			p[imsg.HeaderSize+i] = byte(i)
		}
		b = append(b, p...)
	}
	return b
}

func TestRawGuess(t *testing.T) {
	le, be := binary.ByteOrder(binary.LittleEndian), binary.ByteOrder(binary.BigEndian)
	plain := []wireMessage{{1, 4, false}, {2, 0, false}, {3, 100, false}}
	tests := []struct {
		name   string
		d      imsg.Dialect
		order  binary.ByteOrder
		ms     []wireMessage
		layout string
	}{
		{"plain", imsg.Current, le, plain, "either, little-endian"},
		{"one plain message", imsg.Current, le, plain[:1], "either, little-endian"},
		{"current with a file", imsg.Current, le, append(plain, wireMessage{4, 4, true}, wireMessage{5, 1, false}), "current, little-endian"},
		{"legacy with a file", imsg.Legacy, le, append(plain, wireMessage{4, 4, true}, wireMessage{5, 1, false}), "legacy, little-endian"},
		{"legacy with a file first", imsg.Legacy, le, []wireMessage{{4, 4, true}, {5, 1, false}}, "legacy, little-endian"},
		{"one legacy message with a file", imsg.Legacy, le, []wireMessage{{4, 4, true}}, "legacy, little-endian"},
		{"large", imsg.Current, le, []wireMessage{{1, 4, false}, {2, 96000, false}, {3, 4, false}}, "current, little-endian"},
		{"big-endian", imsg.Current, be, plain, "current, big-endian"},
		{"big-endian with a file", imsg.Current, be, []wireMessage{{4, 4, true}}, "current, big-endian"},
		{"big-endian legacy", imsg.Legacy, be, plain, "legacy, big-endian"},
		{"one big-endian legacy message", imsg.Legacy, be, plain[:1], "legacy, big-endian"},
		{"big-endian legacy with a file", imsg.Legacy, be, []wireMessage{{4, 4, true}}, "legacy, big-endian"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := encode(tt.d, tt.order, tt.ms...)
			for _, in := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))} {
				r := capture.NewRawReader(in, capture.Options{})
				rs, err := read(r)
				if err != nil || len(rs) != len(tt.ms) {
					t.Fatalf("%d messages, %v", len(rs), err)
				}
				for i, m := range tt.ms {
					if g := rs[i]; g.Header != (imsg.Header{Type: m.typ, ID: 7, PID: 4242}) || len(g.Payload) != m.n || g.Len != m.n+imsg.HeaderSize || g.Marked != m.file {
						t.Errorf("message %d: %+v", i, g)
					}
				}
				if r.Layout() != tt.layout {
					t.Errorf("layout %s, want %s", r.Layout(), tt.layout)
				}
			}
		})
	}
}

// TestRawGiven tells the reader what it would guess wrong.
func TestRawGiven(t *testing.T) {
	b := encode(imsg.Current, binary.LittleEndian, wireMessage{1, 1<<16 + 4, false})
	for _, opt := range []capture.Options{{Dialect: capture.Current}, {Dialect: capture.Current, Order: binary.LittleEndian}} {
		if rs, err := read(capture.NewRawReader(bytes.NewReader(b), opt)); err != nil || len(rs) != 1 || rs[0].Len != len(b) {
			t.Errorf("%+v: %d messages, %v", opt, len(rs), err)
		}
	}
	b = encode(imsg.Current, binary.LittleEndian, wireMessage{1, 1 << 20, false})
	if _, err := read(capture.NewRawReader(bytes.NewReader(b), capture.Options{Dialect: capture.Current, Order: binary.LittleEndian})); err == nil || !strings.Contains(err.Error(), "length 1048592") {
		t.Errorf("over the maximum: %v", err)
	}
	if rs, err := read(capture.NewRawReader(bytes.NewReader(b), capture.Options{Max: 2 << 20})); err != nil || len(rs) != 1 {
		t.Errorf("with Max: %d messages, %v", len(rs), err)
	}
}

// TestRawCut cuts a stream everywhere.
func TestRawCut(t *testing.T) {
	b := encode(imsg.Current, binary.NativeEndian, wireMessage{1, 4, false}, wireMessage{2, 0, false}, wireMessage{3, 9, true})
	ends := []int{20, 36, 61}
	for n := range b {
		rs, err := read(capture.NewRawReader(bytes.NewReader(b[:n]), capture.Options{}))
		whole, at := 0, 0
		for i, e := range ends {
			if n >= e {
				whole, at = i+1, e
			}
		}
		got := len(rs)
		if got > 0 && rs[got-1].Cut() > 0 {
			if rs[got-1].Note == "" {
				t.Errorf("cut at %d: no note", n)
			}
			got--
		}
		var ie *capture.InputError
		if got != whole || (err == nil) != (n == at) || err != nil && (!errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &ie) || ie.Offset != int64(at)) {
			t.Errorf("cut at %d: %d messages, %v", n, got, err)
		}
	}
}

func TestRawGarbage(t *testing.T) {
	b := append(encode(imsg.Current, binary.NativeEndian, wireMessage{1, 4, false}, wireMessage{2, 0, false}), "GET / HTTP/1.1\r\n\r\n"...)
	rs, err := read(capture.NewRawReader(bytes.NewReader(b), capture.Options{}))
	if len(rs) != 2 || err == nil || !strings.Contains(err.Error(), "byte 36: expected a header") {
		t.Errorf("%d messages, %v", len(rs), err)
	}
	if rs, err := read(capture.NewRawReader(strings.NewReader("GET / HTTP/1.1\r\n\r\n"), capture.Options{})); len(rs) != 0 || err == nil || !strings.Contains(err.Error(), "byte 0: expected a header in either dialect") {
		t.Errorf("%d messages, %v", len(rs), err)
	}
	if rs, err := read(capture.NewRawReader(strings.NewReader(""), capture.Options{})); len(rs) != 0 || err != nil {
		t.Errorf("empty: %d messages, %v", len(rs), err)
	}
}

// hexBytes has lines that repeat, and text that looks like hex.
var hexBytes = []byte("\x02\x01\x00\x00\x5c\x00\x00\x00\x07\x00\x00\x00\x92\x10\x00\x00" + strings.Repeat("\x00", 64) + "ab cd  ef |x> 12")

func TestHex(t *testing.T) {
	word := hex.EncodeToString(hexBytes)
	spaced, c := "", ""
	for i := range hexBytes {
		spaced += word[2*i:2*i+2] + " "
		c += "0x" + word[2*i:2*i+2] + ", "
	}
	wireshark := ""
	for i := 0; i < len(hexBytes); i += 16 {
		wireshark += fmt.Sprintf("%04x  % x   ................\n", i, hexBytes[i:i+16])
	}
	tests := map[string]string{
		"plain": word, "spaced": spaced, "C": c, "upper case": strings.ToUpper(word), "comment": "# a comment\n" + word + "\n",
		"lines": word[:64] + "\r\n" + word[64:], "escaped": `"\x` + strings.ReplaceAll(strings.TrimSpace(spaced), " ", `\x`) + `"`,
		"groups of four bytes": word[:8] + " " + word[8:], "Wireshark": wireshark,
		"hexdump -C": `00000000  02 01 00 00 5c 00 00 00  07 00 00 00 92 10 00 00  |....\...........|
00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000050  61 62 20 63 64 20 20 65  66 20 7c 78 3e 20 31 32  |ab cd  ef |x> 12|
00000060
`,
		"od -tx1": `0000000 02 01 00 00 5c 00 00 00 07 00 00 00 92 10 00 00
0000020 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
*
0000120 61 62 20 63 64 20 20 65 66 20 7c 78 3e 20 31 32
0000140
`,
		"od -Ax -tx1z": `000000 02 01 00 00 5c 00 00 00 07 00 00 00 92 10 00 00  >....\...........<
000010 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  >................<
*
000050 61 62 20 63 64 20 20 65 66 20 7c 78 3e 20 31 32  >ab cd  ef |x> 12<
000060
`,
		"xxd": `00000000: 0201 0000 5c00 0000 0700 0000 9210 0000  ....\...........
00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................
00000020: 0000 0000 0000 0000 0000 0000 0000 0000  ................
00000030: 0000 0000 0000 0000 0000 0000 0000 0000  ................
00000040: 0000 0000 0000 0000 0000 0000 0000 0000  ................
00000050: 6162 2063 6420 2065 6620 7c78 3e20 3132  ab cd  ef |x> 12
`,
	}
	for name, text := range tests {
		if got, err := io.ReadAll(capture.NewHexReader(strings.NewReader(text))); err != nil || !bytes.Equal(got, hexBytes) {
			t.Errorf("%s: %v\n%x, want\n%x", name, err, got, hexBytes)
		}
	}
}

// TestHexPrograms compares with what the programs here print.
func TestHexPrograms(t *testing.T) {
	for _, args := range [][]string{{"od", "-tx1"}, {"od", "-v", "-An", "-tx1"}, {"od", "-Ax", "-tx1z"}, {"hexdump", "-C"}, {"xxd"}, {"xxd", "-p"}, {"xxd", "-g1"}, {"xxd", "-i"}} {
		if _, err := exec.LookPath(args[0]); err != nil {
			continue // those that are here
		}
		for _, n := range []int{1, 8, 15, 16, 24, 96} {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdin = bytes.NewReader(hexBytes[:n])
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v", args, err)
			}
			if got, err := io.ReadAll(capture.NewHexReader(bytes.NewReader(out))); err != nil || !bytes.Equal(got, hexBytes[:n]) {
				t.Errorf("%v: %v\n%s\ngot %x", args, err, out, got)
			}
		}
	}
}

func TestHexErrors(t *testing.T) {
	for text, want := range map[string]string{
		"0201zz":                      "line 1: expected two hex digits",
		"02 01\n02 0":                 "line 2: expected two hex digits",
		"0000: 0201\n0003: 02":        "line 2: expected the offset 0x2, got 0x3",
		"0000000 02 01\n*\n":          "line 2: expected an offset",
		"0000: 0201\n*\n7fffffff: 02": "line 3: expected an offset behind repeated lines",
		"02 01\n*\n":                  "line 2: expected bytes",
		"0000: 0201\nhello: 02":       "line 2: expected an offset in base 16",
		"00000000: 0201\n" + strings.Repeat("1", 5<<20): "line 2: expected a hexdump",
	} {
		if _, err := io.ReadAll(capture.NewHexReader(strings.NewReader(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func FuzzRaw(f *testing.F) {
	f.Add(encode(imsg.Current, binary.LittleEndian, wireMessage{1, 4, false}, wireMessage{3, 9, true}))
	f.Add(encode(imsg.Legacy, binary.BigEndian, wireMessage{1, 4, false}, wireMessage{3, 9, true}))
	f.Fuzz(func(t *testing.T, p []byte) {
		n := 0
		r := capture.NewRawReader(bytes.NewReader(p), capture.Options{})
		for {
			x, err := r.Next()
			if err != nil {
				break
			}
			if n += imsg.HeaderSize + len(x.Payload); n > len(p) {
				t.Fatalf("%d bytes of records from %d", n, len(p))
			}
		}
	})
}

func FuzzHex(f *testing.F) {
	f.Add("0000: 0201\n*\n0008: 02")
	f.Add("00000000  02 01 00 00 5c 00 00 00  07 00 00 00 92 10 00 00  |....\\...........|\n")
	f.Fuzz(func(t *testing.T, s string) {
		io.Copy(io.Discard, capture.NewHexReader(strings.NewReader(s)))
	})
}

// BenchmarkDecodeRaw reads headers: messages of 64 bytes.
func BenchmarkDecodeRaw(b *testing.B) {
	for _, n := range []int{0, 48, 1024} {
		b.Run(fmt.Sprint(n+imsg.HeaderSize), func(b *testing.B) {
			p := encode(imsg.Current, binary.NativeEndian, make([]wireMessage, 1)...)
			p = bytes.Repeat(encode(imsg.Current, binary.NativeEndian, wireMessage{1, n, false}), 16<<20/(n+len(p)))
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				r := capture.NewRawReader(bytes.NewReader(p), capture.Options{})
				for {
					if _, err := r.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
