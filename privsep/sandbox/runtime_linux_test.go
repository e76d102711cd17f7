package sandbox

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRuntimeCalls reads which system calls the Go runtime of this toolchain can
// make, on both architectures. Each has to be in "stdio" or to be known as one
// that a running program does not need.
func TestRuntimeCalls(t *testing.T) {
	notNeeded := map[string]string{
		"openat":     "before main, and for profiles",
		"faccessat":  "Android",
		"socket":     "Android",
		"connect":    "Android",
		"arch_prctl": "before main",
	}
	w := words{"stdio": true}
	allowed := strings.Fields(plainCalls("stdio"))
	for _, r := range argRules(w, 1) {
		allowed = append(allowed, r.call)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("needs the go command: ", err)
	}
	name := regexp.MustCompile(`(?m)^(?:#define\s+|\s+)SYS_(\w+)\s+(?:=\s*)?[(\d]`)
	for _, arch := range []string{"amd64", "arm64"} {
		found := map[string]bool{}
		for _, file := range []string{"runtime/sys_linux_" + arch + ".s", "internal/runtime/syscall/linux/defs_linux_" + arch + ".go"} {
			source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", file))
			if err != nil {
				t.Skip("needs the source of the Go runtime: ", err)
			}
			for _, m := range name.FindAllStringSubmatch(string(source), -1) {
				call := strings.ToLower(m[1])
				if call == "setittimer" { // as it is spelt there
					call = "setitimer"
				}
				found[call] = true
			}
		}
		if len(found) < 35 {
			t.Errorf("%s: only %d calls found: %v", arch, len(found), slices.Sorted(maps.Keys(found)))
		}
		for call := range found {
			if !slices.Contains(allowed, call) && notNeeded[call] == "" {
				t.Errorf("%s: the runtime may call %s, which \"stdio\" does not allow", arch, call)
			}
		}
	}
}
