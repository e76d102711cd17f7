package interop

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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
