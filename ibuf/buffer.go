package ibuf

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// minGrow is the least capacity a growing buffer gets, so that a few small
// adds do not each move it.
const minGrow = 64

// Buffer is a piece of memory that is written at its end and read from its
// start, and may carry one file. It never holds more than its maximum. A
// method that fails leaves it as it was.
//
// A Buffer owns its memory and its file until Close. Bytes, Slice, View,
// GetView and Reserve alias the memory: what they return is valid until the
// buffer is closed or appended to. Input slices are copied. The zero Buffer is
// empty with a maximum of 0, like a closed one. A Buffer that was given to a
// queue is the queue's: to give it away again, to close it or to let it grow is
// ErrInvalid. A Buffer must not be copied; one goroutine at a time may use it.
type Buffer struct {
	reader           // cap(buf) <= max, so whatever fits buf is allowed
	max     int      // limit of the bytes in use, read ones included
	file    *os.File // owned; nil if none
	next    *Buffer  // the Queue's link
	queued  bool     // in a Queue, where the last buffer has no next, or a MsgBuf
	open    bool     // made by a constructor, and not closed
	release func()   // gives back memory that is not ours; nil if it is
}

// New returns an empty buffer of exactly n bytes that never grows. Like make
// it panics if n is negative.
// It corresponds to ibuf_open.
func New(n int) *Buffer {
	return &Buffer{reader: reader{buf: make([]byte, 0, n)}, max: n, open: true}
}

// maxDynamic bounds how far a buffer grows, whatever its maximum: a message
// cannot be longer, and the runtime ends a program that asks for too much.
const maxDynamic = math.MaxInt32

// NewDynamic returns an empty buffer with room for n bytes that grows to at
// most max bytes, and never over 2147483647. The caller must be willing to see
// so many bytes allocated. If max is not positive, n is negative or n is over
// max, the error is ErrInvalid; an n that is too large otherwise is ErrTooLarge.
// It corresponds to ibuf_dynamic.
func NewDynamic(n, max int) (*Buffer, error) {
	if max <= 0 || n < 0 || n > max {
		return nil, fmt.Errorf("ibuf: new buffer of %d, maximum %d: %w", n, max, ErrInvalid)
	}
	b := &Buffer{max: max, open: true}
	if n > maxDynamic {
		return nil, b.tooLarge(n)
	}
	if n > 0 {
		b.buf = make([]byte, 0, n)
	}
	return b, nil
}

// newReceived returns a full buffer over p, which it does not own: Close calls
// release once, which must clear p, and does not touch p itself. The buffer
// owns file, which may be nil.
func newReceived(p []byte, file *os.File, release func()) *Buffer {
	return &Buffer{
		reader:  reader{buf: slices.Clip(p)},
		max:     len(p),
		open:    true,
		file:    file,
		release: release,
	}
}

// Close clears the memory, since secrets travel here, gives it up and closes
// the file if there is one, which is where an error can come from. Afterwards
// the buffer is empty and its maximum is 0. Closing nil or a closed buffer
// does nothing and returns nil; closing one that belongs to a queue does
// nothing and is ErrInvalid.
// It corresponds to ibuf_free.
func (b *Buffer) Close() error {
	if b == nil {
		return nil
	}
	if b.queued {
		return errQueued
	}
	if release := b.release; release != nil {
		b.release = nil
		release()
	} else {
		clear(b.buf[:cap(b.buf)])
	}
	b.reader, b.max, b.open = reader{}, 0, false
	if f := b.TakeFile(); f != nil {
		return f.Close()
	}
	return nil
}

// give marks b as a queue's.
func (b *Buffer) give() error {
	switch {
	case b == nil:
		return fmt.Errorf("ibuf: nil buffer: %w", ErrInvalid)
	case b.queued:
		return errQueued
	case !b.open:
		return fmt.Errorf("ibuf: closed buffer: %w", ErrInvalid)
	}
	b.queued = true
	return nil
}

// Cap returns the size of the buffer's memory in bytes, which grows up to the
// maximum with what is added.
func (b *Buffer) Cap() int { return cap(b.buf) }

// Available returns how many bytes may still be added.
// It corresponds to ibuf_left.
func (b *Buffer) Available() int { return b.max - len(b.buf) }

// SetMaxSize lowers the maximum to n bytes. The error is ErrTooLarge if n is
// negative, over the present maximum, or below the bytes in use, of which
// those already read are part.
// It corresponds to ibuf_set_maxsize.
func (b *Buffer) SetMaxSize(n int) error {
	if n < len(b.buf) || n > b.max {
		return fmt.Errorf("ibuf: maximum of %d bytes with %d of %d in use: %w",
			n, len(b.buf), b.max, ErrTooLarge)
	}
	b.max = n
	if n < cap(b.buf) {
		clear(b.buf[n:cap(b.buf)])
		b.buf = b.buf[:len(b.buf):n]
	}
	return nil
}

