package got

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/payload"
	"example.org/imsg/proto/internal/fake"
)

// helperVar makes this test program play a helper.
const helperVar = "IMSG_GOT_PLAYS"

func TestMain(m *testing.M) {
	if what := os.Getenv(helperVar); what != "" {
		play(what)
		os.Exit(3)
	}
	imsgtest.Main(m)
}

// helpers returns helpers that answer each request as what says.
func helpers(what string) *Helpers {
	return &Helpers{Command: func(ctx context.Context, _ string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), helperVar+"="+what)
		return cmd
	}}
}

func sizes(size, header uint64, data string) []byte {
	p := binary.NativeEndian.AppendUint64(nil, size)
	return append(binary.NativeEndian.AppendUint64(p, header), data...)
}

// answers are what a helper may say to a request for a blob.
var answers = map[string]struct {
	typ  uint32
	data []byte
	want string // in the error
}{
	"good":           {msgBlob, sizes(12, 7, "blob 5\x00hello"), ""},
	"header first":   {msgBlob, sizes(12, 13, "blob 5\x00hello"), "a blob of 12 bytes with a header of 13"},
	"more than says": {msgBlob, sizes(11, 7, "blob 5\x00hello"), "a blob of 11 bytes in a message with 12"},
	"less than says": {msgBlob, sizes(13, 7, "blob 5\x00hello"), "a blob of 13 bytes in a message with 12"},
	"both":           {msgBlob, sizes(20000, 7, "x"), "a blob of 20000 bytes, and 1 in the message"},
	"huge":           {msgBlob, sizes(1<<63, 7, ""), "a blob of 9223372036854775808 bytes"},
	"not in file":    {msgBlob, sizes(20000, 11, ""), io.ErrUnexpectedEOF.Error()},
	"no sizes":       {msgBlob, sizes(0, 0, "")[:15], "15 bytes, want 16"},
	"an error":       {msgError, []byte{39, 0, 0, 0, 2, 0, 0, 0}, "unexpected message (error 39), errno 2"},
	"unknown error":  {msgError, []byte{1, 1, 0, 0, 0, 0, 0, 0}, "error 257"},
	"a short error":  {msgError, []byte{1, 0, 0, 0}, "an error that cannot be read"},
	"another type":   {77, []byte("x"), "answer 77 of 1 bytes, want 12"},
	"the end":        {msgStop, nil, io.ErrUnexpectedEOF.Error()},
}

// play answers two messages at a time, until the channel ends.
func play(what string) {
	conn, err := imsg.NewConn(3, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return
	}
	ctx := context.Background()
	for n := 1; ; n++ {
		m, err := conn.Receive(ctx)
		if err != nil {
			os.Exit(0)
		}
		m.Close()
		if what == "silent" || n%2 != 0 {
			continue
		}
		a := answers[what]
		if a.typ == msgStop {
			os.Exit(0)
		}
		if conn.Send(ctx, imsg.Header{Type: a.typ}, nil, a.data) != nil {
			os.Exit(0)
		}
	}
}

// loose makes a file in the place of a loose object.
func loose(t *testing.T) (dir string, id ID) {
	t.Helper()
	id, err := ParseID(strings.Repeat("0a", 20))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "objects/0a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "objects/0a", id.String()[2:]), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func TestBlobs(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		t.Skip("some answers are written for a little-endian machine")
	}
	dir, id := loose(t)
	for what, a := range answers {
		t.Run(what, func(t *testing.T) {
			ctx := fake.Context(t)
			b, err := helpers(what).Blobs(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			n, err := b.Copy(ctx, &out, dir, id)
			if a.want == "" && (err != nil || n != 5 || out.String() != "hello") {
				t.Errorf("%d bytes %q, %v", n, &out, err)
			}
			if a.want != "" && (err == nil || !strings.Contains(err.Error(), a.want)) {
				t.Errorf("%v, want %s", err, a.want)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	b, err := helpers("good").Blobs(fake.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Copy(fake.Context(t), io.Discard, dir, ID{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
	b.Close()
}

// A helper that says nothing is waited for until the context ends.
func TestSilent(t *testing.T) {
	dir, id := loose(t)
	b, err := helpers("silent").Blobs(fake.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(fake.Context(t))
	cancel()
	if _, err := b.Copy(ctx, io.Discard, dir, id); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := helpers("an error").Config(fake.Context(t), f); err == nil {
		t.Error("no error of a refused configuration")
	}
	if _, err := (&Helpers{Dir: dir}).Blobs(fake.Context(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a helper that is not there: %v", err)
	}
}

func TestNames(t *testing.T) {
	if _, err := ParseID("0a"); err == nil {
		t.Error("a short ID is none")
	}
	for typ, want := range map[uint32]string{0: "ERROR", 12: "BLOB", 52: "GITCONFIG_PARSE_REQUEST", 59: "GITCONFIG_STR_VAL", 60: ""} {
		if got := TypeName(typ); got != want {
			t.Errorf("TypeName(%d) = %q, want %q", typ, got, want)
		}
	}
	for typ, size := range map[uint32]int{0: 8, 10: 36, 12: 100} {
		if PayloadType(typ, size) == nil || PayloadType(typ, 1) != nil {
			t.Errorf("PayloadType(%d, %d)", typ, size)
		}
	}
	if l := layouts.id.Size(); l != 36 {
		t.Errorf("an ID has %d bytes", l)
	}
}

func FuzzBlob(f *testing.F) {
	for _, a := range answers {
		f.Add(a.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := blob(data)
		if err == nil && (b.Size < b.Header || b.Header < 0 || b.Data != nil && int64(len(b.Data)) != b.Size) {
			t.Errorf("%+v", b)
		}
		if s := (*payload.SizeError)(nil); err != nil && !errors.As(err, &s) && !errors.Is(err, ibuf.ErrInvalid) {
			t.Error(err)
		}
		integer(data)
	})
}
