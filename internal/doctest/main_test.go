// Package doctest tests what the documents say: the names, tests and snippets in them.
package doctest

import (
	"fmt"
	"os"
	"testing"

	"example.org/imsg/imsgtest"
)

// TestMain runs the tests in the root of the repository, where the documents are.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	imsgtest.Main(m)
}
