package main

import (
	"errors"
	"io"

	"example.org/imsg/internal/capture"
)

// newRecorder writes what -w asks for.
func newRecorder(w io.Writer) (capture.Writer, error) {
	return nil, errors.New("--write is not built yet")
}
