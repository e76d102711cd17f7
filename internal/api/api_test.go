package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAPI fails when an exported name was added, changed or removed and the
// folder api does not say so.
func TestAPI(t *testing.T) {
	needGo(t)
	seeDirectories(t)
	now, err := current("../..", testOut{t})
	if err != nil {
		t.Fatal(err)
	}
	if err := compare("../../api", now, testOut{t}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"imsg.txt", "ibuf.txt", "imsgtest.txt"} {
		if len(now[name]) == 0 {
			t.Errorf("no listing %s", name)
		}
	}
	for _, name := range []string{"interop.txt", "cmd_imsg.txt", "internal_unixmsg.txt"} {
		if now[name] != nil {
			t.Errorf("a listing %s", name)
		}
	}
}

// seeDirectories looks into all of the module's. go list, in its own process,
// finds a file that is new; go test, which repeats a verdict while nothing has
// changed that the test itself has seen, must know about it.
func seeDirectories(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".git" {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func needGo(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("no go command: %v", err)
	}
}

type testOut struct{ t *testing.T }

func (w testOut) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

const source = `package p

import ("io"; "time")

const Untyped = 1 << 4
const Typed Kind = 3
const hidden = 1
// Deprecated: use New.
const Old = "x"

var Err, unexported error

type Kind uint8

func (k Kind) String() string { return "" }
func (k *Kind) set() {}

type T struct {
	A, b int
	// C was good once.
	//
	// Deprecated: no more.
	C func(x, y int) (err error)
	io.Reader
	inner
	Other
}

func (t T) M(name string, more ...[]byte) (n int, err error) { return }
func (t *T) P(map[string]func(int) bool, chan<- [2]*T) <-chan T { return nil }

type inner struct { Deep time.Duration; deeper int }

func (*inner) Promoted() {}

type Other struct{}

func (Other) FromOther() {}

type I interface { io.Closer; Do(f func(n int)) error; private() }
type Empty interface{}
type Constraint interface { ~int | string }
type List[E any] struct{ First E }

func (l List[E]) Len() int { return 0 }

type Alias = *T

func F[K comparable, V any](m map[K]V, f func(k K) V) (first V) { return }

// Gone is gone.
//
// Deprecated: it is.
func Gone() {}

type small struct{ Hidden int }

func (small) Method() {}
`

func TestListing(t *testing.T) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	conf := types.Config{IgnoreFuncBodies: true, Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := conf.Check("example.org/x/p", fset, []*ast.File{f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(`const Old = "x" //deprecated
const Typed Kind = 3
const Untyped = 16
func F[K comparable, V any](map[K]V, func(K) V) V
func Gone() //deprecated
method (*T) P(map[string]func(int) bool, chan<- [2]*T) <-chan T
method (*T) Promoted()
method (Kind) String() string
method (List[E any]) Len() int
method (Other) FromOther()
method (T) M(string, ...[]byte) (int, error)
type Alias = *T
type Constraint interface{~int | string}
type Empty interface {}
type I interface { Close, Do, unexported methods }
type I interface, Close() error
type I interface, Do(func(int)) error
type Kind uint8
type List[E any] struct
type List[E any] struct, First E
type Other struct
type T struct
type T struct, A int
type T struct, C func(int, int) error //deprecated
type T struct, Deep time.Duration
type T struct, embedded Other
type T struct, embedded io.Reader
var Err error`, "\n")
	for i := range want {
		want[i] = "pkg x/p, " + want[i]
	}
	for _, line := range changes(want, listing("x/p", pkg, deprecated([]*ast.File{f}))) {
		t.Error(line)
	}
}

// TestCheck compares and writes, in a directory with every kind of difference.
func TestCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "api")
	now := map[string][]string{"a.txt": {"one", "two"}, "b.txt": {"one"}}
	if err := write(dir, now, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := compare(dir, now, testOut{t}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file, text string
		want             string
	}{
		{"a name is gone", "a.txt", "one\nthree\ntwo\n", "--- api/a.txt\n+++ code/a.txt\n-three\n"},
		{"a name is new", "a.txt", "two\n", "--- api/a.txt\n+++ code/a.txt\n+one\n"},
		{"out of order", "a.txt", "two\none\n", "--- api/a.txt\n+++ code/a.txt\n+one\n-one\n"},
		{"a package is gone", "c.txt", "one\n", "--- api/c.txt\n+++ code/c.txt\n-one\n"},
		{"a package is new", "b.txt", "", "--- api/b.txt\n+++ code/b.txt\n+one\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.file)
			err := os.WriteFile(path, []byte(tt.text), 0o666)
			if tt.text == "" {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := compare(dir, now, &out); err == nil || out.String() != tt.want {
				t.Errorf("%v\n%s\nwant\n%s", err, out.String(), tt.want)
			}
			if err := write(dir, now, io.Discard); err != nil {
				t.Fatal(err)
			}
			if err := compare(dir, now, testOut{t}); err != nil {
				t.Error(err)
			}
			files, err := stored(dir)
			if err != nil || len(files) != 2 || !slices.Equal(files["a.txt"], now["a.txt"]) {
				t.Errorf("%v, %v", files, err)
			}
		})
	}
}
