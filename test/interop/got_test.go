package interop

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
)

// Messages of got's helpers, in the current dialect. A helper finds its side
// of the channel in descriptor 3.
const (
	gotError       = 0  // <- i32 code, i32 errno
	gotStop        = 1  // ->
	gotBlobRequest = 10 // -> object id, with a file
	gotBlobOutFile = 11 // -> with a file
	gotBlob        = 12 // <- u64 size, u64 size of the header in front, data if it fits

	// From a base that depends on the version:
	gotConfigParse  = 0 // -> with a file
	gotConfigFormat = 1 // -> answered with gotConfigInt
	gotConfigName   = 3 // -> answered with gotConfigString
	gotConfigEmail  = 4 // -> the same
	gotConfigInt    = 6 // <- i32
	gotConfigString = 7 // <- bytes

	// Codes of gotError:
	gotErrBadHeader  = 35
	gotErrNoFile     = 38
	gotErrBadRequest = 39
)

func startGot(t *testing.T, helper string) *child {
	t.Helper()
	return start(t, 3, append(unpacked(t, "IMSG_GOT", "usr/libexec/"+helper), "interop")...)
}

// gotConfigBase returns the number of the first message about the
// configuration file: a message was added before it after 0.111.
func gotConfigBase(t *testing.T) uint32 {
	t.Helper()
	argv := unpacked(t, "IMSG_GOT", "usr/bin/got")
	out, err := exec.Command(argv[0], append(argv[1:], "--version")...).Output()
	testutil.Must(t, err)
	if strings.TrimSpace(string(out)) == "got 0.111" {
		return 51
	}
	return 52
}

// A blob is an object in the format of a git repository.
type blob struct {
	id   [36]byte // SHA-1, zeros, and 0 for SHA-1
	raw  []byte   // "blob N\0" and N bytes
	path string   // of the compressed object
}

func newBlob(t *testing.T, dir string, n int) blob {
	t.Helper()
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	b := blob{raw: append(fmt.Appendf(nil, "blob %d\x00", n), data...)}
	sum := sha1.Sum(b.raw)
	copy(b.id[:], sum[:])
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(b.raw)
	w.Close()
	b.path = filepath.Join(dir, fmt.Sprintf("%x", sum))
	testutil.Must(t, os.WriteFile(b.path, z.Bytes(), 0o600))
	return b
}

// Seven requests with two files each are under way together. Small blobs come
// back in a message, up to one that is exactly as large as a message can be;
// larger ones are written to the file that we sent.
func TestGotBlobs(t *testing.T) {
	const inline = imsg.DefaultMaxSize - imsg.HeaderSize - 16
	dir := t.TempDir()
	c := startGot(t, "got-read-blob")
	conn := c.conn(imsg.Current)
	var blobs []blob
	for i, n := range []int{0, 5, 16000, inline - len("blob 16341\x00"), inline - len("blob 16341\x00") + 1, 20000, 100000} {
		b := newBlob(t, dir, n)
		blobs = append(blobs, b)
		in, err := os.Open(b.path)
		testutil.Must(t, err)
		out, err := os.OpenFile(b.path+".out", os.O_RDWR|os.O_CREATE, 0o600)
		testutil.Must(t, err)
		testutil.Must(t, conn.Compose(imsg.Header{Type: gotBlobRequest}, in, b.id[:]))
		if err := conn.Compose(imsg.Header{Type: gotBlobOutFile}, out); err != nil {
			t.Fatalf("blob %d: %v", i, err)
		}
	}
	testutil.Must(t, conn.Flush(c.ctx))
	longest := 0
	for i, b := range blobs {
		p := expect(t, c.ctx, conn, gotBlob)
		longest = max(longest, imsg.HeaderSize+len(p))
		if len(p) < 16 {
			t.Fatalf("blob %d: %d bytes", i, len(p))
		}
		size := binary.NativeEndian.Uint64(p)
		head := binary.NativeEndian.Uint64(p[8:])
		data := p[16:]
		if len(b.raw) > inline {
			var err error
			if data, err = os.ReadFile(b.path + ".out"); err != nil {
				t.Fatal(err)
			}
		}
		if size != uint64(len(b.raw)) || int(head) != bytes.IndexByte(b.raw, 0)+1 || !bytes.Equal(data, b.raw) {
			t.Errorf("blob %d of %d bytes: size %d, header %d, %d bytes that are equal: %v",
				i, len(b.raw), size, head, len(data), bytes.Equal(data, b.raw))
		}
	}
	if longest != imsg.DefaultMaxSize {
		t.Errorf("longest message %d bytes, want %d", longest, imsg.DefaultMaxSize)
	}
	if n := conn.Stats().Sent.Files; n != 14 {
		t.Errorf("%d files sent, want 14", n)
	}
	send(t, c.ctx, conn, imsg.Header{Type: gotStop})
	expectEnd(t, c.ctx, conn)
	c.exit(0)
}

