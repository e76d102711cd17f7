package privsep

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAsNobody runs all other tests again without root's rights.
func TestAsNobody(t *testing.T) {
	if !isRoot() {
		t.Skip("runs the tests as an ordinary user, which they are already")
	}
	if testing.Short() {
		t.Skip("all tests once more")
	}
	dir, err := os.MkdirTemp("", "privsep-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	timeout := 90 * time.Second
	if deadline, ok := t.Deadline(); ok {
		timeout = time.Until(deadline) * 9 / 10
	}
	cmd := again(t, "TMPDIR="+dir)
	cmd.Args = []string{os.Args[0], "-test.v", "-test.skip=^TestAsNobody$", "-test.timeout=" + timeout.String()}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, out.String())
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "SKIP") {
			t.Logf("as nobody: %s", line)
		}
	}
}

// TestUnprivileged: what needs root is missing, and the status says so.
func TestUnprivileged(t *testing.T) {
	d := func(d *Daemon) { d.User, d.Chroot = "nobody", EmptyDir }
	r := up(t, pairDaemon, d)
	for _, role := range []string{"a", "b"} {
		s := r.status(role, 0)
		missing := strings.Join(s.Missing, "\n")
		if isRoot() != (missing == "") {
			t.Errorf("root %t, missing %q", isRoot(), missing)
		}
		if !isRoot() && (!strings.Contains(missing, "ids: user ") || !strings.Contains(missing, "chroot: user ") || !strings.Contains(s.String(), "missing ids")) {
			t.Errorf("status %v", s)
		}
		if isRoot() == (s.Chroot == "") {
			t.Errorf("root %t, chroot %q", isRoot(), s.Chroot)
		}
		if s.Dumpable {
			t.Errorf("status %v", s)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}

	privileged := func(d *Daemon) { d.Privileged = true }
	if isRoot() {
		up(t, pairDaemon, privileged)
	} else if err := fails(t, pairDaemon, privileged); !errors.Is(err, ErrUnprivileged) {
		t.Errorf("Privileged: error %v", err)
	}
}
