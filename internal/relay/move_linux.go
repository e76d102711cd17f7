package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// A Move is a socket whose place is taken. Its methods must not be called by
// several goroutines at a time.
type Move struct {
	path   string
	note   *os.File
	l      *imsg.Listener
	theirs inode
	ours   inode
}

// An inode is the identity of a file, for as long as it exists.
type inode struct{ dev, ino uint64 }

// lookup returns the identity of the socket at path; the zero inode if there
// is nothing.
func lookup(path string) (inode, error) {
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case err == unix.ENOENT:
		return inode{}, nil
	case err != nil:
		return inode{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return inode{}, fmt.Errorf("%s is no socket", path)
	}
	return inode{uint64(st.Dev), st.Ino}, nil //nolint:unconvert // 32 bits on some
}

// Take takes the place of the socket at path, with its mode and owner, and puts
// right first what another relay has left there. cfg is the accepted Conns'. The
// error is a *BusyError if another relay stands there.
func Take(ctx context.Context, path string, cfg *imsg.Config) (*Move, error) {
	path, err := realPath(path)
	if err != nil {
		return nil, err
	}
	note, err := openNote(path, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	m := &Move{path: path, note: note}
	if _, err = putBack(path, note); err == nil {
		if err = m.take(ctx, cfg); err == nil {
			return m, nil
		}
		os.Remove(path + noteSuffix) // while it is locked
	}
	note.Close()
	return nil, err
}

func (m *Move) take(ctx context.Context, cfg *imsg.Config) error {
	var err error
	if m.theirs, err = lookup(m.path); err != nil {
		return err
	}
	if m.theirs == (inode{}) {
		return fmt.Errorf("%s: %w: start the daemon first", m.path, syscall.ENOENT)
	}
	if bound, err := unixmsg.Bound(m.path); !bound || err != nil {
		return cmpErr(err, fmt.Errorf("%s: nobody listens there: start the daemon first", m.path))
	}
	if there, err := lookup(m.path + movedSuffix); err != nil || there != (inode{}) {
		return cmpErr(err, fmt.Errorf("%s exists, and no note says why: look at it and remove it", m.path+movedSuffix))
	}
	if err := m.write(true, "imsgctl proxy --move, process %d, stands in the place of %s.\n"+
		"The daemon's socket is %s. If that process is gone, put it back with\n\n\timsgctl doctor --fix %s\n\ntheirs %d %d\n",
		os.Getpid(), m.path, m.Target(), m.path, m.theirs.dev, m.theirs.ino); err != nil {
		return err
	}
	if m.l, err = new(imsg.ListenConfig).Listen(ctx, m.Target(), cfg); err != nil {
		return err
	}
	m.l.SetUnlinkOnClose(false) // its name changes
	if m.ours, err = lookup(m.path + movedSuffix); err == nil {
		err = sameMode(m.path+movedSuffix, m.path)
	}
	if err == nil {
		err = m.write(false, "ours %d %d\n", m.ours.dev, m.ours.ino)
	}
	if err == nil {
		err = exchange(m.path)
	}
	if err == nil {
		if now, lerr := lookup(m.path + movedSuffix); lerr != nil || now != m.theirs {
			err = cmpErr(exchange(m.path), fmt.Errorf("%s: the daemon has just made its socket anew: try again", m.path))
		}
	}
	if err != nil {
		removeIf(m.path+movedSuffix, m.ours)
		m.l.Close()
	}
	return err
}

// Path returns the socket's path, without symbolic links.
func (m *Move) Path() string { return m.path }

// Target returns the path at which the daemon can be reached meanwhile.
func (m *Move) Target() string { return m.path + movedSuffix }

// Listener returns the Listener that stands in the place. GiveBack closes it.
func (m *Move) Listener() *imsg.Listener { return m.l }

// Lost returns nil while the place is ours and the daemon is there, and
// otherwise what has happened. It asks nobody: the daemon does not hear of it.
func (m *Move) Lost() error {
	if bound, err := unixmsg.Bound(m.Target()); err == nil && !bound {
		return fmt.Errorf("%s: the daemon has ended", m.path)
	}
	switch now, err := lookup(m.path); {
	case err != nil:
		return err
	case now != m.ours && now != (inode{}):
		return fmt.Errorf("%s: the daemon has made its socket anew", m.path)
	}
	return nil
}

// GiveBack gives the place back, with the mode and the owner that the socket in
// it has now, and closes the Listener. A daemon that has removed its socket, or
// has made it anew, is left alone.
func (m *Move) GiveBack() error {
	_, err := restore(m.path, m.theirs, m.ours)
	if err == nil {
		err = os.Remove(m.path + noteSuffix) // while it is locked
	}
	m.note.Close()
	m.l.Close()
	return err
}

// restore puts the daemon's socket back and says what it did.
func restore(path string, theirs, ours inode) (did string, err error) {
	moved := path + movedSuffix
	there, err := lookup(moved)
	if err != nil {
		return "", err
	}
	now, err := lookup(path)
	if err != nil {
		return "", err
	}
	alive, err := unixmsg.Bound(moved)
	if err != nil {
		return "", err
	}
	switch {
	case there == inode{}:
		return removed(path, "our own", removeIf(path, ours))
	case there == ours, there != theirs && now == theirs: // not moved yet
		return removed(moved, "our own", removeIf(moved, there))
	case there != theirs:
		return "", fmt.Errorf("%s is not what was put there: look at it and at %s%s, and remove both", moved, path, noteSuffix)
	case now == ours && now != inode{}:
		if err := sameMode(moved, path); err != nil {
			return "", err
		}
		if err := exchange(path); err != nil {
			return "", err
		}
		if got, err := lookup(moved); err != nil || got != ours { // the daemon was quicker
			return "left the daemon's new socket", errors.Join(err, exchange(path), removeIf(moved, theirs))
		}
		return "put the daemon's socket back at " + path, removeIf(moved, ours)
	case now == inode{} && alive:
		err := unix.Renameat2(unix.AT_FDCWD, moved, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		return "put the daemon's socket back at " + path, os.NewSyscallError("renameat2", err)
	case alive:
		return "", fmt.Errorf("%s was made anew, while the daemon's first socket, %s, is still in use", path, moved)
	}
	return removed(moved, "the ended daemon's", removeIf(moved, theirs))
}

func removed(path, whose string, err error) (string, error) {
	return fmt.Sprintf("removed %s socket, %s", whose, path), err
}

// removeIf removes the socket at path if it is want.
func removeIf(path string, want inode) error {
	if now, err := lookup(path); err != nil || now != want || want == (inode{}) {
		return err
	}
	return os.Remove(path)
}

// sameMode gives the socket to the mode and owner of the socket from, under
// whose name the daemon may have changed them. It follows no symbolic link: the
// folder can be another user's.
func sameMode(to, from string) error {
	var want, have unix.Stat_t
	if err := unix.Lstat(from, &want); err != nil {
		return &fs.PathError{Op: "stat", Path: from, Err: err}
	}
	fd, err := unix.Open(to, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: to, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &have); err != nil {
		return &fs.PathError{Op: "stat", Path: to, Err: err}
	}
	if (want.Mode|have.Mode)&unix.S_IFMT != unix.S_IFSOCK || have.Nlink != 1 {
		return fmt.Errorf("%s and %s are not both sockets with one name", from, to)
	}
	if want.Uid != have.Uid || want.Gid != have.Gid {
		if err := unix.Fchownat(fd, "", int(want.Uid), int(want.Gid), unix.AT_EMPTY_PATH); err != nil {
			return &fs.PathError{Op: "chown", Path: to, Err: err}
		}
	}
	if want.Mode != have.Mode {
		return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), fs.FileMode(want.Mode).Perm())
	}
	return nil
}

