package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Every peer runs in two processes that share a socket, descriptor 3:
//
//	PROGRAM serve CASE SIZE    serves until the socket's end
//	PROGRAM drive CASE SIZE    prints "ready"; for every line with a number N on
//	                           its standard input it performs N operations and
//	                           prints the nanoseconds they took, until EOF
//	PROGRAM load - 0           computes until EOF
//
// PROGRAM is this program, which is told the peer in its environment, or the
// user's C program.
const (
	channel   = 3
	workerEnv = "IMSG_BENCH" // "case peer"
)

// A step performs n operations and returns when the other side is done too.
type step func(n int) error

// A peer is one way to do a case's work.
type peer struct {
	name  string
	drive func(size int) (step, error)
	serve func(size int) error // nil: one process is enough
	least int                  // operations of a round at least, if not 0

	// count, instead of drive, measures something else than time: the sum for
	// n operations.
	count func(n int) (int64, error)

	c string // the CASE of the C program, which does it then
}

// work is the main function of a worker.
func work(name string, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("a worker's arguments are serve|drive CASE SIZE, not %q", args)
	}
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	if args[0] == loadVerb {
		load()
	}
	p, err := findPeer(name)
	if err != nil {
		return err
	}
	if args[0] == "serve" {
		err = p.serve(size)
	} else {
		err = drive(p, size)
	}
	if err != nil {
		return fmt.Errorf("%s, %s: %w", name, args[0], err)
	}
	return nil
}

func findPeer(name string) (peer, error) {
	for _, c := range append(allCases(), startCase()) {
		for _, p := range c.peers {
			if c.name+" "+p.name == name {
				return p, nil
			}
		}
	}
	return peer{}, fmt.Errorf("no case and peer %q", name)
}

// drive obeys standard input.
func drive(p peer, size int) error {
	measure := p.count
	if measure == nil {
		do, err := p.drive(size)
		if err != nil {
			return err
		}
		measure = func(n int) (int64, error) {
			begin := time.Now()
			err := do(n)
			return time.Since(begin).Nanoseconds(), err
		}
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := strconv.Atoi(strings.TrimSpace(in.Text()))
		if err != nil {
			return err
		}
		took, err := measure(n)
		if err != nil {
			return err
		}
		fmt.Println(took)
	}
	return nil
}
