package ibuf

import (
	"fmt"
	"syscall"

	"example.org/imsg/internal/stream"
)

// The errors of this package. Methods return errors that wrap one of them
// and say the numbers; test with [errors.Is]. Each of them also matches the
// errno that the C library sets: errors.Is(err, syscall.ERANGE) holds for
// every error that is ErrTooLarge. They are constants in all but syntax:
// do not assign to them.
var (
	// ErrTooLarge says that bytes do not fit: a write over the buffer's
	// maximum, or a range outside the unread bytes. It matches ERANGE.
	ErrTooLarge = stream.ErrTooLarge

	// ErrShort says that fewer bytes are left than asked for. It matches
	// EBADMSG.
	ErrShort = stream.NewError("too short", syscall.EBADMSG)

	// ErrNoNUL says that a fixed-size string field has no terminating NUL,
	// or no room for one. It matches EOVERFLOW.
	ErrNoNUL = stream.NewError("no terminating NUL", syscall.EOVERFLOW)

	// ErrInvalid says that an argument cannot be represented at all: a
	// maximum of zero, a NUL inside a string. It matches EINVAL.
	ErrInvalid = stream.ErrInvalid
)

var errQueued = fmt.Errorf("ibuf: buffer belongs to a queue: %w", ErrInvalid)

// The two types below format their text only when asked. That keeps calls
// out of the accessors, which the compiler can then inline.

// shortError is a read of n bytes where have are left.
type shortError struct{ n, have int }

func (e *shortError) Error() string {
	return fmt.Sprintf("ibuf: get of %d bytes from %d: %v", e.n, e.have, ErrShort)
}

func (e *shortError) Unwrap() error { return ErrShort }

// rangeError is an access to n bytes at pos where have are unread.
type rangeError struct{ pos, n, have int }

func (e *rangeError) Error() string {
	return fmt.Sprintf("ibuf: range of %d bytes at %d of %d: %v", e.n, e.pos, e.have, ErrTooLarge)
}

func (e *rangeError) Unwrap() error { return ErrTooLarge }
