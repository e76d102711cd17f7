package sandbox

import (
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestEscape: what a process that was taken over would try.
func TestEscape(t *testing.T) {
	needFilter(t)
	type row struct{ promises, probe, want string } // "": the process is killed
	rows := []row{
		{"stdio", "none", "ok"},
		{"stdio", "kill self", "ok"},
		{"stdio", "inet socket", "EPERM"},
		{"stdio", "unix socket", "EPERM"},
		{"stdio", "packet socket", "EPERM"},
		{"stdio", "exec", "EPERM"},
		{"stdio", "fork", "EPERM"},
		{"stdio", "clone3", "ENOSYS"},
		{"stdio proc exec", "clone3", "ENOSYS"},
		{"stdio", "openat2", "ENOSYS"},
		{"stdio rpath wpath cpath", "openat2", "ENOSYS"},
		{"stdio", "read", "EPERM"},
		{"stdio", "type input", "EPERM"},
		{"stdio tty", "type input", "EPERM"},
		{"stdio", "map code", "EPERM"},
		{"stdio", "turn to code", "EPERM"},
		{"stdio rpath", "write", "EPERM"},
		{"stdio rpath", "truncate by open", "EPERM"},
		{"stdio rpath wpath", "create", "EPERM"},
		{"stdio wpath", "read", "EPERM"},
		{"stdio cpath dpath", "mknod", "EPERM"},
		{"stdio inet", "raw socket", "EPERM"},
		{"stdio inet", "sctp socket", "EPERM"},
		{"stdio inet", "unix socket", "EPERM"},
		{"stdio inet mcast", "tcp ulp", "EPERM"},
		{"stdio unix", "inet socket", "EPERM"},
		{"stdio route", "netlink audit", "EPERM"},
		{"stdio rpath proc exec", "new namespace", "EPERM"},
		{"stdio rpath proc exec", "brother", "EPERM"},
		{"stdio rpath proc exec", "run memory", "EPERM"},
		{"stdio rpath proc exec", "run sealed memory", "EPERM"},
		{"stdio", "memory file", "ok"},
		{vocabulary, "newer calls", "EPERM"},
	}
	if runtime.GOARCH == "amd64" {
		rows = append(rows, row{"stdio", "x32", ""})
	}
	for name := range fatalNumbers() {
		rows = append(rows, row{"stdio id proc exec", name, ""})
	}
	for _, r := range rows {
		t.Run(r.promises+" "+r.probe, func(t *testing.T) {
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				out, err := run(t, "probe", Policy{Promises: r.promises}, cred, tempDir(t), r.probe)
				if r.want == "" && !killed(err) {
					t.Errorf("%q, %v; want the process killed", out, err)
				}
				if r.want != "" && (out != r.want || err != nil) {
					t.Errorf("%q, %v; want %q", out, err, r.want)
				}
			})
		})
	}
}

// TestDebug: the runtime shows which call was forbidden.
func TestDebug(t *testing.T) {
	needFilter(t)
	out, err := run(t, "probe", Policy{Promises: "stdio", Debug: true}, nil, tempDir(t), "inet socket")
	if err == nil || killed(err) {
		t.Errorf("debug: %v; want the runtime's own end", err)
	}
	for _, text := range []string{"SIGSYS", "unix.Socket"} {
		if !strings.Contains(out, text) {
			t.Errorf("debug: no %q in %q", text, out)
		}
	}
}

// TestPathsEscape: what Paths leave to a process that was promised more.
func TestPathsEscape(t *testing.T) {
	needFilter(t)
	needLandlock(t, 1)
	for _, row := range []struct {
		probe, perm string
		promises    string
		want        string
	}{
		{"read", "r", "stdio rpath", "ok"},
		{"read", "w", "stdio rpath wpath", "EACCES"},
		{"read", "rwxc", "stdio wpath", "EPERM"},
		{"write", "r", "stdio rpath wpath", "EACCES"},
		{"write", "w", "stdio wpath", "ok"},
		{"truncate by open", "r", "stdio rpath wpath", "EACCES"},
		{"create", "rw", "stdio rpath wpath cpath", "EACCES"},
		{"create", "wc", "stdio wpath cpath", "ok"},
		{"mkdir", "rw", "stdio cpath", "EACCES"},
		{"listen unix", "rw", "stdio unix", "EACCES"},
		{"listen unix", "rwc", "stdio unix", "ok"},
		{"passwd", "rwxc", "stdio rpath", "EACCES"},
		{"passwd", "rwxc", "stdio rpath getpw", "ok"},
		{"hosts", "rwxc", "stdio rpath getpw", "EACCES"},
		{"exec", "rwxc", "stdio rpath exec", "EACCES"},
	} {
		t.Run(row.promises+" "+row.perm+" "+row.probe, func(t *testing.T) {
			if row.probe == "truncate by open" {
				needLandlock(t, 3)
			}
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				dir := tempDir(t)
				p := Policy{Promises: row.promises, Paths: []Path{{dir, row.perm}}}
				out, err := run(t, "probe", p, cred, dir, row.probe)
				if out != row.want || err != nil {
					t.Errorf("%q, %v; want %q", out, err, row.want)
				}
			})
		})
	}
	// The same without promises: Landlock alone.
	dir := tempDir(t)
	for probe, want := range map[string]string{"read": "ok", "mkdir": "EACCES", "passwd": "EACCES", "inet socket": "ok"} {
		p := Policy{Paths: []Path{{dir, "r"}}}
		if out, err := run(t, "probe", p, nil, dir, probe); out != want || err != nil {
			t.Errorf("paths alone, %s: %q, %v; want %q", probe, out, err, want)
		}
	}
	// No paths at all is not the same as none given.
	p := Policy{Promises: "stdio rpath", Paths: []Path{}}
	if out, err := run(t, "probe", p, nil, dir, "read"); out != "EACCES" || err != nil {
		t.Errorf("empty paths: %q, %v; want EACCES", out, err)
	}
	// A single file.
	p = Policy{Promises: "stdio rpath wpath", Paths: []Path{{filepath.Join(dir, "file"), "r"}}}
	for probe, want := range map[string]string{"read": "ok", "write": "EACCES", "passwd": "EACCES"} {
		if out, err := run(t, "probe", p, nil, dir, probe); out != want || err != nil {
			t.Errorf("one file, %s: %q, %v; want %q", probe, out, err, want)
		}
	}
}
