//go:build !linux

package privsep

import (
	"errors"
	"os"
)

// readThreads: threads can be looked at on Linux only. Not run.
func readThreads(int) (map[threadState]int, error) { return nil, nil }

// setUndumpable: these systems protect processes that have changed ids from
// each other by themselves.
func setUndumpable() error { return nil }

func dumpable() bool { return false }

func rootOf(int) (os.FileInfo, error) { return nil, errors.ErrUnsupported }
