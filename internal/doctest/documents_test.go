package doctest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

// proven is how a document names a test: `directory.TestName`, or
// `directory.TestName/subtest`.
var proven = regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz|Example)\\w*)(?:/[^`]*)?`")

// TestDocumentsNameTests fails when SECURITY.md or doc/platforms.md names a
// test that does not exist, or when a row of their tables names none.
func TestDocumentsNameTests(t *testing.T) {
	inRoot(t)
	for _, tt := range []struct {
		file, title  string
		columns, row int // of the table; how many rows at least
	}{
		{"SECURITY.md", "threat", 3, 20},
		{"doc/platforms.md", "behaviour", 3, 15},
	} {
		text, err := os.ReadFile(tt.file)
		testutil.Must(t, err)
		m := &mapping{t: t, tests: map[string]map[string]bool{}}
		for _, name := range proven.FindAllStringSubmatch(string(text), -1) {
			if !m.hasTest(name[1], name[2]) {
				t.Errorf("%s: no test %s.%s", tt.file, name[1], name[2])
			}
		}
		table := rows(string(text), tt.title)
		if len(table) < tt.row {
			t.Errorf("%s: %d rows that begin with a %s, want %d", tt.file, len(table), tt.title, tt.row)
		}
		for _, row := range table {
			testutil.Equal(t, fmt.Sprintf("%s: %q: columns", tt.file, row[0]), len(row), tt.columns)
			if !proven.MatchString(strings.Join(row, "|")) {
				t.Errorf("%s: %q: names no test", tt.file, row[0])
			}
		}
	}
}

var (
	required = regexp.MustCompile(`(?m)^(?:require )?\t?([\w.]+/[\w./~-]+) v\S+`)
	tools    = regexp.MustCompile(`(?m)^\t(\S+/cmd/\S+|gotest\.tools/gotestsum)$`)
)

// TestDependencies fails when a module that a go.mod requires is not justified
// in SECURITY.md, or one is that is not required. Of tools/go.mod, of which
// nothing reaches a user, it is the tools.
func TestDependencies(t *testing.T) {
	inRoot(t)
	text, err := os.ReadFile("SECURITY.md")
	testutil.Must(t, err)
	justified := map[string]bool{}
	for _, row := range rows(string(text), "module") {
		for _, name := range quoted(row[1]) {
			justified[row[0]+" "+name] = false
		}
	}
	for in, file := range map[string]string{"root": "go.mod", "tools": "tools/go.mod", "bench": "bench/go.mod", "examples/metrics": "examples/metrics/go.mod"} {
		text, err := os.ReadFile(file)
		testutil.Must(t, err)
		lines := required
		if in == "tools" {
			lines = tools
		}
		for _, r := range lines.FindAllStringSubmatch(string(text), -1) {
			if r[1] == "example.org/imsg" {
				continue
			}
			if _, ok := justified[in+" "+r[1]]; !ok {
				t.Errorf("%s requires %s: SECURITY.md does not say why", file, r[1])
			}
			justified[in+" "+r[1]] = true
		}
	}
	for name, there := range justified {
		if !there {
			t.Errorf("SECURITY.md justifies %s, which nothing requires", name)
		}
	}
}
