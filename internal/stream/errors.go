package stream

import "syscall"

// Sentinels that package ibuf exports too.
var (
	ErrTooLarge = NewError("too large", syscall.ERANGE)
	ErrInvalid  = NewError("invalid argument", syscall.EINVAL)
)

type errnoError struct {
	text  string
	errno syscall.Errno
}

// NewError returns a sentinel error that errors.Is also finds equal to errno.
func NewError(text string, errno syscall.Errno) error { return &errnoError{text, errno} }

func (e *errnoError) Error() string { return e.text }

func (e *errnoError) Is(target error) bool { return target == error(e.errno) }
