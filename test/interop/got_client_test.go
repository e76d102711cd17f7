package interop

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/got"
)

// gotHelpers calls test with the helpers of each version of got.
func gotHelpers(t *testing.T, test func(t *testing.T, h *got.Helpers)) {
	for name, env := range map[string]string{"trixie": "IMSG_GOT", "forky": "IMSG_GOT_NEWEST"} { // 0.111, 0.126
		t.Run(name, func(t *testing.T) {
			test(t, &got.Helpers{Command: func(ctx context.Context, helper string) *exec.Cmd {
				argv := append(unpacked(t, env, "usr/libexec/"+helper), "interop")
				return exec.CommandContext(ctx, argv[0], argv[1:]...)
			}})
		})
	}
}

// Blobs of every kind of size, in a message and through a file.
func TestGotClientBlobs(t *testing.T) {
	gotHelpers(t, func(t *testing.T, h *got.Helpers) {
		ctx := bounded(t)
		blobs, err := h.Blobs(ctx)
		testutil.Must(t, err)
		dir := t.TempDir()
		for _, n := range []int{0, 1, 16000, 16341, 16342, 20000, 300000} {
			b := newBlob(t, dir, n)
			id := got.ID(sha1.Sum(b.raw))
			to := filepath.Join(dir, "objects", id.String()[:2])
			testutil.Must(t, os.MkdirAll(to, 0o700))
			testutil.Must(t, os.Rename(b.path, filepath.Join(to, id.String()[2:])))
			var out bytes.Buffer
			if m, err := blobs.Copy(ctx, &out, dir, id); err != nil || m != int64(n) || !bytes.Equal(out.Bytes(), b.raw[len(b.raw)-n:]) {
				t.Errorf("a blob of %d bytes: %d, %v", n, m, err)
			}
		}
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
		// A file that is no object.
		blobs, err = h.Blobs(ctx)
		testutil.Must(t, err)
		f, err := os.Open(os.DevNull)
		testutil.Must(t, err)
		defer f.Close()
		_, err = blobs.Read(ctx, got.ID{}, f, f)
		if e := (*got.HelperError)(nil); !errors.As(err, &e) {
			t.Errorf("an empty object: %v", err)
		}
		blobs.Close()
	})
}

func TestGotClientConfig(t *testing.T) {
	gotHelpers(t, func(t *testing.T, h *got.Helpers) {
		path := filepath.Join(t.TempDir(), "config")
		for text, want := range map[string]got.Config{
			"[core]\n\trepositoryformatversion = 0\n[user]\n\tname = Inter Op\n\temail = io@example.org\n": {Name: "Inter Op", Email: "io@example.org"},
			"[core]\n\trepositoryformatversion = 1\n":                                                      {FormatVersion: 1},
		} {
			testutil.Must(t, os.WriteFile(path, []byte(text), 0o600))
			f, err := os.Open(path)
			testutil.Must(t, err)
			if c, err := h.Config(bounded(t), f); err != nil || c != want {
				t.Errorf("%+v, %v, want %+v", c, err, want)
			}
			f.Close()
		}
	})
}

// git runs git in dir, and returns what it prints.
func git(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), "git", args...)
	cmd.Dir, cmd.Stdin, cmd.Env = dir, strings.NewReader(stdin), []string{"PATH=/usr/bin:/bin", "HOME=" + dir}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %q: %v: %s", args, err, &stderr)
	}
	return string(out)
}

