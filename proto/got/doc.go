// Package got uses the helper programs of got, the version control system, which
// parse git's files without any rights of their own: got-read-blob, -commit,
// -tree, -tag and -gitconfig of 0.111 (2025) to 0.126 (2026), in the current
// dialect. They get open files and no more, so that a program can look into
// repositories that it does not trust. Objects must be loose, not in packs.
//
//	h := &got.Helpers{Dir: "/usr/libexec"}
//	blobs, err := h.Blobs(ctx)
//	...
//	defer blobs.Close()
//	n, err := blobs.Copy(ctx, os.Stdout, ".git", id)
//
// What a helper finds wrong is a *HelperError; after any error it has ended, or
// cannot be used any more.
package got
