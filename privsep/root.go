package privsep

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"example.org/imsg/internal/unixmsg"
)

// openRoot opens a directory that is to be a child's root. With strict, nobody but
// root can have a say in what it is or holds: not in one of the directories on
// the way to it either, nor in a symbolic link there. A directory such as /tmp,
// where everybody can write and remove what is theirs alone, may be on the way.
//
// Names that only root can change need no descriptors to be followed safely.
func openRoot(path string, strict bool) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("chroot %s: not an absolute name", path)
	}
	if !strict {
		return openDir(path)
	}
	dir, rest, links := "/", strings.Split(path, "/"), 0
	info, err := os.Lstat(dir)
	for err == nil {
		if err = onlyRoot(dir, info, info.Mode()&os.ModeSticky != 0); err != nil || len(rest) == 0 {
			break
		}
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(dir, name) // lexical, but dir has no links in it
		if info, err = os.Lstat(next); err != nil {
			break
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			var target string
			if target, err = os.Readlink(next); err == nil {
				err = onlyRoot(next, info, true)
			}
			if links++; links > 40 {
				err = &os.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
			}
			if rest = append(strings.Split(target, "/"), rest...); filepath.IsAbs(target) {
				dir = "/"
			}
			if err == nil {
				info, err = os.Lstat(dir)
			}
			continue
		}
		dir = next
	}
	if err == nil && info.IsDir() {
		err = onlyRoot(dir, info, false)
	}
	if err != nil {
		return nil, fmt.Errorf("chroot: %w", err)
	}
	return openDir(dir)
}

// onlyRoot reports whether only root can change what a name stands for, or what
// is in a directory.
func onlyRoot(name string, info os.FileInfo, writable bool) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		return fmt.Errorf("%s belongs to user %d: %w", name, st.Uid, fs.ErrPermission)
	}
	if !writable && info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others than root can write in %s, mode %v: %w", name, info.Mode(), fs.ErrPermission)
	}
	return nil
}

func openDir(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("chroot %s: %w", name, syscall.ENOTDIR)
	}
	if err != nil {
		return nil, fmt.Errorf("chroot: %w", err)
	}
	return f, nil
}

// emptyRoot returns an empty directory in which nobody can make anything: it has
// been removed already. Where none can be made, because all is read-only, there
// may be one, or a file system of its own.
func emptyRoot(name string) (*os.File, error) {
	places := []string{os.TempDir(), "/run", "/dev/shm", "/var/tmp"}
	if unixmsg.Secure() {
		places[0] = "/tmp"
	}
	var errs []error
	for _, place := range places {
		dir, err := os.MkdirTemp(place, name+"-")
		if err == nil {
			f, oerr := openDir(dir)
			if err = errors.Join(oerr, os.Remove(dir)); oerr == nil {
				if err = errors.Join(err, checkEmpty(f), f.Chmod(0o555)); err == nil {
					return f, nil
				}
				f.Close()
			}
		}
		errs = append(errs, err)
	}
	f, err := openRoot("/var/empty", true)
	if err == nil {
		if err = checkEmpty(f); err == nil {
			return f, nil
		}
		f.Close()
	}
	errs = append(errs, err)
	if f, err = detachedRoot(); err == nil {
		return f, nil
	}
	return nil, fmt.Errorf("no empty directory: %w", errors.Join(append(errs, err)...))
}

// checkEmpty reports whether a directory is this user's, and empty.
func checkEmpty(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d: %w", f.Name(), st.Uid, fs.ErrPermission)
	}
	if names, err := f.Readdirnames(1); len(names) > 0 || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not empty, or cannot be read: %q, %w", f.Name(), names, errors.Join(fs.ErrExist, err))
	}
	return nil
}
