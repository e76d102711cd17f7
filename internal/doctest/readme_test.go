package doctest

import (
	"os"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

// The program in the README is the one in examples/hello, which is compiled.
func TestReadmeProgram(t *testing.T) {
	inRoot(t)
	readme, err := os.ReadFile("README.md")
	testutil.Must(t, err)
	hello, err := os.ReadFile("examples/hello/main.go")
	testutil.Must(t, err)
	_, program, _ := strings.Cut(string(readme), "```go\n")
	program, _, ok := strings.Cut(program, "```")
	if !ok || !strings.HasSuffix(string(hello), "\n"+program) {
		t.Error("the program in README.md differs from examples/hello/main.go")
	}
	if n := strings.Count(string(readme), "\n"); n > 150 {
		t.Errorf("README.md has %d lines, limit 150", n)
	}
}
