package doctest

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

// TestDocumentsNameTests fails when SECURITY.md or doc/platforms.md names a
// test that does not exist, or when an item of their lists names none.
func TestDocumentsNameTests(t *testing.T) {
	inRoot(t)
	m := newMapping(t)
	for _, tt := range []struct {
		file, heading string
		items         int // at least
	}{
		{"SECURITY.md", "Threats", 40},
		{"doc/platforms.md", "What depends on the system", 15},
	} {
		text, err := os.ReadFile(tt.file)
		testutil.Must(t, err)
		m.proof(string(text))
		if n := len(m.items(section(t, tt.file, tt.heading))); n < tt.items {
			t.Errorf("%s: %d %s, want %d", tt.file, n, tt.heading, tt.items)
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
	justified := map[string]bool{}
	for item := range strings.SplitSeq(section(t, "SECURITY.md", "Dependencies"), "\n- ") {
		part := strings.SplitN(item, ": ", 3) // go.mod's directory, modules, the reason
		if len(part) < 3 {
			continue
		}
		for _, name := range quoted(part[1]) {
			justified[part[0]+" "+name] = false
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
