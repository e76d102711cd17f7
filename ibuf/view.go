package ibuf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// reader is the reading half of View and Buffer.
type reader struct {
	buf []byte // the bytes in use
	pos int    // read position, 0 <= pos <= len(buf)
}

// View is a read-only window on bytes that belong to someone else: a message,
// a [Buffer] or a slice of the caller's. It has its own read position and no
// method that writes. It is a small value; the zero View is empty. It stays
// valid as long as what it looks at does. One goroutine at a time may use a
// View; copies of it are independent.
type View struct{ reader }

// NewView returns a View of p. It aliases p and owns nothing: the caller must
// not change p while the View is in use.
// It corresponds to ibuf_from_buffer.
func NewView(p []byte) View {
	return View{reader{buf: slices.Clip(p)}}
}

// Truncate cuts the unread bytes down to the first n. A View cannot grow:
// a negative n or one over Len is ErrTooLarge and changes nothing.
// It corresponds to ibuf_truncate.
func (b *View) Truncate(n int) error {
	if uint(n) > uint(b.Len()) {
		return &rangeError{0, n, b.Len()}
	}
	end := b.pos + n
	b.buf = b.buf[:end:end]
	return nil
}

// Len returns the number of unread bytes.
// It corresponds to ibuf_size.
func (b reader) Len() int { return len(b.buf) - b.pos }

// Bytes returns the unread bytes without consuming them. The slice aliases
// the memory and is valid until its owner is closed or appended to; an append
// to the slice itself copies it.
// It corresponds to ibuf_data.
func (b reader) Bytes() []byte { return b.buf[b.pos:len(b.buf):len(b.buf)] }

// Slice returns n bytes starting pos bytes after the read position, without
// consuming them. It aliases like Bytes. If any of them is not within the
// unread bytes, or an argument is negative, the error is ErrTooLarge.
// It corresponds to ibuf_seek.
func (b reader) Slice(pos, n int) ([]byte, error) {
	p := b.buf[b.pos:]
	if uint(pos) > uint(len(p)) || uint(n) > uint(len(p)-pos) {
		return nil, &rangeError{pos, n, len(p)}
	}
	return p[pos : pos+n : pos+n], nil
}

// View returns an independent read-only View of the unread bytes. It aliases
// like Bytes.
// It corresponds to ibuf_from_ibuf.
func (b reader) View() View { return View{reader{buf: b.Bytes()}} }

// Rewind moves the read position back to the first byte.
// It corresponds to ibuf_rewind.
func (b *reader) Rewind() { b.pos = 0 }

// Skip consumes n bytes. If n is negative or fewer are left, the error is
// ErrShort and nothing is consumed.
// It corresponds to ibuf_skip.
func (b *reader) Skip(n int) error {
	if uint(n) > uint(b.Len()) {
		return &shortError{n, b.Len()}
	}
	b.pos += n
	return nil
}

// Get fills p with the next len(p) bytes and consumes them. If fewer are
// left, the error is ErrShort, nothing is consumed and p is unchanged.
// It corresponds to ibuf_get.
func (b *reader) Get(p []byte) error {
	src := b.buf[b.pos:]
	if len(p) > len(src) {
		return &shortError{len(p), len(src)}
	}
	b.pos += copy(p, src)
	return nil
}

// GetView consumes n bytes and returns a View of them, which aliases like
// Bytes. If n is negative or fewer are left, the error is ErrShort and
// nothing is consumed.
// It corresponds to ibuf_get_ibuf.
func (b *reader) GetView(n int) (View, error) {
	p := b.buf[b.pos:]
	if uint(n) > uint(len(p)) {
		return View{}, &shortError{n, len(p)}
	}
	b.pos += n
	return View{reader{buf: p[:n:n]}}, nil
}

// GetString consumes n bytes and returns a copy of them up to the first NUL,
// or of all of them if there is none. If n is negative or fewer are left, the
// error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_string.
func (b *reader) GetString(n int) (string, error) {
	p := b.buf[b.pos:]
	if uint(n) > uint(len(p)) {
		return "", &shortError{n, len(p)}
	}
	b.pos += n
	p = p[:n]
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p), nil
}

// GetCString consumes a string field of n bytes, as AddCString writes it, and
// returns a copy of it up to the first NUL; what follows the NUL is ignored.
// The error is ErrInvalid if n is 0, ErrShort if n is negative or fewer bytes
// are left, ErrNoNUL if there is no NUL among the n bytes. Unlike in C,
// nothing is consumed with any of them.
// It corresponds to ibuf_get_strbuf.
func (b *reader) GetCString(n int) (string, error) {
	p := b.buf[b.pos:]
	if n == 0 {
		return "", fmt.Errorf("ibuf: string field of 0 bytes: %w", ErrInvalid)
	}
	if uint(n) > uint(len(p)) {
		return "", &shortError{n, len(p)}
	}
	i := bytes.IndexByte(p[:n], 0)
	if i < 0 {
		return "", fmt.Errorf("ibuf: string field of %d bytes: %w", n, ErrNoNUL)
	}
	b.pos += n
	return string(p[:i]), nil
}

