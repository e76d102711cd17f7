package testutil

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/test/wireref"
	"golang.org/x/sys/unix"
)

// A File is one that a test passes around: the write end of a pipe. Its inode
// number tells which one a descriptor is, and the read end, which stays here,
// whether any copy is open anywhere.
type File struct {
	wireref.File
	Inode uint64
	r     int
}

// Files is the ledger of a test's files that are not known to be closed.
type Files struct {
	Live []*File
	Made int
	poll []unix.PollFd // of Live, in the same order
}

// Create returns a new file and the only descriptor of it, the caller's.
func (fs *Files) Create() (f *File, w int, err error) {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return nil, -1, err
	}
	for _, fd := range p {
		unix.CloseOnExec(fd)
	}
	f = fs.Watch(p[0])
	f.Inode, err = Inode(p[1])
	return f, p[1], err
}

// Watch enters something else in the ledger: a descriptor that hangs up when
// nobody has the other end any more. It is the ledger's from here on.
func (fs *Files) Watch(r int) *File {
	f := &File{File: wireref.File{ID: fs.Made, Refs: 1}, r: r}
	fs.Made++
	fs.Live = append(fs.Live, f)
	fs.poll = append(fs.poll, unix.PollFd{Fd: int32(r)})
	return f
}

// Check waits for so many milliseconds, at most, until a file is closed, calls
// seen for each one, and forgets those that are closed.
func (fs *Files) Check(timeout int, seen func(f *File, closed bool)) error {
	if len(fs.Live) == 0 {
		return nil
	}
	if _, err := unix.Poll(fs.poll, timeout); err == unix.EINTR {
		return fs.Check(0, seen)
	} else if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	for i, v := range slices.Backward(fs.Live) {
		f, closed := v, fs.poll[i].Revents&unix.POLLHUP != 0
		if closed {
			fs.forget(i)
		}
		seen(f, closed)
	}
	return nil
}

func (fs *Files) forget(i int) {
	unix.Close(fs.Live[i].r)
	fs.Live, fs.poll = slices.Delete(fs.Live, i, i+1), slices.Delete(fs.poll, i, i+1)
}

// Find returns the file that fd is a copy of.
func (fs *Files) Find(fd int) (*File, error) {
	inode, err := Inode(fd)
	if err != nil {
		return nil, err
	}
	for _, f := range fs.Live {
		if f.Inode == inode {
			return f, nil
		}
	}
	return nil, fmt.Errorf("descriptor %d is none of the files", fd)
}

// Close gives up the ledger.
func (fs *Files) Close() {
	for len(fs.Live) > 0 {
		fs.forget(len(fs.Live) - 1)
	}
}

// Open reports whether a copy of the file is open anywhere.
func (f *File) Open() bool {
	p := []unix.PollFd{{Fd: int32(f.r)}}
	for {
		if _, err := unix.Poll(p, 0); err != unix.EINTR {
			return p[0].Revents&unix.POLLHUP == 0
		}
	}
}

// Inode returns the number of the file that fd refers to.
func Inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat %d: %w", fd, err)
	}
	return uint64(st.Ino), nil
}

// A Probe is one file of a test, which holds the copy W, and closes it and the
// ledger when it ends.
type Probe struct {
	*File
	T testing.TB
	W *os.File
}

// NewProbe returns a probe whose W waits in the runtime's poller.
func NewProbe(t testing.TB) *Probe {
	t.Helper()
	var fs Files
	f, w, err := fs.Create()
	if err == nil {
		err = unix.SetNonblock(w, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &Probe{f, t, os.NewFile(uintptr(w), "probe")}
	t.Cleanup(func() {
		p.W.Close()
		fs.Close()
	})
	return p
}

// Fd is W's descriptor for a raw send; nothing else may use W meanwhile.
func (p *Probe) Fd() (fd int) {
	rc, err := p.W.SyscallConn()
	if err == nil {
		err = rc.Control(func(f uintptr) { fd = int(f) })
	}
	if err != nil {
		p.T.Fatal(err)
	}
	return fd
}

// Closed reports whether no copy is open anywhere.
func (p *Probe) Closed() bool { return !p.Open() }

// FDs are what to write with a message that has the file or not.
func (p *Probe) FDs(with bool) []int {
	if !with {
		return nil
	}
	return []int{p.Fd()}
}

// Pass writes a message with a new file, of which no copy stays here.
func Pass(t testing.TB, s *imsgtest.Socket, msg []byte) *Probe {
	t.Helper()
	p := NewProbe(t)
	s.Write(msg, p.Fd())
	p.W.Close()
	return p
}

// WantClosed fails the test if a copy of the files is open anywhere.
func WantClosed(t testing.TB, what string, ps ...*Probe) {
	t.Helper()
	for i, p := range ps {
		if !p.Closed() {
			t.Errorf("%s: file %d of %d is open", what, i+1, len(ps))
		}
	}
}

// WantOpen fails the test unless f, which was only lent, can still be used.
func WantOpen(t testing.TB, what string, f *os.File) {
	t.Helper()
	if _, err := f.Stat(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// Works reports whether f is a copy, and can be written to.
func (p *Probe) Works(f *os.File) error {
	if f == nil {
		return errors.New("no file")
	}
	if _, err := f.Write([]byte("!")); err != nil {
		return err
	}
	b := make([]byte, 2)
	if n, err := unix.Read(p.r, b); err != nil || string(b[:n]) != "!" {
		return fmt.Errorf("read %q, %v", b[:max(n, 0)], err)
	}
	return nil
}

// WantIn fails the test unless m has a copy that works, and closes both.
func (p *Probe) WantIn(m imsg.Message) {
	p.T.Helper()
	f := m.TakeFile()
	if err := errors.Join(p.Works(f), m.FileErr()); err != nil {
		p.T.Errorf("the file of the message of type %d: %v", m.Type(), err)
	}
	f.Close()
	m.Close()
}

// OpenCount counts this process's descriptors below 256: more than a test needs
// that counts often.
func OpenCount() (n int) {
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
