package capture

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// An InputError is what is wrong with a capture, and where. Records that were
// read before it are good.
type InputError struct {
	Line   int   // of a text, from 1; 0 in other captures
	Offset int64 // in bytes from its beginning
	Err    error // io.ErrUnexpectedEOF if the capture was cut there
}

// Error returns the place and what is wrong.
func (e *InputError) Error() string {
	place := fmt.Sprintf("byte %d", e.Offset)
	if e.Line > 0 {
		place = fmt.Sprintf("line %d", e.Line)
	}
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		what := strings.TrimSuffix(e.Err.Error(), io.ErrUnexpectedEOF.Error())
		return strings.TrimSuffix(fmt.Sprintf("%s: the capture was cut here: %s", place, what), ": ")
	}
	return fmt.Sprintf("%s: %v", place, e.Err)
}

// Unwrap returns what is wrong.
func (e *InputError) Unwrap() error { return e.Err }
