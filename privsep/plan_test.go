package privsep

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestBadDeclaration: what is declared wrongly is found before anything is
// started, and named.
func TestBadDeclaration(t *testing.T) {
	two := &Daemon{Name: "never", Roles: []Role{{Name: "a", Run: witness}, {Name: "b", Run: witness}}}
	for name, c := range map[string]struct {
		change func(*Daemon)
		want   string
	}{
		"no name":          {func(d *Daemon) { d.Name = "" }, "name"},
		"slash in name":    {func(d *Daemon) { d.Name = "a/b" }, `"a/b"`},
		"no roles":         {func(d *Daemon) { d.Roles = nil }, "without roles"},
		"parent's promise": {func(d *Daemon) { d.ParentSandbox.Promises = "stdio flying" }, "flying"},
	} {
		if err := fails(t, two, c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	var unknownUser user.UnknownUserError
	var unknownGroup user.UnknownGroupError
	for name, c := range map[string]struct {
		change func(*Role)
		want   string
		as     any
	}{
		"no name":       {func(r *Role) { r.Name = "" }, `""`, nil},
		"parent's name": {func(r *Role) { r.Name = Parent }, `"parent"`, nil},
		"slash":         {func(r *Role) { r.Name = "a/b" }, `"a/b"`, nil},
		"twice":         {func(r *Role) { r.Name = "a" }, "two roles", nil},
		"no Run":        {func(r *Role) { r.Run = nil }, "no Run", nil},
		"exit policy":   {func(r *Role) { r.OnExit = Ignore + 1 }, "exit policy 3", nil},
		"unknown peer":  {func(r *Role) { r.Peers = []string{"a", "ghost"} }, `"ghost"`, nil},
		"own peer":      {func(r *Role) { r.Peers = []string{"b"} }, `"b"`, nil},
		"parent a peer": {func(r *Role) { r.Peers = []string{Parent} }, `"parent"`, nil},
		"promise":       {func(r *Role) { r.Sandbox.Promises = "stdio flying" }, "flying", nil},
		"user":          {func(r *Role) { r.User = "privsep-no-such-user" }, "privsep-no-such-user", &unknownUser},
		"group":         {func(r *Role) { r.Group = "privsep-no-such-group" }, "privsep-no-such-group", &unknownGroup},
	} {
		err := fails(t, two, func(d *Daemon) { c.change(&d.Roles[1]) })
		var child *ChildError
		if !errors.As(err, &child) || child.Step != "plan" || !strings.Contains(child.Err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		} else if c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s: error %#v", name, child.Err)
		}
	}
}

// TestBadRoot: who can write in a root decides what is in it, so it must be root
// and nobody else; but an ordinary user need not be.
func TestBadRoot(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"good": 0o755, "group": 0o775, "others": 0o757, "sticky": 0o777 | os.ModeSticky, "foreign": 0o755} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if isRoot() {
		if err := os.Chown(at("foreign"), 65534, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		want error
		root bool // an error for root only
	}{
		{"good", nil, false},
		{"missing", fs.ErrNotExist, false},
		{"file", syscall.ENOTDIR, false},
		{"group", fs.ErrPermission, true},
		{"others", fs.ErrPermission, true},
		{"sticky", fs.ErrPermission, true},
		{"foreign", fs.ErrPermission, true},
	} {
		stop := errors.New("it could be started")
		err := fails(t, pairDaemon, func(d *Daemon) {
			d.Roles[1].Chroot = at(c.name)
			d.Parent = func(context.Context, *Proc) error { return stop }
		})
		want := c.want
		if want == nil || c.root && !isRoot() {
			want = stop
		}
		var child *ChildError
		if !errors.Is(err, want) || want != stop && (!errors.As(err, &child) || child.Role != "b" || child.Step != "plan" || !strings.Contains(err.Error(), at(c.name))) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}
