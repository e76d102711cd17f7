//go:build !linux

package relay

import "example.org/imsg/internal/capture"

// describe has no way to tell more.
func describe(int) capture.File { return capture.File{From: -1, To: -1} }

// program is not known.
func program(int) string { return "" }
