package doctest

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

// imports are the packages that a snippet may use without importing them.
var imports = map[string]string{
	"imsg": "example.org/imsg", "ibuf": "example.org/imsg/ibuf", "imsgtest": "example.org/imsg/imsgtest",
	"payload": "example.org/imsg/payload", "control": "example.org/imsg/proto/control",
	"peer": "example.org/imsg/peer", "privsep": "example.org/imsg/privsep", "sandbox": "example.org/imsg/privsep/sandbox",
	"exec": "os/exec", "signal": "os/signal", "user": "os/user", "slog": "log/slog", "filepath": "path/filepath",
	"binary": "encoding/binary", "json": "encoding/json", "unix": "golang.org/x/sys/unix", "fs": "io/fs", "atomic": "sync/atomic",
	"bufio": "", "bytes": "", "context": "", "errors": "", "flag": "", "fmt": "", "io": "", "log": "", "maps": "", "net": "", "os": "",
	"runtime": "", "slices": "", "strconv": "", "strings": "", "sync": "", "syscall": "", "testing": "", "time": "", "unsafe": "",
}

// prelude are variables that a snippet may use without declaring them.
var prelude = map[string]string{
	"ctx": "context.Context", "c": "*imsg.Conn", "conn": "*imsg.Conn", "b": "*imsg.Buf", "buf": "*imsg.Buf", "l": "*imsg.Listener",
	"m": "imsg.Message", "h": "imsg.Header", "f": "*os.File", "file": "*os.File", "cmd": "*exec.Cmd", "err": "error", "t": "*testing.T",
}

// preludeOf is what they are in one document.
var preludeOf = map[string]map[string]string{"doc/privsep.md": {"p": "*privsep.Proc"}}

// A snippet is one block of Go in a document. An HTML comment that begins with
// "<!--go" directly before it has declarations that it needs, and that readers
// of the document need not see.
type snippet struct {
	where, setup, text string
}

var fence = regexp.MustCompile("(?ms)(?:^<!--go\\b(.*?)-->\\s*?\\n)?^```go[^\\n]*\\n(.*?)^```")

func snippets(t *testing.T) (all []snippet) {
	t.Helper()
	files, err := filepath.Glob("doc/*.md")
	testutil.Must(t, err)
	for _, name := range append(files, "README.md", "SECURITY.md", "CONTRIBUTING.md") {
		text, err := os.ReadFile(name)
		testutil.Must(t, err)
		for _, at := range fence.FindAllSubmatchIndex(text, -1) {
			s := snippet{where: fmt.Sprintf("%s:%d", name, 1+strings.Count(string(text[:at[4]]), "\n")), text: string(text[at[4]:at[5]])}
			if at[2] >= 0 {
				s.setup = string(text[at[2]:at[3]])
			}
			all = append(all, s)
		}
	}
	return all
}

// program reports whether the snippet is a whole program.
func (s snippet) program() bool { return strings.HasPrefix(s.text, "package main\n") }

// source makes a package of the snippet: what is no declaration becomes the
// body of a function that returns an error.
func (s snippet) source() string {
	if s.program() {
		return s.text
	}
	line := fmt.Sprintf("\n//line %s\n", s.where)
	body := s.setup + line + s.text
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0); err != nil {
		body = s.setup + "\nfunc _() (err error) {" + line + s.text + "\nreturn\n}\n"
	}
	var head strings.Builder
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0)
	if err != nil {
		return "package p\n" + body // the compiler says what is wrong
	}
	if len(file.Imports) > 0 {
		return "package p\n" + body
	}
	vars := maps.Clone(prelude)
	maps.Copy(vars, preludeOf[strings.Split(s.where, ":")[0]])
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			delete(vars, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for _, id := range v.Names {
						delete(vars, id.Name)
					}
				}
			}
		}
	}
	used := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			used[id.Name] = true
			if typ := vars[id.Name]; typ != "" {
				used[strings.TrimLeft(strings.Split(typ, ".")[0], "*")] = true
			}
		}
		return true
	})
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		if path := imports[name]; used[name] {
			fmt.Fprintf(&head, "import %s %q\n", name, map[bool]string{true: path, false: name}[path != ""])
		}
	}
	for name, typ := range vars {
		if used[name] {
			fmt.Fprintf(&head, "var %s %s\n", name, typ)
		}
	}
	return "package p\n" + head.String() + body
}

// harmless are the compiler's complaints about what a snippet leaves out: what
// becomes of a variable, and names of the reader's own.
var harmless = regexp.MustCompile(`: declared and not used: |: "[^"]*" imported (as \w+ )?and not used|: undefined: [a-z]\w*$|^# |: too many errors$`)

// A module is where snippets are compiled.
type module struct {
	t   *testing.T
	dir string
}

func newModule(t *testing.T) *module {
	t.Helper()
	root, err := os.Getwd()
	testutil.Must(t, err)
	m := &module{t, t.TempDir()}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		testutil.Must(t, err)
		if name == "go.mod" {
			text = []byte(strings.Replace(string(text), "module example.org/imsg\n", "module example.org/snippets\n", 1) +
				"\nrequire example.org/imsg v0.0.0\nreplace example.org/imsg => " + root + "\n")
		}
		m.write(name, string(text))
	}
	return m
}

func (m *module) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *module) command(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOPROXY=off", "GOWORK=off")
	return cmd.CombinedOutput()
}

// build compiles a snippet and returns the compiler's complaints. The program
// is where it says, if the snippet is one.
func (m *module) build(name string, s snippet) (program string, faults []string) {
	m.write(name+"/p.go", s.source())
	program = filepath.Join(m.dir, name, "program")
	out, err := m.command("go", "build", "-gcflags=-e", "-o", program, "./"+name)
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); err != nil && (s.program() || !harmless.MatchString(line)) {
			faults = append(faults, line)
		}
	}
	return program, faults
}

// TestSnippets compiles every Go snippet of the documents, and runs those that
// are programs.
func TestSnippets(t *testing.T) {
	inRoot(t)
	m := newModule(t)
	all := snippets(t)
	if len(all) < 3 {
		t.Errorf("only %d snippets", len(all))
	}
	for i, s := range all {
		t.Run(s.where, func(t *testing.T) {
			program, faults := m.build(fmt.Sprint("s", i), s)
			if len(faults) > 0 {
				t.Fatal(strings.Join(faults, "\n"))
			}
			if s.program() {
				if out, err := m.command(program); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
		})
	}
}

// TestSnippetFaults makes sure that a mistake in a snippet is found.
func TestSnippetFaults(t *testing.T) {
	inRoot(t)
	m := newModule(t)
	for i, tt := range []struct {
		text string
		bad  bool
	}{
		{"cred, err := c.PeerCred()", false},
		{"return handle(ctx, m)", false},
		{"func serve() error { return c.Close() }", false},
		{"c.NoSuchMethod()", true},
		{"_ = imsg.NoSuchName", true},
		{"_ = imsg.Config{NoSuchField: 1}", true},
		{"m.Close(1)", true},
		{"package main\n\nfunc main() { unknown() }", true},
	} {
		_, faults := m.build(fmt.Sprint("f", i), snippet{where: "doc/x.md:1", text: tt.text + "\n"})
		testutil.Equal(t, fmt.Sprintf("%q: %q are faults", tt.text, faults), len(faults) > 0, tt.bad)
	}
}