// GetTerminated consumes a string of any length and the NUL behind it, and
// returns a copy of the string. The error is ErrNoNUL if there is no NUL among
// the unread bytes, of which none is consumed then. To write one, use
// AddCString(s, len(s)+1).
func (b *reader) GetTerminated() (string, error) {
	p := b.buf[b.pos:]
	i := bytes.IndexByte(p, 0)
	if i < 0 {
		return "", fmt.Errorf("ibuf: string in %d bytes: %w", len(p), ErrNoNUL)
	}
	b.pos += i + 1
	return string(p[:i]), nil
}

// GetByte consumes one byte. If none is left, the error is ErrShort.
// It corresponds to ibuf_get_n8.
func (b *reader) GetByte() (byte, error) {
	p := b.buf[b.pos:]
	if len(p) < 1 {
		return 0, &shortError{1, len(p)}
	}
	b.pos++
	return p[0], nil
}

// GetNet16 consumes a 16-bit number in network order (big-endian). If fewer
// than 2 bytes are left, the error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_n16.
func (b *reader) GetNet16() (uint16, error) {
	p := b.buf[b.pos:]
	if len(p) < 2 {
		return 0, &shortError{2, len(p)}
	}
	b.pos += 2
	return binary.BigEndian.Uint16(p), nil
}

// GetNet32 consumes a 32-bit number in network order (big-endian). If fewer
// than 4 bytes are left, the error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_n32.
func (b *reader) GetNet32() (uint32, error) {
	p := b.buf[b.pos:]
	if len(p) < 4 {
		return 0, &shortError{4, len(p)}
	}
	b.pos += 4
	return binary.BigEndian.Uint32(p), nil
}

// GetNet64 consumes a 64-bit number in network order (big-endian). If fewer
// than 8 bytes are left, the error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_n64.
func (b *reader) GetNet64() (uint64, error) {
	p := b.buf[b.pos:]
	if len(p) < 8 {
		return 0, &shortError{8, len(p)}
	}
	b.pos += 8
	return binary.BigEndian.Uint64(p), nil
}

// GetHost16 consumes a 16-bit number in host order. If fewer than 2 bytes are
// left, the error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_h16.
func (b *reader) GetHost16() (uint16, error) {
	p := b.buf[b.pos:]
	if len(p) < 2 {
		return 0, &shortError{2, len(p)}
	}
	b.pos += 2
	return binary.NativeEndian.Uint16(p), nil
}

// GetHost32 consumes a 32-bit number in host order. If fewer than 4 bytes are
// left, the error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_h32.
func (b *reader) GetHost32() (uint32, error) {
	p := b.buf[b.pos:]
	if len(p) < 4 {
		return 0, &shortError{4, len(p)}
	}
	b.pos += 4
	return binary.NativeEndian.Uint32(p), nil
}

// GetHost64 consumes a 64-bit number in host order. If fewer than 8 bytes are
// left, the error is ErrShort and nothing is consumed.
// It corresponds to ibuf_get_h64.
func (b *reader) GetHost64() (uint64, error) {
	p := b.buf[b.pos:]
	if len(p) < 8 {
		return 0, &shortError{8, len(p)}
	}
	b.pos += 8
	return binary.NativeEndian.Uint64(p), nil
}

// ByteAt returns the byte that is pos bytes after the read position and
// consumes nothing. If pos is negative or there is none, the error is
// ErrTooLarge.
func (b reader) ByteAt(pos int) (byte, error) {
	p, err := b.Slice(pos, 1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

// Net16At returns the 16-bit number in network order (big-endian) that begins pos bytes after the
// read position and consumes nothing. If pos is negative or its bytes are not
// all unread ones, the error is ErrTooLarge.
func (b reader) Net16At(pos int) (uint16, error) {
	p, err := b.Slice(pos, 2)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint16(p), nil
}

// Host16At returns the 16-bit number in host order that begins pos bytes after the
// read position and consumes nothing. If pos is negative or its bytes are not
// all unread ones, the error is ErrTooLarge.
func (b reader) Host16At(pos int) (uint16, error) {
	p, err := b.Slice(pos, 2)
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint16(p), nil
}

// Net32At returns the 32-bit number in network order (big-endian) that begins pos bytes after the
// read position and consumes nothing. If pos is negative or its bytes are not
// all unread ones, the error is ErrTooLarge.
func (b reader) Net32At(pos int) (uint32, error) {
	p, err := b.Slice(pos, 4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(p), nil
}

// Host32At returns the 32-bit number in host order that begins pos bytes after the
// read position and consumes nothing. If pos is negative or its bytes are not
// all unread ones, the error is ErrTooLarge.
func (b reader) Host32At(pos int) (uint32, error) {
	p, err := b.Slice(pos, 4)
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(p), nil
}

// Net64At returns the 64-bit number in network order (big-endian) that begins pos bytes after the
// read position and consumes nothing. If pos is negative or its bytes are not
// all unread ones, the error is ErrTooLarge.
func (b reader) Net64At(pos int) (uint64, error) {
	p, err := b.Slice(pos, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(p), nil
}

// Host64At returns the 64-bit number in host order that begins pos bytes after the
// read position and consumes nothing. If pos is negative or its bytes are not
// all unread ones, the error is ErrTooLarge.
func (b reader) Host64At(pos int) (uint64, error) {
	p, err := b.Slice(pos, 8)
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(p), nil
}
