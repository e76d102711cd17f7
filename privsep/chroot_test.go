package privsep

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/peer"
	"example.org/imsg/privsep/sandbox"
)

var rootsDaemon = register(Daemon{Name: "roots", User: "nobody", Roles: []Role{
	{Name: "jailed", Run: witness, Peers: []string{"empty"}},
	{Name: "empty", Run: witness, Chroot: EmptyDir},
	{Name: "owner", Run: witness, User: NoUser, Chroot: EmptyDir}, // still root
	{Name: "open", Run: witness, Chroot: NoChroot},
}})

var pathsDaemon = register(Daemon{Name: "paths", User: "nobody", Roles: []Role{{Name: "caged", Run: witness, Sandbox: sandbox.Policy{
	Promises: "stdio rpath", Paths: []sandbox.Path{{Name: "/sub", Perm: "r"}}}}}})

var openDaemon = register(Daemon{Name: "directories", Directories: true, Roles: []Role{{Name: "a", Run: witness}}})

func init() {
	acts["write"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		return nil, os.WriteFile(args[0], nil, 0o600)
	}
	acts["mkdir"] = func(_ *testimony, args []string, _ *os.File) (any, error) { return nil, os.Mkdir(args[0], 0o700) }
	// send sends what is at a path to a peer.
	acts["send"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		f, err := os.Open(args[1])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return nil, w.p.Peer(args[0]).Send(w.ctx, reqOwn, f)
	}
}

// refused says whether a witness could not do it because of want.
func refused(err error, want ...error) bool {
	var remote *peer.RemoteError
	if !errors.As(err, &remote) {
		return false
	}
	for _, w := range want {
		if strings.HasSuffix(remote.Text, w.Error()) {
			return true
		}
	}
	return false
}

// rootDir makes a directory that can be a root, with the files a and sub/b in it.
func rootDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "sub/b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("contents of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{dir, filepath.Join(dir, "sub"), filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestChroot: a child sees what is in its root, by the names that Path gives, and
// nothing else.
func TestChroot(t *testing.T) {
	dir := rootDir(t)
	r := up(t, rootsDaemon, func(d *Daemon) { d.Chroot = dir })
	jailed := r.Peer("jailed")
	root := ask[string](t, jailed, "path", "/")
	if isRoot() != (root == "/") || !isRoot() && root != dir {
		t.Fatalf("Path(/) is %q", root)
	}
	if names := ask[[]string](t, jailed, "list", root); len(names) != 2 {
		t.Errorf("there is %q in the root", names)
	}
	if got := ask[string](t, jailed, "open", ask[string](t, jailed, "path", "/sub/b")); got != "contents of sub/b" {
		t.Errorf("sub/b is %q", got)
	}
	if got := ask[string](t, r.Peer("open"), "open", filepath.Join(dir, "a")); got != "contents of a" {
		t.Errorf("without chroot: %q", got)
	}
	if s := r.status("open", 0); s.Chroot != "" || strings.Contains(strings.Join(s.Missing, ""), "chroot") {
		t.Errorf("without chroot: %v", s)
	}
	if !isRoot() {
		return
	}
	if s := r.status("jailed", 0); s.Chroot != dir {
		t.Errorf("status %v", s)
	}
	for _, name := range []string{dir, filepath.Join(dir, "a"), "/etc/passwd", "/proc/self/status", "/../../../etc/passwd", "../etc/passwd"} {
		if _, err := try[string](t.Context(), jailed, nil, "open", name); !refused(err, syscall.ENOENT) {
			t.Errorf("open %s: %v", name, err)
		}
	}
}

// TestChrootPaths: the paths of a sandbox are inside the root, whether there is one
// or not.
func TestChrootPaths(t *testing.T) {
	r := up(t, pathsDaemon, func(d *Daemon) { d.Chroot = rootDir(t) })
	caged := r.Peer("caged")
	if r.status("caged", 0).Sandbox.InForce()&sandbox.Landlock == 0 {
		t.Skip("needs a mechanism for paths")
	}
	if got := ask[string](t, caged, "open", ask[string](t, caged, "path", "/sub/b")); got != "contents of sub/b" {
		t.Errorf("sub/b is %q", got)
	}
	if _, err := try[string](t.Context(), caged, nil, "open", ask[string](t, caged, "path", "/a")); !refused(err, syscall.EACCES, syscall.EPERM) {
		t.Errorf("a, which is not among the paths: %v", err)
	}
}

// TestEmptyDir: nothing is in it, nothing can be put there, and nothing of it is
// left outside.
func TestEmptyDir(t *testing.T) {
	tmp := t.TempDir()
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	r := up(t, rootsDaemon)
	if names, err := os.ReadDir(tmp); err != nil || len(names) > 0 {
		t.Errorf("left outside when all run: %v %v", names, err)
	}
	if isRoot() {
		for _, role := range []string{"empty", "owner"} {
			q := r.Peer(role)
			if names, err := try[[]string](t.Context(), q, nil, "list", "/"); !refused(err, syscall.ENOENT) && (err != nil || len(names) > 0) {
				t.Errorf("%s: there is %q in the root, %v", role, names, err)
			}
			for _, do := range []string{"write", "mkdir"} {
				if _, err := try[any](t.Context(), q, nil, do, "/new"); !refused(err, syscall.ENOENT, syscall.EACCES) {
					t.Errorf("%s: %s: %v", role, do, err)
				}
			}
			if s := r.status(role, 0); s.Chroot != EmptyDir {
				t.Errorf("%s: status %v", role, s)
			}
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(tmp); err != nil || len(names) > 0 {
		t.Errorf("left outside at the end: %v %v", names, err)
	}
}

// TestNoDirectories: a directory is a way out of a root, and is not sent by
// parent, child or sibling, unless the daemon wants it.
func TestNoDirectories(t *testing.T) {
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() }) // after the daemon's end
	r := up(t, rootsDaemon)
	jailed := r.Peer("jailed")
	if err := jailed.Send(t.Context(), reqTell, dir); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("from the parent: %v", err)
	}
	for _, to := range []string{Parent, "empty"} {
		if _, err := try[any](t.Context(), jailed, nil, "send", to, "/"); !refused(err, syscall.EISDIR) {
			t.Errorf("from a child to %s: %v", to, err)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}

	sent := make(chan bool, 1)
	r = upWith(t, openDaemon, func(p *Proc) {
		p.Handle("a", peer.Rule{Type: reqOwn, File: peer.FileRequired, Handle: func(_ context.Context, in *peer.Incoming) error {
			sent <- in.HasFile()
			return nil
		}})
	})
	if err := r.Peer("a").Send(t.Context(), reqTell, dir, marshal(order{"hello", nil})); err != nil {
		t.Errorf("from the parent with Directories: %v", err)
	}
	ask[any](t, r.Peer("a"), "send", Parent, "/")
	if !<-sent {
		t.Error("from a child with Directories: no file")
	}
}