// exchange exchanges the two names.
func exchange(path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, path+movedSuffix, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		return ErrMoveUnsupported
	}
	return os.NewSyscallError("renameat2", err)
}

// realPath returns the path of a socket without symbolic links.
func realPath(path string) (string, error) {
	if strings.HasPrefix(path, "@") {
		return "", fmt.Errorf("%s: an abstract name cannot be moved", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, filepath.Base(path))
	if real, err := filepath.EvalSymlinks(path); err == nil { // or it is not there for now
		return real, nil
	}
	return path, nil
}

// openNote opens and locks the note of the socket at path. Without os.O_CREATE
// in flags, the error matches fs.ErrNotExist if there is none.
func openNote(path string, flags int) (*os.File, error) {
	name := path + noteSuffix
	for tries := 0; ; tries++ {
		f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW|flags, 0o600)
		if err != nil {
			return nil, err
		}
		raw, err := f.SyscallConn()
		if err == nil {
			raw.Control(func(fd uintptr) { err = unixmsg.LockFile(int(fd)) })
		}
		if err == nil {
			have, _ := f.Stat()
			if there, _ := os.Lstat(name); os.SameFile(have, there) {
				return f, nil
			}
			f.Close() // its owner has just removed it
			continue
		}
		if err == syscall.EAGAIN && tries < 20 { // maybe somebody only looks
			f.Close()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err == syscall.EAGAIN {
			err = &BusyError{&Leftover{Path: path, Moved: path + movedSuffix, Note: name, PID: notePID(f), Alive: true}}
		}
		f.Close()
		return nil, err
	}
}

// write writes to the note, which lasts.
func (m *Move) write(first bool, format string, args ...any) error {
	if first {
		if err := m.note.Truncate(0); err != nil {
			return err
		}
		if _, err := m.note.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(m.note, format, args...); err != nil {
		return err
	}
	return m.note.Sync()
}

// maxNote is more than a note has.
const maxNote = 64 << 10

func readNote(f *os.File) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(f, 0, maxNote))
}

