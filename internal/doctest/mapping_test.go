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

// TestMapping checks doc/mapping.md, and the list of what the manual page
// promises, against the code.
func TestMapping(t *testing.T) {
	inRoot(t)
	text, err := os.ReadFile("doc/mapping.md")
	testutil.Must(t, err)
	m := &mapping{t: t, pkgs: map[string]*types.Package{}, tests: map[string]map[string]bool{}}
	sections := strings.Split(string(text), "\n## ")
	if len(sections) != 4 {
		t.Fatalf("%d sections, want 4", len(sections))
	}
	m.names(sections[1], cImsg)
	m.names(sections[2], cIbuf)
	m.promises(sections[3])
	manual, err := os.ReadFile("internal/doctest/testdata/manual.md")
	testutil.Must(t, err)
	testutil.Equal(t, "promises of the manual page", m.promises(string(manual)), promises)
}

// A mapping is the parsed packages that the tables name.
type mapping struct {
	t     *testing.T
	pkgs  map[string]*types.Package
	tests map[string]map[string]bool // directory, function
}

// names checks a table of C names against the list of them.
func (m *mapping) names(section, list string) {
	want := map[string]bool{}
	for c := range strings.FieldsSeq(list) {
		want[c] = false
	}
	for _, row := range rows(section, "C name") {
		if len(row) != 4 {
			m.t.Errorf("%q: %d columns, want 4", row, len(row))
			continue
		}
		c := row[0]
		seen, known := want[c]
		switch {
		case !known:
			m.t.Errorf("%s: no such C name", c)
		case seen:
			m.t.Errorf("%s: has two rows", c)
		}
		want[c] = true
		symbols := quoted(row[1])
		if len(symbols) == 0 {
			m.t.Errorf("%s: names no Go symbol", c)
		}
		for _, s := range symbols {
			if !m.symbol(s) {
				m.t.Errorf("%s: no Go symbol %s", c, s)
			}
		}
		m.proof(c, row[2], row[3])
	}
	for c, seen := range want {
		if !seen {
			m.t.Errorf("%s: has no row", c)
		}
	}
}

// promises checks a table of promises and returns how many there are: those of
// one row are parted by semicolons.
func (m *mapping) promises(section string) (n int) {
	for _, row := range rows(section, "promise") {
		if len(row) != 3 {
			m.t.Errorf("%q: %d columns, want 3", row, len(row))
			continue
		}
		m.proof(row[0], row[1], row[2])
		n += len(strings.Split(row[0], ";"))
	}
	return n
}

// proof checks that the tests exist, and that a row without any says why.
func (m *mapping) proof(what, tests, difference string) {
	names := quoted(tests)
	if len(names) == 0 && (tests != "" || difference == "") {
		m.t.Errorf("%s: neither a test nor a difference", what)
	}
	for _, name := range names {
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 || !m.hasTest(name[:dot], name[dot+1:]) {
			m.t.Errorf("%s: no test %s", what, name)
		}
	}
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

// symbol reports whether package.Name or package.Type.Name is exported.
func (m *mapping) symbol(name string) bool {
	part := strings.Split(name, ".")
	for _, s := range part[1:] {
		if !ast.IsExported(s) {
			return false
		}
	}
	if len(part) < 2 || len(part) > 3 {
		return false
	}
	pkg := m.load(part[0])
	obj := pkg.Scope().Lookup(part[1])
	if obj == nil || len(part) == 2 {
		return obj != nil
	}
	member, _, _ := types.LookupFieldOrMethod(obj.Type(), true, pkg, part[2])
	return member != nil
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

// hasTest reports whether a test file of a directory, for any system, has the
// function.
func (m *mapping) hasTest(dir, name string) bool {
	funcs := m.tests[dir]
	if funcs == nil {
		funcs = map[string]bool{}
		m.tests[dir] = funcs
		files, err := filepath.Glob(filepath.Join(directory(dir), "*_test.go"))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				m.t.Fatal(err)
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					funcs[f.Name.Name] = true
				}
			}
		}
	}
	return testName.MatchString(name) && funcs[name]
}

var testName = regexp.MustCompile("^(Test|Fuzz|Example)")
