package doctest

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

// What imsg_init(3) and ibuf_add(3) document, August 2026. (imsg_get is not
// documented any more, but is there.)
const (
	cImsg = `imsgbuf_init imsgbuf_allow_fdpass imsgbuf_set_maxsize imsgbuf_read imsgbuf_get imsg_get imsgbuf_write
		imsgbuf_flush imsgbuf_queuelen imsgbuf_clear imsg_create imsg_add imsg_set_maxsize imsg_close imsg_compose
		imsg_composev imsg_compose_ibuf imsg_forward imsg_get_type imsg_get_id imsg_get_pid imsg_get_len imsg_get_fd
		imsg_get_data imsg_get_buf imsg_get_ibuf imsg_get_strbuf imsg_free imsg_ibufq_push imsg_ibufq_pop
		IMSG_HEADER_SIZE MAX_IMSGSIZE`

	cIbuf = `ibuf_open ibuf_dynamic ibuf_free ibuf_from_buffer ibuf_from_ibuf ibuf_add ibuf_add_ibuf ibuf_add_zero
		ibuf_add_n8 ibuf_add_n16 ibuf_add_n32 ibuf_add_n64 ibuf_add_h16 ibuf_add_h32 ibuf_add_h64 ibuf_add_strbuf
		ibuf_reserve ibuf_seek ibuf_set ibuf_set_n8 ibuf_set_n16 ibuf_set_n32 ibuf_set_n64 ibuf_set_h16 ibuf_set_h32
		ibuf_set_h64 ibuf_set_maxsize ibuf_data ibuf_size ibuf_left ibuf_truncate ibuf_rewind ibuf_skip ibuf_get
		ibuf_get_ibuf ibuf_get_n8 ibuf_get_n16 ibuf_get_n32 ibuf_get_n64 ibuf_get_h16 ibuf_get_h32 ibuf_get_h64
		ibuf_get_string ibuf_get_strbuf ibuf_fd_avail ibuf_fd_get ibuf_fd_set ibuf_close ibuf_write ibuf_read
		msgbuf_new msgbuf_new_reader msgbuf_free msgbuf_clear msgbuf_queuelen msgbuf_concat msgbuf_get msgbuf_read
		msgbuf_write ibufq_new ibufq_free ibufq_push ibufq_pop ibufq_queuelen ibufq_concat ibufq_flush IBUF_READ_SIZE`

	// promises is how many sentences the manual page has.
	promises = 63
)

// TestMapping checks doc/mapping.md, what doc/wire.md says of C, and the list
// of what the manual page promises, against the code.
func TestMapping(t *testing.T) {
	inRoot(t)
	m := newMapping(t)
	m.names(section(t, "doc/mapping.md", "imsg_init(3): package imsg"), "imsg", strings.Fields(cImsg))
	m.names(section(t, "doc/mapping.md", "ibuf_add(3): package ibuf"), "ibuf", strings.Fields(cIbuf))
	if n := len(m.items(section(t, "doc/wire.md", "Where C differs"))); n < 6 {
		t.Errorf("doc/wire.md: C differs in %d ways, want 6", n)
	}
	manual, err := os.ReadFile("internal/doctest/testdata/manual.md")
	testutil.Must(t, err)
	testutil.Equal(t, "promises of the manual page", m.promises(string(manual)), promises)
}

// A mapping is the parsed packages that the documents name.
type mapping struct {
	t     *testing.T
	pkgs  map[string]*types.Package
	tests map[string]map[string]names // directory, function: what its file uses
}

type names map[string]bool

func newMapping(t *testing.T) *mapping {
	return &mapping{t: t, pkgs: map[string]*types.Package{}, tests: map[string]map[string]names{}}
}

// section returns what a document says below a heading.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	testutil.Must(t, err)
	_, body, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", file, heading)
	}
	body, _, _ = strings.Cut(body, "\n## ")
	return strings.Trim(body, "\n")
}

// items returns the items of a section's lists. Each says what follows from
// what, with a colon between, and names a test.
func (m *mapping) items(section string) (all []string) {
	for para := range strings.SplitSeq(section, "\n\n") {
		if items, found := strings.CutPrefix(para, "- "); found {
			all = append(all, strings.Split(items, "\n- ")...)
		}
	}
	for _, item := range all {
		if !strings.Contains(item, ": ") || len(m.proof(item)) == 0 {
			m.t.Errorf("%q: no colon, or no test", item)
		}
	}
	return all
}

