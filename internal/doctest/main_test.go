// Package doctest tests what the documents say: the names, tests and snippets in them.
package doctest

import (
	"io/fs"
	"path/filepath"
	"testing"

	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

// inRoot makes the root of the repository, where the documents are, the
// working directory of a test. It is done within the test, and every directory
// is looked at, because then go test notes both: it must not say "cached" when
// a document has changed, or what the compiler is going to read.
func inRoot(t *testing.T) {
	t.Helper()
	t.Chdir("../..")
	testutil.Must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "testdata" || path != "." && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		return err
	}))
}
