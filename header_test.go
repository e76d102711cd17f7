package imsg_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// A goldenChannel is what the C library did on one channel: the messages it
// was asked to send, and the bytes that came out, as recvmsg(2) returned them.
type goldenChannel struct {
	Case     string
	Messages []struct {
		Type, ID uint32
		PID      int32
		FD, OK   bool
		Errno    int
		Payload  hexBytes
	}
	Segments []struct {
		FDs int
		Hex hexBytes
	}
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(p []byte) (err error) {
	*h, err = hex.DecodeString(string(p))
	return err
}

func (g *goldenChannel) stream() (p []byte) {
	for _, s := range g.Segments {
		p = append(p, s.Hex...)
	}
	return p
}

// goldenChannels calls f with every channel that was recorded.
func goldenChannels(t *testing.T, f func(t *testing.T, d imsg.Dialect, g *goldenChannel)) {
	for d, name := range map[imsg.Dialect]string{
		imsg.Current: "stream-current-le.jsonl",
		imsg.Legacy:  "stream-legacy-le.jsonl",
	} {
		file, err := os.Open("testdata/" + name)
		testutil.Must(t, err)
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 4<<20)
		n, msgs := 0, 0
		for ; lines.Scan(); n++ {
			var g goldenChannel
			if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
				t.Fatalf("%s line %d: %v", name, n+1, err)
			}
			msgs += len(g.Messages)
			t.Run(d.String()+"/"+g.Case, func(t *testing.T) { f(t, d, &g) })
		}
		if err := lines.Err(); err != nil || n != 60 || msgs != 311 {
			t.Fatalf("%s: %d channels and %d messages, want 60 and 311; %v", name, n, msgs, err)
		}
	}
}

func needLittleEndian(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the golden streams are little-endian and a channel speaks the host's byte order: TestGoldenHeaders covers this host")
	}
}

// What C composed, we compose: the same verdicts, the same bytes, the same
// number of files.
func TestGoldenCompose(t *testing.T) {
	needLittleEndian(t)
	goldenChannels(t, func(t *testing.T, d imsg.Dialect, g *goldenChannel) {
		a, r := imsgtest.Sockets(t)
		b := imsg.NewBuf(a.FD, &imsg.Config{Dialect: d, AllowFDPass: true})
		defer b.Clear()
		files := 0
		for i, m := range g.Messages {
			var f *os.File
			if m.FD {
				f = testutil.DevNull(t)
			}
			err := b.Compose(imsg.Header{Type: m.Type, ID: m.ID, PID: m.PID}, f, m.Payload)
			if (err == nil) != m.OK || err != nil && !errors.Is(err, syscall.Errno(m.Errno)) {
				t.Fatalf("message %d: %v, C says ok %v, errno %d", i, err, m.OK, m.Errno)
			}
			if err != nil && f != nil {
				f.Close()
			} else if m.FD {
				files++
			}
		}
		var got []byte
		buf := make([]byte, 1<<16)
		for b.QueueLen() > 0 {
			testutil.Must(t, b.WriteSocket())
			for {
				n, fd, lost, err := unixmsg.Recv(r.FD, buf, 0)
				if err == syscall.EAGAIN {
					break
				}
				if err != nil || lost {
					t.Fatal(err, lost)
				}
				if fd >= 0 {
					unix.Close(fd)
					files--
				}
				got = append(got, buf[:n]...)
			}
		}
		if !bytes.Equal(got, g.stream()) {
			t.Errorf("composed %d bytes, C composed %d others", len(got), len(g.stream()))
		}
		testutil.Equal(t, "files that did not arrive", files, 0)
	})
}