// Commits, trees and tags are what git cat-file prints.
func TestGotClientObjects(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		missing(t, "no git")
	}
	dir := t.TempDir()
	git(t, dir, "", "init", "-q")
	object := func(stdin string, args ...string) string { return strings.TrimSpace(git(t, dir, stdin, args...)) }
	blob := object("text", "hash-object", "-w", "--stdin")
	var many strings.Builder
	for i := range 1000 { // more than a message has room for
		fmt.Fprintf(&many, "100644 blob %s\tfile %d %s\n", blob, i, strings.Repeat("x", i%200))
	}
	empty := object("", "mktree")
	mixed := object(fmt.Sprintf("100755 blob %s\tprogram\n120000 blob %[1]s\tlink\n040000 tree %s\tdir\n160000 commit %[3]s\tmodule\n", blob, empty, strings.Repeat("12", 20)),
		"mktree", "--missing")
	trees := []string{empty, mixed, object(many.String(), "mktree")}
	var commits, tags []string
	const people = "author Inter \xff Op <io@example.org> 1700000000 +0530\ncommitter <> 0 -0330\n"
	for _, text := range []string{
		people + "\nthe first\n",
		"parent %[1]s\n" + people + "\n",
		"parent %[1]s\n" + people + "encoding latin1\ngpgsig -----BEGIN\n \n -----END\n\nsigned\n",
		"parent %[1]s\nparent %[2]s\nparent %[1]s\n" + people + "\n" + strings.Repeat("a long text\n", 5000),
	} {
		for i := range commits {
			text = strings.ReplaceAll(text, fmt.Sprintf("%%[%d]s", i+1), commits[i])
		}
		commits = append(commits, object("tree "+mixed+"\n"+text, "hash-object", "-t", "commit", "-w", "--stdin"))
	}
	for i, of := range []string{"commit " + commits[0], "tree " + mixed, "blob " + blob, "tag %s"} {
		id, kind, text := strings.Fields(of)[1], strings.Fields(of)[0], strings.Repeat("a text\n", 1+i*3000)
		if kind == "tag" {
			id = tags[0]
		}
		tags = append(tags, object(fmt.Sprintf("object %s\ntype %s\ntag number %d\ntagger Inter Op <io@example.org> 1234567890 -1200\n%s\n%s", id, kind, i, strings.Repeat("more x\n", i&1), text),
			"hash-object", "-t", "tag", "-w", "--stdin", "--literally"))
	}
	gotHelpers(t, func(t *testing.T, h *got.Helpers) {
		c, err1 := h.Commits(bounded(t))
		sameAsGit(t, dir, commits, c, err1, commitText)
		r, err2 := h.Trees(bounded(t))
		sameAsGit(t, dir, trees, r, err2, treeText)
		g, err3 := h.Tags(bounded(t))
		sameAsGit(t, dir, tags, g, err3, tagText)
	})
}

func sameAsGit[T any](t *testing.T, dir string, ids []string, r *got.Reader[T], err error, text func(T) string) {
	t.Helper()
	testutil.Must(t, err)
	for _, s := range ids {
		id, err := got.ParseID(s)
		testutil.Must(t, err)
		f, err := got.OpenLoose(filepath.Join(dir, ".git"), id)
		testutil.Must(t, err)
		v, err := r.Read(bounded(t), id, f)
		if want := git(t, dir, "", "cat-file", "-p", s); err != nil || text(v) != want {
			t.Errorf("%s: %v\n%.500q\ngit says\n%.500q", s, err, text(v), want)
		}
		f.Close()
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func commitText(c got.Commit) string {
	s := "tree " + c.Tree.String() + "\n"
	for _, id := range c.Parents {
		s += "parent " + id.String() + "\n"
	}
	return s + "author " + personText(c.Author) + "committer " + personText(c.Committer) + lines(c.Headers) + "\n" + c.Message
}

func personText(p got.Person) string {
	return fmt.Sprintf("%s %d %s\n", p.Name, p.Time.Unix(), p.Time.Format("-0700"))
}

func treeText(entries []got.TreeEntry) (s string) {
	for _, e := range entries {
		kind := map[uint32]string{0o040000: "tree", 0o160000: "commit"}[e.Mode]
		if kind == "" {
			kind = "blob"
		}
		s += fmt.Sprintf("%06o %s %s\t%s\n", e.Mode, kind, e.ID, e.Name)
	}
	return s
}

func tagText(g got.Tag) string {
	return fmt.Sprintf("object %s\ntype %s\ntag %s\ntagger %s%s\n%s", g.Object, g.Type, g.Name, personText(g.Tagger), lines(g.Headers), g.Message)
}

// lines ends the last of the lines in s, if there is one.
func lines(s string) string {
	if s != "" {
		s += "\n"
	}
	return s
}
