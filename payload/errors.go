package payload

import (
	"fmt"
	"syscall"

	"example.org/imsg/ibuf"
)

// A SizeError is a payload that cannot be the struct because of its size. It
// matches ibuf.ErrShort and syscall.EBADMSG, as imsg_get_data reports it.
type SizeError struct {
	Type string // name of the Go type
	Len  int    // bytes there are
	Want int    // bytes of the struct
	Tail int    // size of an element of its tail; 0: it has none
	ABI  ABI
}

// Error returns for example "payload: ctlStatus: 56 bytes, want 48 (LP64)".
func (e *SizeError) Error() string {
	switch {
	case e.Tail > 1:
		return fmt.Sprintf("payload: %s: %d bytes, want %d and a multiple of %d (%v)", e.Type, e.Len, e.Want, e.Tail, e.ABI)
	case e.Tail == 1:
		return fmt.Sprintf("payload: %s: %d bytes, want %d or more (%v)", e.Type, e.Len, e.Want, e.ABI)
	}
	return fmt.Sprintf("payload: %s: %d bytes, want %d (%v)", e.Type, e.Len, e.Want, e.ABI)
}

// Is makes errors.Is(err, ibuf.ErrShort) and errors.Is(err, syscall.EBADMSG)
// true.
func (e *SizeError) Is(target error) bool {
	return target == ibuf.ErrShort || target == syscall.EBADMSG
}

// A FieldError is a field that is in the way: of a type, in an error of
// [LayoutOf], or of a value, in one of the others. It unwraps to ibuf.ErrNoNUL
// for a char array without a NUL, ibuf.ErrTooLarge for a value that does not
// fit, and ibuf.ErrInvalid otherwise.
type FieldError struct {
	Type  string // name of the Go type
	Field string // with those it is in: "Value.Text"
	Err   error
}

// Error returns for example "payload: ctlPeer.Value.Text: no NUL in 16 bytes".
func (e *FieldError) Error() string {
	return fmt.Sprintf("payload: %s.%s: %v", e.Type, e.Field, e.Err)
}

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ibuf.ErrInvalid)...)
}