// proven is how a document names a test: `directory.TestName`, or
// `directory.TestName/subtest`.
var proven = regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz|Example)\\w*)(?:/[^`]*)?`")

// proof returns what the tests that a text names use; they must exist.
func (m *mapping) proof(text string) (all []names) {
	for _, name := range proven.FindAllStringSubmatch(text, -1) {
		if used := m.test(name[1], name[2]); used != nil {
			all = append(all, used)
		} else {
			m.t.Errorf("no test %s.%s", name[1], name[2])
		}
	}
	return all
}

// names checks lines of a C name and its Go names, and the list of differences.
// Above the lines stand the tests that prove them: the file of one of them uses
// each function and constant.
func (m *mapping) names(section, pkg string, want []string) {
	seen := names{}
	var proof []names
	for para := range strings.SplitSeq(section, "\n\n") {
		if !strings.HasPrefix(para, "\t") {
			proof = m.proof(para)
			continue
		}
		for line := range strings.Lines(para) {
			c, symbols, _ := strings.Cut(strings.TrimSpace(line), " ")
			if seen[c] || !slices.Contains(want, c) {
				m.t.Errorf("%s: no such C name, or its second line", c)
			}
			seen[c] = true
			for _, s := range goNames(symbols) {
				switch symbol := m.symbol(pkg + "." + s).(type) {
				case nil:
					m.t.Errorf("%s: no Go symbol %s.%s", c, pkg, s)
				case *types.TypeName: // which a test need not mention
				default:
					if !slices.ContainsFunc(proof, func(used names) bool { return used[symbol.Name()] }) {
						m.t.Errorf("%s: no test that is named uses %s", c, s)
					}
				}
			}
		}
	}
	for _, c := range want {
		if !seen[c] {
			m.t.Errorf("%s: has no line", c)
		}
	}
	for _, item := range m.items(section) {
		about, _, _ := strings.Cut(item, ": ")
		for c := range strings.SplitSeq(about, ", ") {
			if !seen[c] {
				m.t.Errorf("difference of %q: no such C name", c)
			}
		}
	}
}

// goNames returns the names of a list; A/B.C stands for A.C and B.C.
func goNames(list string) (all []string) {
	for name := range strings.SplitSeq(list, ",") {
		owners, method, found := strings.Cut(strings.TrimSpace(name), ".")
		for owner := range strings.SplitSeq(owners, "/") {
			if found {
				owner += "." + method
			}
			all = append(all, owner)
		}
	}
	return all
}

// promises checks a table of promises and returns how many there are: those of
// one row are parted by semicolons. A row without a test says why.
func (m *mapping) promises(table string) (n int) {
	for _, row := range rows(table, "promise") {
		if len(row) != 3 {
			m.t.Errorf("%q: %d columns, want 3", row, len(row))
			continue
		}
		tests := len(m.proof(row[1]))
		if tests != len(quoted(row[1])) || tests == 0 && (row[1] != "" || row[2] == "") {
			m.t.Errorf("%s: neither a test nor a difference", row[0])
		}
		n += len(strings.Split(row[0], ";"))
	}
	return n
}

// rows returns the cells of the table whose head begins with the title.
func rows(section, title string) (all [][]string) {
	in := false
	for line := range strings.SplitSeq(section, "\n") {
		if !strings.HasPrefix(line, "|") {
			in = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == title:
			in = true
		case in && !strings.HasPrefix(cells[0], "---"):
			all = append(all, cells)
		}
	}
	return all
}

var quote = regexp.MustCompile("`([^`]+)`")

func quoted(cell string) (names []string) {
	for _, m := range quote.FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	return names
}

// symbol returns package.Name or package.Type.Name, or nil if there is none that
// is exported.
func (m *mapping) symbol(name string) types.Object {
	part := strings.Split(name, ".")
	pkg := m.load(part[0])
	obj := pkg.Scope().Lookup(part[1])
	if obj != nil && len(part) == 3 {
		obj, _, _ = types.LookupFieldOrMethod(obj.Type(), true, pkg, part[2])
	}
	if obj == nil || len(part) > 3 || !obj.Exported() || !ast.IsExported(part[1]) {
		return nil
	}
	return obj
}

// load checks the types of a package of this module. What it needs of others
// is left open: only its own names and those of ibuf matter here.
func (m *mapping) load(name string) *types.Package {
	if pkg := m.pkgs[name]; pkg != nil {
		return pkg
	}
	bp, err := build.ImportDir(directory(name), 0)
	if err != nil {
		m.t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, f := range bp.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(bp.Dir, f), nil, parser.SkipObjectResolution)
		if err != nil {
			m.t.Fatal(err)
		}
		files = append(files, file)
	}
	conf := types.Config{IgnoreFuncBodies: true, Importer: m, Error: func(error) {}}
	pkg, _ := conf.Check(name, fset, files, nil)
	m.pkgs[name] = pkg
	return pkg
}

// Import makes mapping a types.Importer.
func (m *mapping) Import(path string) (*types.Package, error) {
	if path == "example.org/imsg/ibuf" {
		return m.load("ibuf"), nil
	}
	pkg := types.NewPackage(path, filepath.Base(path))
	pkg.MarkComplete()
	return pkg, nil
}

// directory returns where a package is; the root goes by its name.
func directory(name string) string {
	if name == "imsg" {
		return "."
	}
	return name
}

// test returns the names that are used in the file of a test of a directory, or
// nil: there is no such test, for any system.
func (m *mapping) test(dir, name string) names {
	funcs := m.tests[dir]
	if funcs == nil {
		funcs = map[string]names{}
		m.tests[dir] = funcs
		files, err := filepath.Glob(filepath.Join(directory(dir), "*_test.go"))
		testutil.Must(m.t, err)
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			testutil.Must(m.t, err)
			used := names{}
			ast.Inspect(file, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					used[id.Name] = true
				}
				return true
			})
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					funcs[f.Name.Name] = used
				}
			}
		}
	}
	return funcs[name]
}