func TestGotConfig(t *testing.T) {
	base := gotConfigBase(t)
	path := filepath.Join(t.TempDir(), "config")
	const config = "[core]\n\trepositoryformatversion = 0\n[user]\n\tname = Inter Op\n\temail = io@example.org\n"
	testutil.Must(t, os.WriteFile(path, []byte(config), 0o600))
	f, err := os.Open(path)
	testutil.Must(t, err)
	defer f.Close()
	c := startGot(t, "got-read-gitconfig")
	conn := c.conn(imsg.Current)
	testutil.Must(t, conn.Send(c.ctx, imsg.Header{Type: base + gotConfigParse}, f))
	send(t, c.ctx, conn, imsg.Header{Type: base + gotConfigFormat})
	if p := expect(t, c.ctx, conn, base+gotConfigInt); len(p) != 4 || number(t, p, 0) != 0 {
		t.Errorf("format version % x", p)
	}
	for typ, want := range map[uint32]string{gotConfigName: "Inter Op", gotConfigEmail: "io@example.org"} {
		send(t, c.ctx, conn, imsg.Header{Type: base + typ})
		if p := expect(t, c.ctx, conn, base+gotConfigString); string(p) != want {
			t.Errorf("type %d: %q, want %q", base+typ, p, want)
		}
	}
	conn.Close()
	c.exit(0)
}

// What a helper finds wrong with a request it says in a message, and exits.
func TestGotErrors(t *testing.T) {
	base := gotConfigBase(t)
	for _, tt := range []struct {
		name string
		typ  uint32
		n    int // length in the header
		mark bool
		code int32
	}{
		{"no file", base + gotConfigParse, imsg.HeaderSize, false, gotErrNoFile},
		{"mark without file", base + gotConfigParse, imsg.HeaderSize, true, gotErrNoFile},
		{"header too short", gotStop, imsg.HeaderSize - 8, false, gotErrBadHeader},
		{"message too long", gotStop, imsg.DefaultMaxSize + 1, false, gotErrBadHeader},
		{"unknown type", 9999, imsg.HeaderSize, false, gotErrBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startGot(t, "got-read-gitconfig")
			hdr := make([]byte, imsg.HeaderSize)
			imsg.Current.Encode(hdr, binary.NativeEndian, imsg.Header{Type: tt.typ}, tt.n, tt.mark)
			c.socket.Write(hdr)
			conn := c.conn(imsg.Current)
			p := expect(t, c.ctx, conn, gotError)
			if number(t, p, 0) != tt.code {
				t.Errorf("code %d, want %d", number(t, p, 0), tt.code)
			}
			c.exit(1)
			expectEnd(t, c.ctx, conn)
		})
	}
}

// A helper ends by itself when its parent is gone behind any byte of a request.
func TestGotGone(t *testing.T) {
	b := newBlob(t, t.TempDir(), 100)
	object, err := os.Open(b.path)
	testutil.Must(t, err)
	defer object.Close()
	type message struct {
		imsg.Header
		file bool
		data []byte
	}
	for env, base := range map[string]uint32{"IMSG_GOT": 51, "IMSG_GOT_NEWEST": 52} {
		for helper, messages := range map[string][]message{
			"got-read-blob":      {{imsg.Header{Type: gotBlobRequest}, true, b.id[:]}, {imsg.Header{Type: gotBlobOutFile}, true, nil}},
			"got-read-commit":    {{imsg.Header{Type: 4}, true, b.id[:]}},
			"got-read-tree":      {{imsg.Header{Type: 7}, true, b.id[:]}},
			"got-read-tag":       {{imsg.Header{Type: 13}, true, b.id[:]}},
			"got-read-gitconfig": {{imsg.Header{Type: base + gotConfigParse}, true, nil}, {imsg.Header{Type: base + gotConfigName}, false, nil}},
		} {
			argv := append(unpacked(t, env, "usr/libexec/"+helper), "interop")
			for n, whole := 0, false; !whole; n++ {
				_, err := object.Seek(0, io.SeekStart)
				testutil.Must(t, err)
				c, left := start(t, 3, argv...), n
				for _, m := range messages {
					p := append(make([]byte, imsg.HeaderSize), m.data...)
					imsg.Current.Encode(p, binary.NativeEndian, m.Header, len(p), m.file)
					p = p[:min(left, len(p))]
					if left -= len(p); m.file && len(p) > 0 {
						c.socket.Write(p, int(object.Fd()))
					} else {
						c.socket.Write(p)
					}
				}
				whole = left > 0
				c.socket.Close()
				c.cmd.Wait()
				if s := c.cmd.ProcessState; !s.Exited() && s.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
					t.Errorf("%s after %d bytes: %v: %s", helper, n, s, &c.stderr)
				}
			}
		}
	}
}