func notePID(f *os.File) (pid int) {
	text, _ := readNote(f)
	fmt.Sscanf(string(text), "imsgctl proxy --move, process %d,", &pid)
	return pid
}

// putBack puts right what the note says, and reports what it did, if anything.
func putBack(path string, note *os.File) (did string, err error) {
	text, err := readNote(note)
	if err != nil || len(text) == 0 { // killed before anything was done
		return "", err
	}
	var theirs, ours inode
	for line := range bytes.Lines(text) {
		fmt.Sscanf(string(line), "theirs %d %d", &theirs.dev, &theirs.ino)
		fmt.Sscanf(string(line), "ours %d %d", &ours.dev, &ours.ino)
	}
	if theirs == (inode{}) {
		return "", nil
	}
	if bound, err := unixmsg.Bound(path); err == nil && bound {
		ours = inode{} // whoever made it: it is not ours, which is closed
	}
	return restore(path, theirs, ours)
}

// FindLeftover returns what a relay has left at the socket path, or nil.
func FindLeftover(path string) (*Leftover, error) {
	path, err := realPath(path)
	if err != nil {
		return nil, nil //nolint:nilerr // there is nothing
	}
	f, err := openNote(path, 0)
	var busy *BusyError
	switch {
	case errors.As(err, &busy):
		return busy.Leftover, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	return &Leftover{Path: path, Moved: path + movedSuffix, Note: path + noteSuffix, PID: notePID(f)}, nil
}

// PutBack puts right what a relay that is gone has left at the socket path, and
// says what it did.
func PutBack(path string) (did string, err error) {
	path, err = realPath(path)
	if err != nil {
		return "", err
	}
	f, err := openNote(path, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if did, err = putBack(path, f); err == nil {
		err = os.Remove(path + noteSuffix)
	}
	return did, err
}

// cmpErr returns the first of two errors that is not nil.
func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
