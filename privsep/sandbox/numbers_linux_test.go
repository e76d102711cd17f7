package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

// numbersFor returns the numbers by name, nil if there are none.
func numbersFor(goarch string) map[string]uint32 {
	if !known(goarch) {
		return nil
	}
	m := map[string]uint32{}
	for _, c := range systemCalls {
		if n, ok := numberOf(goarch, c.name); ok {
			m[c.name] = n
		}
	}
	return m
}

// TestNumbers compares the table with the source of x/sys, for both columns.
func TestNumbers(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Skip("needs the go command and the source of golang.org/x/sys: ", err)
	}
	constant := regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+=\s+(\d+)$`)
	for _, arch := range []string{"amd64", "arm64"} {
		source, err := os.ReadFile(filepath.Join(dir, "unix", "zsysnum_linux_"+arch+".go"))
		testutil.Must(t, err)
		real := map[string]uint32{}
		for _, m := range constant.FindAllStringSubmatch(string(source), -1) {
			n, err := strconv.ParseUint(m[2], 10, 32)
			testutil.Must(t, err)
			real[strings.ToLower(m[1])] = uint32(n)
		}
		ours := numbersFor(arch)
		if len(ours) < 150 || len(real) < 300 {
			t.Fatalf("%s: %d numbers, x/sys %d", arch, len(ours), len(real))
		}
		for _, c := range systemCalls {
			got, have := ours[c.name]
			want, exists := real[c.name]
			if have != exists || got != want {
				t.Errorf("%s %s: %d (%v), x/sys has %d (%v)", arch, c.name, got, have, want, exists)
			}
		}
	}
}