// What C sent, we read: the same messages, each file on its own.
func TestGoldenRead(t *testing.T) {
	needLittleEndian(t)
	goldenChannels(t, func(t *testing.T, d imsg.Dialect, g *goldenChannel) {
		for _, speak := range []imsg.Dialect{d, imsg.Auto} {
			a, b := peerOf(t, &imsg.Config{Dialect: speak, AllowFDPass: true})
			defer b.Clear()
			null := testutil.OwnFile(t)
			var got []string
			for _, s := range g.Segments {
				var fds []int
				if s.FDs > 0 {
					fds = []int{int(null.Fd())}
				}
				a.Write(s.Hex, fds...)
				for before := uint64(0); before == 0 || b.Stats().Received.Bytes > before; {
					before = b.Stats().Received.Bytes
					testutil.Must(t, b.ReadSocket())
				}
				for m := range b.All() {
					got = append(got, fmt.Sprintf("%+v %x %v %v", m.Header(), m.Bytes(), m.HasFile(), m.FileErr()))
					m.Close()
				}
			}
			var want []string
			for _, m := range g.Messages {
				if m.OK {
					h := imsg.Header{Type: m.Type, ID: m.ID, PID: m.PID}
					want = append(want, fmt.Sprintf("%+v %x %v <nil>", h, []byte(m.Payload), m.FD))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("read as %v: messages differ:\ngot  %.300s\nwant %.300s", speak, got, want)
			}
		}
	})
}

// Encode and Decode know the recorded headers on any host, and their mirror
// images on machines of the other byte order.
func TestGoldenHeaders(t *testing.T) {
	goldenChannels(t, func(t *testing.T, d imsg.Dialect, g *goldenChannel) {
		p := g.stream()
		for i, m := range g.Messages {
			if !m.OK {
				continue
			}
			want := imsg.Header{Type: m.Type, ID: m.ID, PID: m.PID}
			size := imsg.HeaderSize + len(m.Payload)
			h, n, file := d.Decode(p, binary.LittleEndian)
			if h != want || n != size || file != m.FD {
				t.Fatalf("message %d: decoded %+v %d %v, want %+v %d %v", i, h, n, file, want, size, m.FD)
			}
			var q [imsg.HeaderSize]byte
			if d.Encode(q[:], binary.LittleEndian, h, n, file); !bytes.Equal(q[:], p[:len(q)]) {
				t.Fatalf("message %d: encoded %x, want %x", i, q, p[:len(q)])
			}
			d.Encode(q[:], binary.BigEndian, h, n, file)
			if bh, bn, bfile := d.Decode(q[:], binary.BigEndian); bh != h || bn != n || bfile != file {
				t.Fatalf("message %d: %x decoded big-endian as %+v %d %v", i, q, bh, bn, bfile)
			}
			p = p[n:]
		}
	})
}

// The bytes of doc/wire.md's table.
func TestHeaderLayout(t *testing.T) {
	for _, tt := range []struct {
		d     imsg.Dialect
		order binary.ByteOrder
		file  bool
		want  string
	}{
		{imsg.Current, binary.LittleEndian, false, "14000000"},
		{imsg.Current, binary.LittleEndian, true, "14000080"},
		{imsg.Current, binary.BigEndian, false, "00000014"},
		{imsg.Current, binary.BigEndian, true, "80000014"},
		{imsg.Legacy, binary.LittleEndian, false, "14000000"},
		{imsg.Legacy, binary.LittleEndian, true, "14000100"},
		{imsg.Legacy, binary.BigEndian, false, "00140000"},
		{imsg.Legacy, binary.BigEndian, true, "00140001"},
	} {
		var p [imsg.HeaderSize]byte
		h := imsg.Header{Type: 0x01020304, ID: 0x05060708, PID: -2}
		tt.d.Encode(p[:], tt.order, h, 20, tt.file)
		testutil.Equal(t, fmt.Sprintf("%v %v file %v", tt.d, tt.order, tt.file), hex.EncodeToString(p[4:8]), tt.want)
		if tt.order.Uint32(p[:]) != h.Type || tt.order.Uint32(p[8:]) != h.ID || tt.order.Uint32(p[12:]) != 0xfffffffe {
			t.Errorf("%v %v: %x", tt.d, tt.order, p)
		}
		got, n, file := tt.d.Decode(p[:], tt.order)
		if got != h || n != 20 || file != tt.file {
			t.Errorf("%v %v: decoded %+v %d %v", tt.d, tt.order, got, n, file)
		}
	}
}
