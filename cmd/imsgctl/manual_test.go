package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"example.org/imsg/internal/testutil"
)

const manual = "imsgctl.1"

// TestManual shows that the manual has every command, once, and every flag.
func TestManual(t *testing.T) {
	page, err := os.ReadFile(manual)
	testutil.Must(t, err)
	seen := make(map[string]bool)
	for _, c := range newApp().root.Commands() {
		if seen[c.Name()] {
			t.Errorf("main.go has %s twice", c.Name())
		}
		seen[c.Name()] = true
		if c.Runnable() && !strings.Contains(string(page), "\n.It Cm "+c.Name()) {
			t.Errorf("%s has no command %s", manual, c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(string(page), "Fl -"+f.Name) && !strings.Contains(string(page), ", -"+f.Name) {
				t.Errorf("%s has no --%s of %s", manual, f.Name, c.Name())
			}
		})
		checkExamples(t, c)
		for line := range strings.Lines(c.Long) {
			if len(line) > 90 {
				t.Errorf("%s: the help has a line of %d bytes: %s", c.Name(), len(line), line)
			}
		}
	}
}

// checkExamples makes sure that a command's help shows how to use it.
func checkExamples(t *testing.T, c *cobra.Command) {
	if c.Name() != "demo" && c.Name() != "help" && !strings.Contains(c.Example, "imsgctl "+c.Name()) && c.Runnable() {
		t.Errorf("%s has no example", c.Name())
	}
}

func TestManualIsClean(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Skip("mandoc is not installed; it is Debian's package mandoc")
	}
	if out, err := exec.Command("mandoc", "-Tlint", "-W", "warning", manual).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
