package stream

import (
	"os"
	"syscall"
)

// A Frame is a handle on one received message: the whole of it, header
// included, and the file that came with it. It is a small value; copies are
// handles on the same message. The message lives until one of them is closed.
// Its memory is then used again, and every other copy is closed too: it has no
// bytes, no file, and closing it does nothing.
//
// A message must not be used by several goroutines at a time; different
// messages may. A Frame that stays open keeps the memory it shares with its
// neighbours out of use.
type Frame struct {
	b     *block
	round uint32
	i     uint32 // of the slot in b
}

// NewFrame makes a received message of p, with a header of hdr bytes, that has
// its memory for itself. It owns file, which may be nil; lost says that one
// should have come with it.
func NewFrame(p []byte, hdr int, file *os.File, lost bool) Frame {
	c := &chunk{buf: p, round: 1, file: file}
	fd := noFile
	switch {
	case file != nil:
		fd = ownFile
	case lost:
		fd = lostFile
	}
	c.add(0, hdr, len(p), fd)
	return c.take()
}

// open returns the message, or nil if it was closed.
func (f Frame) open() *slot {
	if f.b == nil {
		return nil
	}
	if s := &f.b.slots[f.i]; s.closed.Load() < f.round {
		return s
	}
	return nil
}

// Pos returns the read position, which all copies of f share: behind the header
// at first.
func (f Frame) Pos() int {
	if s := f.open(); s != nil {
		return int(s.pos - s.beg)
	}
	return 0
}

// Skip moves the read position n bytes on, which must be there.
func (f Frame) Skip(n int) {
	if s := f.open(); s != nil {
		s.pos += uint32(n)
	}
}

// Bytes returns the whole message, wherever its read position is. It aliases
// the message's memory.
func (f Frame) Bytes() []byte {
	if s := f.open(); s != nil {
		return f.b.c.buf[s.beg:s.end:s.end]
	}
	return nil
}

// HasFile reports whether a file came with the message and was not taken yet.
func (f Frame) HasFile() bool {
	s := f.open()
	return s != nil && (s.fd >= 0 || s.fd == ownFile)
}

// FileLost reports whether the header promised a file that did not arrive.
func (f Frame) FileLost() bool {
	s := f.open()
	return s != nil && s.fd == lostFile
}

// TakeFile moves the message's file to the caller, who must close it; nil if
// there is none. The file's blocking mode is what the sender made it.
func (f Frame) TakeFile() *os.File {
	s := f.open()
	if s == nil {
		return nil
	}
	fd := s.fd
	switch {
	case fd == ownFile:
		s.fd = noFile
		return f.b.c.file
	case fd >= 0:
		s.fd = noFile
		return os.NewFile(uintptr(fd), "imsg")
	}
	return nil
}

// TakeFD is TakeFile for a bare descriptor; -1 if there is none. A file that a
// NewFrame brought along is duplicated, which can fail: that is -1 too.
func (f Frame) TakeFD() int {
	s := f.open()
	if s == nil {
		return -1
	}
	if s.fd == ownFile {
		return dupClose(f.TakeFile())
	}
	if s.fd < 0 {
		return -1
	}
	fd := int(s.fd)
	s.fd = noFile
	return fd
}

// dupClose turns an owned file into an owned descriptor.
func dupClose(file *os.File) int {
	defer file.Close()
	rc, err := file.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	rc.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if n, err := syscall.Dup(int(old)); err == nil {
			syscall.CloseOnExec(n)
			fd = n
		}
	})
	return fd
}

// Close gives the message up: its bytes are cleared (secrets travel here) and
// a file that was not taken is closed. Closing twice does nothing.
func (f Frame) Close() error {
	s := f.open()
	if s == nil {
		return nil
	}
	c := f.b.c
	clear(c.buf[s.beg:s.end])
	var err error
	if s.fd != noFile {
		err = c.drop(s.fd)
	}
	s.closed.Store(f.round) // the last thing: the memory is the Framer's again
	return err
}
