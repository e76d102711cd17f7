package ibuf

import (
	"fmt"
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

// NewFrame makes a received message of a whole one that was queued as a
// Buffer, with a header of hdrSize bytes; ErrShort if it has fewer. It takes
// the buffer over if the error is nil.
func NewFrame(b *Buffer, hdrSize int) (Frame, error) {
	if len(b.buf) < hdrSize {
		return Frame{}, fmt.Errorf("ibuf: message of %d bytes with a header of %d: %w", len(b.buf), hdrSize, ErrShort)
	}
	c := &chunk{buf: b.buf, round: 1, file: b.TakeFile()}
	fd := noFile
	switch {
	case c.file != nil:
		fd = ownFile
	case b.lost:
		fd = lostFile
	}
	c.add(0, hdrSize, len(b.buf), fd)
	return c.take(), nil
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

// View returns a View of the message that begins at its read position, which
// all copies of f share: behind the header at first. Rewind goes to the
// header. It is valid until Close; after that it is empty.
func (f Frame) View() View {
	s := f.open()
	if s == nil {
		return View{}
	}
	return View{reader{f.b.c.buf[s.beg:s.end:s.end], int(s.pos - s.beg)}}
}

// Skip moves the read position n bytes on; ErrShort, and nothing changes, if
// fewer are left. It corresponds to ibuf_skip.
func (f Frame) Skip(n int) error {
	v := f.View()
	if err := v.Skip(n); err != nil || n == 0 {
		return err
	}
	f.b.slots[f.i].pos += uint32(n)
	return nil
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
// Buffer brought along is duplicated, which can fail: that is -1 too.
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

// Buffer turns the message into a full Buffer, header included, that aliases
// its memory and owns its file. Close the Buffer instead of f. It is nil after
// Close.
func (f Frame) Buffer() *Buffer {
	s := f.open()
	if s == nil {
		return nil
	}
	return newReceived(f.Bytes(), f.TakeFile(), func() { f.Close() })
}

// Detach turns the message into a full Buffer that has a copy of its bytes,
// header included, and owns its file; NewFrame is the way back. f is closed. It
// is nil after Close.
func (f Frame) Detach() *Buffer {
	s := f.open()
	if s == nil {
		return nil
	}
	b := New(int(s.end - s.beg))
	b.buf = append(b.buf, f.Bytes()...)
	b.file, b.lost = f.TakeFile(), s.fd == lostFile
	f.Close()
	return b
}

// Close gives the message up: its bytes are cleared (secrets travel here) and
// a file that was not taken is closed. Closing twice does nothing. It
// corresponds to imsg_free.
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
