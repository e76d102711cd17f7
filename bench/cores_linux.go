package main

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// startOnOne starts cmd on the last of our cores only.
func startOnOne(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for i := len(all) * 64; ; i-- {
		if all.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	defer unix.SchedSetaffinity(0, &all)
	return cmd.Start() // which inherits it
}

const canPin = true