// Truncate cuts the unread bytes down to the first n, or extends them to n
// with zero bytes. If n is negative or does not fit, the error is ErrTooLarge.
// It corresponds to ibuf_truncate.
func (b *Buffer) Truncate(n int) error {
	have := b.Len()
	if n < 0 {
		return b.tooLarge(n)
	}
	if n > have {
		return b.AddZero(n - have)
	}
	b.buf = b.buf[:b.pos+n]
	return nil
}

// HasFile reports whether the buffer holds a file.
// It corresponds to ibuf_fd_avail.
func (b *Buffer) HasFile() bool { return b.file != nil }

// TakeFile moves the file to the caller, who closes it. It returns nil if the
// buffer holds none.
// It corresponds to ibuf_fd_get.
func (b *Buffer) TakeFile() *os.File {
	f := b.file
	b.file = nil
	return f
}

// SetFile gives f to the buffer, which closes it unless it is taken first. A
// file that was there before is closed. A nil f just removes that.
// It corresponds to ibuf_fd_set.
func (b *Buffer) SetFile(f *os.File) {
	old := b.file
	b.file = f
	if old != nil && old != f {
		old.Close() // nobody asked for it, so nobody cares how that went
	}
}

// Reserve appends n zero bytes and returns them to be filled in. They stay
// part of the buffer; the slice is valid until it is closed or appended to.
// If n is negative or does not fit, the error is ErrTooLarge.
// It corresponds to ibuf_reserve.
func (b *Buffer) Reserve(n int) ([]byte, error) {
	start := len(b.buf)
	if uint(n) <= uint(cap(b.buf)-start) {
		clear(b.buf[start : start+n])
	} else if err := b.grow(n); err != nil {
		return nil, err
	}
	b.buf = b.buf[:start+n]
	return b.buf[start : start+n : start+n], nil
}

// Add appends a copy of p, which may be part of the buffer itself. If it does
// not fit, the error is ErrTooLarge.
// It corresponds to ibuf_add.
func (b *Buffer) Add(p []byte) error {
	var old []byte
	if len(p) > cap(b.buf)-len(b.buf) {
		var err error
		if old, err = b.move(len(p)); err != nil {
			return err
		}
	}
	b.buf = append(b.buf, p...)
	clear(old) // only now: p may lie in there
	return nil
}

// AddView appends a copy of the unread bytes of v, which is not changed and
// may be of the buffer itself. If they do not fit, the error is ErrTooLarge.
// It corresponds to ibuf_add_ibuf.
func (b *Buffer) AddView(v View) error { return b.Add(v.Bytes()) }

// AddZero appends n zero bytes. If n is negative or does not fit, the error is
// ErrTooLarge.
// It corresponds to ibuf_add_zero.
func (b *Buffer) AddZero(n int) error {
	_, err := b.Reserve(n)
	return err
}

// AddCString appends s as a field of exactly n bytes, padded with NULs, of
// which there must be at least one. The error is ErrInvalid if s has a NUL
// inside, ErrTooLarge if n is negative or does not fit, ErrNoNUL if n is not
// over len(s). Unlike in C, nothing is added with any of them.
// It corresponds to ibuf_add_strbuf.
func (b *Buffer) AddCString(s string, n int) error {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return fmt.Errorf("ibuf: string with NUL at %d: %w", i, ErrInvalid)
	}
	if uint(n) > uint(b.Available()) {
		return b.tooLarge(n)
	}
	if len(s) >= n {
		return fmt.Errorf("ibuf: string of %d bytes in a field of %d: %w", len(s), n, ErrNoNUL)
	}
	p, err := b.Reserve(n)
	copy(p, s)
	return err
}

// grow makes room for n more bytes, which are zero.
func (b *Buffer) grow(n int) error {
	old, err := b.move(n)
	clear(old)
	return err
}

// move is grow, but leaves it to the caller to clear the old memory. The
// capacity at least doubles, so the cost of moving is spread over the adds.
func (b *Buffer) move(n int) (old []byte, err error) {
	if uint(n) > uint(min(b.max, maxDynamic)-len(b.buf)) {
		return nil, b.tooLarge(n)
	}
	if b.queued {
		return nil, errQueued
	}
	size := b.max
	if c := cap(b.buf); c < b.max/2 {
		size = min(b.max, max(2*c, len(b.buf)+n, minGrow))
	}
	old = b.buf[:cap(b.buf)]
	b.buf = append(make([]byte, 0, size), b.buf...)
	return old, nil
}

func (b *Buffer) tooLarge(n int) error {
	return fmt.Errorf("ibuf: add of %d bytes to %d of %d: %w", n, len(b.buf), b.max, ErrTooLarge)
}

// Set overwrites the bytes starting pos bytes after the read position with p.
// If they are not all within the unread bytes, the error is ErrTooLarge.
// It corresponds to ibuf_set.
func (b *Buffer) Set(pos int, p []byte) error {
	dst, err := b.Slice(pos, len(p))
	copy(dst, p)
	return err
}
