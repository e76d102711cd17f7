//go:build !linux

package privsep

import (
	"errors"
	"os"
)

// threads can be looked at on Linux only. Not run.
type threads struct{}

func openThreads(int) (*threads, error) { return nil, nil }

func (*threads) read() (map[threadState]int, error) { return nil, nil }

func (*threads) close() {}

// setUndumpable: these systems protect processes that have changed ids from
// each other by themselves.
func setUndumpable() error { return nil }

func dumpable() bool { return false }

func rootOf(int) (os.FileInfo, error) { return nil, errors.ErrUnsupported }
