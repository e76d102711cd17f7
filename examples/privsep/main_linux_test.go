package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// The test binary is the program too, built as the tests are: TestMain runs it
// if the environment says so, and its children come by here.
const programEnv = "EXAMPLE_PROGRAM"

func TestMain(m *testing.M) {
	daemon.RunChild()
	if os.Getenv(programEnv) != "" {
		if text := os.Getenv(refuseEnv); text != "" {
			if err := refuse(text); err != nil {
				fmt.Println(err)
				os.Exit(77)
			}
		}
		main()
	}
	os.Exit(m.Run())
}

func TestProgram(t *testing.T) {
	uids := []int{os.Getuid()}
	if uids[0] == 0 {
		uids = append(uids, 65534) // and as an ordinary user
	}
	for _, uid := range uids {
		t.Run(fmt.Sprintf("uid %d", uid), func(t *testing.T) {
			out := run(t, uid)
			for _, want := range expected(t, uid) {
				if !regexp.MustCompile("(?m)^" + want + "$").MatchString(out) {
					t.Errorf("no line %s in\n%s", want, out)
				}
			}
			if n := bytes.Count([]byte(out), []byte("\n")); n != 6 {
				t.Errorf("%d lines, want 6:\n%s", n, out)
			}
		})
	}
}

// run runs the program to its end as that user, and returns what it prints.
func run(t *testing.T, uid int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), programEnv+"=1")
	cmd.Dir = "/"
	if os.Getuid() != uid {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	return string(out)
}

func expected(t *testing.T, uid int) []string {
	lines := []string{
		fmt.Sprintf(`parent: pid \d+, uid %d, .*`, uid),
		`shadow: refused: "shadow" is not in the table`,
	}
	for name, path := range allowed {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s: %d lines", name, bytes.Count(text, []byte("\n"))))
	}
	for _, role := range []string{"worker", "logger"} {
		missing := ""
		if uid != 0 {
			missing = fmt.Sprintf(`; missing ids: user %d is not root; missing chroot: user %[1]d is not root`, uid)
		}
		lines = append(lines, fmt.Sprintf(`%s: pid \d+, uid %d, .*seccomp: (\d+ calls|none, no list).*%s`, role, cmp.Or(uid, 65534), missing))
	}
	return lines
}
