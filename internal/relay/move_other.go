//go:build !linux

package relay

import (
	"context"

	"example.org/imsg"
)

// A Move is a socket whose place is taken.
type Move struct{}

// Take fails with ErrMoveUnsupported.
func Take(context.Context, string, *imsg.Config) (*Move, error) { return nil, ErrMoveUnsupported }

// Path returns the socket's.
func (*Move) Path() string { return "" }

// Target returns the daemon's.
func (*Move) Target() string { return "" }

// Listener returns what listens there.
func (*Move) Listener() *imsg.Listener { return nil }

// Lost says why the place is not ours any more.
func (*Move) Lost() error { return nil }

// GiveBack gives the place back.
func (*Move) GiveBack() error { return nil }

// FindLeftover finds none.
func FindLeftover(string) (*Leftover, error) { return nil, nil }

// PutBack has nothing to put back.
func PutBack(string) (string, error) { return "", nil }
