//go:build !linux || !(amd64 || arm64)

package ptrace

import "context"

// Run is not supported here.
func Run(context.Context, *Command, *Config) (Status, error) { return Status{}, ErrNotSupported }

// Attach is not supported here.
func Attach(context.Context, []int, *Config) error { return ErrNotSupported }
