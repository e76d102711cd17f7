package imsgtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// leakVar tells a second run of this binary what to leave behind.
const leakVar = "IMSGTEST_LEAK"

func TestMain(m *testing.M) { Main(m) }

func TestLeave(t *testing.T) {
	switch os.Getenv(leakVar) {
	case "descriptor":
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, f)
	case "goroutine":
		go func() { select {} }()
	}
}

// left keeps files from being closed by the garbage collector.
var left []*os.File

func TestMainFindsLeaks(t *testing.T) {
	for what, want := range map[string]string{
		"nothing":    "",
		"descriptor": os.DevNull,
		"goroutine":  "TestLeave",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestLeave$")
			cmd.Env = append(os.Environ(), leakVar+"="+what)
			out, err := cmd.CombinedOutput()
			if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
				t.Errorf("%s left behind: %v\n%s", what, err, out)
			}
		})
	}
}
