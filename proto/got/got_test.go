package got

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
		conn, err := imsg.NewConn(3, &imsg.Config{AllowFDPass: true})
		if err != nil {
			os.Exit(3)
		}
		play(conn, conversations[what], math.MaxInt)
		os.Exit(0)
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

// A said is a message of a helper.
type said struct {
	typ  uint32
	data []byte
}

// conversations are what a helper says behind each message that it gets.
var conversations = func() map[string][][]said {
	id := objectID{Hash: [32]byte{0xab}}
	entry := func(name string) []byte {
		return append(bytesOf(treeEntriesMessage{Entries: 1}), append(bytesOf(treeEntry{ID: id, Mode: 0o100644, NameLen: uint64(len(name))}), name...)...)
	}
	all := map[string][][]said{
		"commit": {{
			{msgCommit, bytesOf(commitMessage{Tree: id, AuthorLen: 1, CommitterLen: 2, TextLen: 3, Parents: 1, Rest: append([]byte("acc"), bytesOf(id)...)})},
			{msgCommitText, []byte("\n")}, {msgCommitText, []byte("hi")},
		}},
		"tree":   {{{msgTree, bytesOf(treeMessage{2})}, {msgTreeEntries, entry("a")}, {msgTreeEntries, entry("b")}}},
		"tag":    {{{msgTag, bytesOf(tagMessage{ID: id, Type: 1, NameLen: 1, TaggerLen: 1, TextLen: 3, Rest: []byte("nt")})}, {msgTagText, []byte("\nhi")}}},
		"config": {nil, {{52 + configInt, []byte{0, 0, 0, 0}}}, {{52 + configString, []byte("me")}}, {{52 + configString, nil}}},
	}
	for what, a := range answers {
		all[what] = [][]said{nil, {{a.typ, a.data}}}
	}
	return all
}()

func bytesOf[T any](v T) []byte {
	p, err := payload.Native{}.Marshal(&v)
	if err != nil {
		panic(err)
	}
	return p
}

// play has a conversation until the other side ends it, or more than left bytes
// would have to be said.
func play(conn *imsg.Conn, conversation [][]said, left int) {
	raw, _ := conn.SyscallConn()
	for n := 0; ; n++ {
		m, err := conn.Receive(context.Background())
		if err != nil {
			return
		}
		m.Close()
		if len(conversation) == 0 {
			continue
		}
		for _, a := range conversation[n%len(conversation)] {
			if a.typ == msgStop {
				return
			}
			p := append(make([]byte, imsg.HeaderSize), a.data...)
			imsg.Current.Encode(p, binary.NativeEndian, imsg.Header{Type: a.typ}, len(p), false)
			over := len(p) > left
			p = p[:min(len(p), left)]
			left -= len(p)
			if raw.Write(func(fd uintptr) bool { syscall.Write(int(fd), p); return true }) != nil || over {
				return
			}
		}
	}
}

// fakeHelper returns one that says something and, at the end of it, calls over.
func fakeHelper(t *testing.T, conversation [][]said, left int, over func(theirs *imsg.Conn)) *helper {
	ours, theirs, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		play(theirs, conversation, left)
		over(theirs)
	}()
	t.Cleanup(func() {
		ours.Close()
		<-done
		theirs.Close()
	})
	return &helper{name: "fake", conn: ours}
}

