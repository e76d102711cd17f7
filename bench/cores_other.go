//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

func startOnOne(*exec.Cmd) error { return errors.ErrUnsupported }

const canPin = false
