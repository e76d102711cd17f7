package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
)

// loadVerb makes a worker compute without end, until its standard input ends.
const loadVerb = "load"

func load() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for x := uint32(1); x != 0; {
		x = x*1664525 + 1013904223 | 1 // never 0
	}
}

// startLoad starts n processes that do nothing but compute, and returns what
// ends them.
func (r *runner) startLoad(n int) (stop func() error, err error) {
	var ends []func() error
	stop = func() error {
		var errs []error
		for _, end := range ends {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	}
	for range n {
		cmd := exec.Command(r.self, loadVerb, "-", "0")
		cmd.Env = append(os.Environ(), workerEnv+"="+loadVerb)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(err, stop())
		}
		ends = append(ends, func() error {
			in.Close()
			return cmd.Wait()
		})
	}
	return stop, nil
}