// asks are what can be asked, with a file that a helper may have.
func asks(object *os.File) map[string]func(ctx context.Context, h *helper) (any, error) {
	return map[string]func(ctx context.Context, h *helper) (any, error){
		"good": func(ctx context.Context, h *helper) (any, error) { return (&Blobs{h}).Read(ctx, ID{}, object, object) },
		"commit": func(ctx context.Context, h *helper) (any, error) {
			return (&Reader[Commit]{h, msgCommitRequest, commit}).Read(ctx, ID{}, object)
		},
		"tree": func(ctx context.Context, h *helper) (any, error) {
			return (&Reader[[]TreeEntry]{h, msgTreeRequest, tree}).Read(ctx, ID{}, object)
		},
		"tag": func(ctx context.Context, h *helper) (any, error) {
			return (&Reader[Tag]{h, msgTagRequest, tag}).Read(ctx, ID{}, object)
		},
		"config": func(ctx context.Context, h *helper) (any, error) {
			c, err := h.config(ctx, 52, object)
			h.endAfter(&err) // it gets no second request
			return c, err
		},
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

// A helper that ends, or falls silent until the client gives up, behind any byte of
// an answer. What is left of that answer is none to the next request.
func TestCutEverywhere(t *testing.T) {
	object, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	for what, ask := range asks(object) {
		t.Run(what, func(t *testing.T) {
			for n, whole := 0, false; !whole && !t.Failed(); n++ {
				for _, want := range []error{io.ErrUnexpectedEOF, context.Canceled} {
					ctx, cancel := context.WithCancel(fake.Context(t))
					h := fakeHelper(t, conversations[what], n, func(theirs *imsg.Conn) {
						if want == context.Canceled {
							cancel()
						} else {
							theirs.Close()
						}
					})
					if _, err := ask(ctx, h); err == nil {
						whole = true
					} else if _, next := ask(fake.Context(t), h); !errors.Is(err, want) || next == nil {
						t.Errorf("behind %d bytes: %v, want %v; then %v", n, err, want, next)
					}
					cancel()
				}
			}
		})
	}
}

// What helpers say about objects, good and bad.
func TestObjects(t *testing.T) {
	if payload.Host() != payload.LP64 {
		t.Skip("sizes are those of LP64")
	}
	object, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	id, sha256 := objectID{Hash: [32]byte{0xab}}, objectID{Algo: 1}
	c := func(change func(*commitMessage)) []said {
		m := commitMessage{Tree: id, AuthorLen: 1, AuthorZone: 3600, CommitterLen: 2, TextLen: 4, Parents: 1, Rest: append([]byte("acc"), bytesOf(id)...)}
		change(&m)
		return []said{{msgCommit, bytesOf(m)}, {msgCommitText, []byte("\nhi")}, {msgCommitText, []byte("!")}}
	}
	entry := func(n, nameLen uint64, id objectID) said {
		return said{msgTreeEntries, append(bytesOf(treeEntriesMessage{Entries: n}), append(bytesOf(treeEntry{ID: id, NameLen: nameLen}), "name"...)...)}
	}
	tag := func(m tagMessage) []said { return []said{{msgTag, bytesOf(m)}} }
	for name, tt := range map[string]struct {
		ask  string
		says []said
		want string // in the error, or the answer
	}{
		"commit": {"commit", c(func(m *commitMessage) {}), "{Tree:ab00000000000000000000000000000000000000 Parents:[ab0"},
		"headers": {"commit", []said{
			{msgCommit, bytesOf(commitMessage{TextLen: 4})}, {msgCommitText, []byte("a\n")}, {msgCommitText, []byte("\nb")},
		}, "Headers:a Message:b}"},
		"no message":      {"commit", []said{{msgCommit, bytesOf(commitMessage{TextLen: 1})}, {msgCommitText, []byte("\n")}}, "Headers: Message:}"},
		"no text":         {"commit", []said{{msgCommit, bytesOf(commitMessage{})}}, "Headers: Message:}"},
		"short":           {"commit", []said{{msgCommit, make([]byte, 95)}}, "95 bytes"},
		"long author":     {"commit", c(func(m *commitMessage) { m.AuthorLen = 1 << 63 }), "a string of 9223372036854775808 bytes where there are 39"},
		"long committer":  {"commit", c(func(m *commitMessage) { m.CommitterLen = 39 }), "a string of 39 bytes where there are 38"},
		"a zone":          {"commit", c(func(m *commitMessage) { m.AuthorZone = math.MinInt64 }), "a time zone -9223372036854775808 s"},
		"parents":         {"commit", c(func(m *commitMessage) { m.Parents = math.MaxUint32 }), "0 bytes, want 36"},
		"no parents":      {"commit", c(func(m *commitMessage) { m.Parents = 0 }), "36 bytes too many"},
		"SHA-256":         {"commit", c(func(m *commitMessage) { m.Tree.Algo = 1 }), "an object ID of kind 1"},
		"a short text":    {"commit", c(func(m *commitMessage) { m.TextLen = 3 }), "Message:hi}"},
		"a long text":     {"commit", c(func(m *commitMessage) { m.TextLen = 2 }), "3 bytes of a text of 2, at 0"},
		"an endless text": {"commit", c(func(m *commitMessage) { m.TextLen = math.MaxUint64 }), "a text of 18446744073709551615 bytes"},
		"an empty text":   {"commit", []said{{msgCommit, bytesOf(commitMessage{TextLen: 4})}, {msgCommitText, nil}}, "0 bytes of a text of 4"},
		"another type":    {"commit", []said{{msgTag, nil}}, "answer 14 of 0 bytes, want 5"},
		"an error":        {"tree", []said{{msgError, bytesOf(errorMessage{Code: 39})}}, "unexpected message (error 39)"},
		"no entries":      {"tree", []said{{msgTree, bytesOf(treeMessage{0})}}, "[]"},
		"entries":         {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, entry(1, 4, id)}, "[{Name:name Mode:0 ID:ab"},
		"fewer than none": {"tree", []said{{msgTree, bytesOf(treeMessage{-1})}}, "a tree of -1 entries"},
		"too many":        {"tree", []said{{msgTree, bytesOf(treeMessage{math.MaxInt32})}}, "a tree of 2147483647 entries"},
		"more than said":  {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, {msgTreeEntries, bytesOf(treeEntriesMessage{2, make([]byte, 96)})}}, "2 entries of a tree of 1"},
		"an empty batch":  {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, {msgTreeEntries, make([]byte, 8)}}, "0 bytes, want 48"},
		"a batch of 2^64": {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, entry(math.MaxUint64, 4, id)}, "0 bytes, want 48"},
		"a long name":     {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, entry(1, 5, id)}, "a string of 5 bytes where there are 4"},
		"a short name":    {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, entry(1, 3, id)}, "1 bytes too many"},
		"an entry's ID":   {"tree", []said{{msgTree, bytesOf(treeMessage{1})}, entry(1, 4, sha256)}, "an object ID of kind 1"},
		"tag":             {"tag", tag(tagMessage{Type: 4, NameLen: 1, TaggerLen: 2, Rest: []byte("ntt")}), "Type:tag Name:n Tagger:{Name:tt"},
		"a type":          {"tag", tag(tagMessage{Type: 5}), "of type 5"},
		"type 0":          {"tag", tag(tagMessage{}), "of type 0"},
		"a tag's ID":      {"tag", tag(tagMessage{Type: 1, ID: sha256}), "an object ID of kind 1"},
		"a tag's name":    {"tag", tag(tagMessage{Type: 1, NameLen: 1}), "a string of 1 bytes"},
		"a tagger":        {"tag", tag(tagMessage{Type: 1, TaggerLen: 1}), "a string of 1 bytes"},
		"a short tag":     {"tag", []said{{msgTag, make([]byte, 79)}}, "79 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			h := fakeHelper(t, [][]said{tt.says}, math.MaxInt, func(*imsg.Conn) {})
			v, err := asks(object)[tt.ask](fake.Context(t), h)
			got := fmt.Sprintf("%+v", v)
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	if _, err := ParseID("0a"); err == nil {
		t.Error("a short ID is none")
	}
	for typ, want := range map[uint32]string{0: "ERROR", 12: "BLOB", 52: "GITCONFIG_PARSE_REQUEST", 59: "GITCONFIG_STR_VAL", 60: "", 9: "TREE_ENTRIES", 15: "TAG_TAGMSG"} {
		if got := TypeName(typ); got != want {
			t.Errorf("TypeName(%d) = %q, want %q", typ, got, want)
		}
	}
	for typ, size := range map[uint32]int{0: 8, 4: 36, 5: 96, 7: 36, 8: 4, 9: 8, 10: 36, 12: 100, 13: 36, 14: 80} {
		if PayloadType(typ, size) == nil || PayloadType(typ, 1) != nil {
			t.Errorf("PayloadType(%d, %d)", typ, size)
		}
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

func FuzzObjects(f *testing.F) {
	for _, conversation := range conversations {
		for _, says := range conversation {
			for _, a := range says {
				f.Add(a.data)
			}
		}
	}
	commitSize, tagSize, entriesSize, entrySize := len(bytesOf(commitMessage{})), len(bytesOf(tagMessage{})), len(bytesOf(treeEntriesMessage{})), len(bytesOf(treeEntry{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err1 := decodeCommit(data)
		if err1 == nil && len(c.Author.Name)+len(c.Committer.Name)+36*len(c.Parents) != len(data)-commitSize {
			t.Errorf("%d bytes are %+v", len(data), c)
		}
		g, _, err2 := decodeTag(data)
		if err2 == nil && len(g.Name)+len(g.Tagger.Name) != len(data)-tagSize {
			t.Errorf("%d bytes are %+v", len(data), g)
		}
		entries, err3 := decodeEntries(nil, data)
		if err3 == nil && (len(entries) == 0 || entrySize*len(entries) > len(data)-entriesSize) {
			t.Errorf("%d bytes are %d entries", len(data), len(entries))
		}
		for _, err := range []error{err1, err2, err3} {
			if s := (*payload.SizeError)(nil); err != nil && !errors.As(err, &s) && !errors.Is(err, ibuf.ErrInvalid) && !errors.Is(err, ibuf.ErrShort) {
				t.Error(err)
			}
		}
	})
}
