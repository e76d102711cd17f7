package stream

import (
	"encoding/binary"
	"os"
	"runtime"
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
// neighbours out of use. The descriptor of one that is dropped without Close
// is closed when its neighbours are gone too, and the collector has run.
type Frame struct {
	b     *block
	round uint32
	i     uint32 // of the slot in b
}

// NewFrame makes a received message of p, with a header of hdr bytes, that has
// its memory for itself. It owns file, which may be nil; lost says that one
// should have come with it.
func NewFrame(p []byte, hdr int, file *os.File, lost bool) Frame {
	c := &chunk{buf: p, file: file}
	c.round.Store(1)
	c.add(0, hdr, len(p))
	switch s := c.slot(0); {
	case file != nil:
		s.file = ownFile
	case lost:
		s.file = lostFile
	}
	c.finish()
	return c.take()
}

// Plus returns the n-th message behind f, one of its neighbours: see NextRun.
func (f Frame) Plus(n int) Frame { return Frame{f.b, f.round, f.i + uint32(n)} }

// MayHaveFile reports false if neither f nor any neighbour has a file.
func (f Frame) MayHaveFile() bool { return f.b != nil && (f.b.files != nil || f.b.c.file != nil) }

// open returns the message, or nil if it was closed.
func (f Frame) open() *slot {
	if f.b == nil {
		return nil
	}
	if f.b.state.Load()>>(f.i%slotBlock)&1 != 0 {
		return nil
	}
	if f.b.c.round.Load() != f.round {
		return nil
	}
	s := &f.b.slots[f.i%slotBlock]
	if s.closing {
		return nil
	}
	return s
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

// Word returns the 32 bits in host byte order that begin at byte i of the
// message, in its header; 0 if it was closed.
func (f Frame) Word(i uint32) (v uint32) {
	if s := f.open(); s != nil {
		v = binary.NativeEndian.Uint32(f.b.c.buf[s.beg+i:])
	}
	return
}

// HasFile reports whether a file came with the message and was not taken yet.
func (f Frame) HasFile() bool {
	s := f.open()
	return s != nil && s.file >= hasFile
}

// FileLost reports whether the header promised a file that did not arrive.
func (f Frame) FileLost() bool {
	s := f.open()
	return s != nil && s.file == lostFile
}

// Descriptor calls use with the descriptor of the message's file, which stays
// the message's and is open meanwhile, and reports whether there is one.
func (f Frame) Descriptor(use func(fd int)) bool {
	s := f.open()
	switch {
	case s == nil || s.file < hasFile:
		return false
	case s.file == ownFile:
		rc, err := f.b.c.file.SyscallConn()
		return err == nil && rc.Control(func(fd uintptr) { use(int(fd)) }) == nil
	}
	use(int(f.b.files.fd[f.i]))
	runtime.KeepAlive(f.b) // its cleanup would close the descriptor
	return true
}

// TakeFile moves the message's file to the caller, who must close it; nil if
// there is none. The file's blocking mode is what the sender made it.
func (f Frame) TakeFile() *os.File {
	if s := f.open(); s != nil && s.file == ownFile {
		s.file = noFile
		return f.b.c.file
	}
	if fd := f.TakeFD(); fd >= 0 {
		return os.NewFile(uintptr(fd), "imsg")
	}
	return nil
}

// TakeFD is TakeFile for a bare descriptor; -1 if there is none. A file that
// NewFrame brought along is duplicated, which can fail: that is -1 too.
func (f Frame) TakeFD() int {
	s := f.open()
	if s == nil || s.file < hasFile {
		return -1
	}
	if s.file == ownFile {
		return dupClose(f.TakeFile())
	}
	s.file = noFile
	fds := &f.b.files.fd
	fd := fds[f.i]
	fds[f.i] = -1
	runtime.KeepAlive(f.b) // its cleanup would close the descriptor
	return int(fd)
}

// dupClose turns an owned file into an owned descriptor.
func dupClose(file *os.File) int {
	defer file.Close()
	fd := -1
	rc, _ := file.SyscallConn() // of a file that is not nil
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

// Keep sets what Kept reports, until the message is closed.
func (f Frame) Keep() {
	if s := f.open(); s != nil {
		s.kept = true
	}
}

// Kept reports whether Keep was called.
func (f Frame) Kept() bool {
	s := f.open()
	return s != nil && s.kept
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
	if s.file >= hasFile {
		err = f.closeFile(s)
	}
	// The last thing: the memory is the Framer's again.
	f.b.release(1<<(f.i%slotBlock) - oneRef)
	return err
}

func (f Frame) closeFile(s *slot) error {
	if s.file == ownFile {
		return f.b.c.file.Close()
	}
	f.b.files.closeFile(f.TakeFD())
	return nil
}

// CloseRun closes f and the n-1 neighbours behind it, at the price of little
// more than one.
func (f Frame) CloseRun(n int) error {
	if f.b != nil && f.plain(n) {
		b := f.b
		clear(b.c.buf[b.slots[f.i].beg:b.slots[f.i+uint32(n)-1].end])
		b.release(runBits(f.i, n))
		return nil
	}
	var err error
	for i := range n {
		if cerr := f.Plus(i).Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// plain reports whether f and the n-1 neighbours behind it are open, have no
// files, and no Run is about to close one.
func (f Frame) plain(n int) bool {
	b := f.b
	if closed := uint64(1<<n-1) << f.i; b.state.Load()&closed != 0 || b.c.round.Load() != f.round {
		return false
	}
	for i := range b.slots[f.i:][:n] {
		if s := &b.slots[f.i:][i]; s.file >= hasFile || s.closing {
			return false
		}
	}
	return true
}

// runBits is what closing n messages from the i-th on adds to a block's state.
func runBits(i uint32, n int) uint64 { return (1<<n-1)<<i - uint64(n)*oneRef }

// A Run closes messages; neighbours, which came one behind the other, at the
// price of one. Flush must follow; until then they have no bytes any more, but
// their memory is not cleared and not used again. The zero Run is ready.
type Run struct {
	f        Frame  // the first that is not closed yet
	n        uint32 // how many there are
	beg, end uint32
}

// Close closes f, now or with Flush.
func (r *Run) Close(f Frame) error {
	s := f.open()
	if s == nil {
		return nil
	}
	if s.file >= hasFile {
		return f.Close()
	}
	if r.n == 0 || f.b != r.f.b || f.i != r.f.i+r.n || s.beg != r.end {
		r.Flush()
		r.f, r.beg = f, s.beg
	}
	s.closing = true // other copies of f are closed from here on
	r.n++
	r.end = s.end
	return nil
}

// Flush closes what Close has left.
func (r *Run) Flush() {
	if r.n == 0 {
		return
	}
	clear(r.f.b.c.buf[r.beg:r.end])
	r.f.b.release(runBits(r.f.i, int(r.n)))
	*r = Run{}
}
