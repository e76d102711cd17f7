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
	s   *slot
	gen uint32
}

// NewFrame makes a received message of a whole one that was queued as a
// Buffer, with a header of hdrSize bytes; ErrShort if it has fewer. It takes
// the buffer over if the error is nil.
func NewFrame(b *Buffer, hdrSize int) (Frame, error) {
	if len(b.buf) < hdrSize {
		return Frame{}, fmt.Errorf("ibuf: message of %d bytes with a header of %d: %w", len(b.buf), hdrSize, ErrShort)
	}
	s := &slot{c: new(chunk)}
	s.view.buf, s.view.pos = b.buf, hdrSize
	s.fd, s.file, s.lost = -1, b.TakeFile(), b.lost
	return Frame{s, 0}, nil
}

// open returns the message, or nil if it was closed.
func (f Frame) open() *slot {
	if f.s == nil || f.s.gen.Load() != f.gen {
		return nil
	}
	return f.s
}

// View returns the view that reads through the message: its position is
// shared by all copies of f. It begins behind the header; Rewind goes to the
// header. After Close it is empty.
func (f Frame) View() *View {
	if s := f.open(); s != nil {
		return &s.view
	}
	return new(View)
}

// Bytes returns the whole message, wherever its view stands. It aliases the
// message's memory.
func (f Frame) Bytes() []byte {
	if s := f.open(); s != nil {
		return s.view.buf
	}
	return nil
}

// HasFile reports whether a file came with the message and was not taken yet.
func (f Frame) HasFile() bool {
	s := f.open()
	return s != nil && (s.fd >= 0 || s.file != nil)
}

// FileLost reports whether the header promised a file that did not arrive.
func (f Frame) FileLost() bool {
	s := f.open()
	return s != nil && s.lost
}

// TakeFile moves the message's file to the caller, who must close it; nil if
// there is none. The file's blocking mode is what the sender made it.
func (f Frame) TakeFile() *os.File {
	s := f.open()
	if s == nil {
		return nil
	}
	file, fd := s.file, s.fd
	s.file, s.fd = nil, -1
	if file == nil && fd >= 0 {
		file = os.NewFile(uintptr(fd), "imsg")
	}
	return file
}

// TakeFD is TakeFile for a bare descriptor; -1 if there is none. A file that a
// Buffer brought along is duplicated, which can fail: that is -1 too.
func (f Frame) TakeFD() int {
	s := f.open()
	if s == nil {
		return -1
	}
	if s.file != nil {
		return dupClose(f.TakeFile())
	}
	fd := s.fd
	s.fd = -1
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
	return newReceived(s.view.buf, f.TakeFile(), func() { f.Close() })
}

// Detach turns the message into a full Buffer that has a copy of its bytes,
// header included, and owns its file; NewFrame is the way back. f is closed. It
// is nil after Close.
func (f Frame) Detach() *Buffer {
	s := f.open()
	if s == nil {
		return nil
	}
	b := New(len(s.view.buf))
	b.buf = append(b.buf, s.view.buf...)
	b.file, b.lost = f.TakeFile(), s.lost
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
	clear(s.view.buf)
	var err error
	if s.fd >= 0 {
		s.c.closeFile(s.fd)
		s.fd = -1
	}
	if s.file != nil {
		err = s.file.Close()
		s.file = nil
	}
	s.gen.Store(f.gen + 1) // the last thing: the memory is the Framer's again
	return err
}
