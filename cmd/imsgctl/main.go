// Imsg shows, at work, what the packages of this module do.
//
// Standard output is for data, standard error for everything else. The exit
// status is 0 if all went well, 1 if something failed, and 2 if the command
// was not understood.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

// A command is one row of the table: what "imsg NAME" does.
type command struct {
	name  string
	short string // one line
	long  string // usage line and full sentences
	run   func(c *command, args []string) error
}

// commands is in the order of the usage text.
var commands = []*command{demoCommand}

// errUsage is what a command returns after it has told the user how to call
// it.
var errUsage = errors.New("usage")

func main() { os.Exit(run(os.Args[1:])) }

// run runs a command line and returns the exit status.
func run(args []string) int {
	if len(args) == 0 {
		return usage()
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		switch err := c.run(c, args[1:]); {
		case err == nil:
			return 0
		case errors.Is(err, errUsage):
			return 2
		default:
			fmt.Fprintf(os.Stderr, "imsg: %s: %v\n", c.name, err)
			return 1
		}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
	default:
		fmt.Fprintf(os.Stderr, "imsg: unknown command %q\n", args[0])
	}
	return usage()
}

// usage tells which commands there are.
func usage() int {
	fmt.Fprint(os.Stderr, "usage: imsg command [arguments]\n\n")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-8s  %s\n", c.name, c.short)
	}
	fmt.Fprint(os.Stderr, "\n\"imsg command -h\" tells more about a command.\n")
	return 2
}

// flags returns an empty set of flags for c. What its Parse complains about,
// the user has seen: errUsage is left to be returned.
func (c *command) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintln(os.Stderr, c.long)
		fs.PrintDefaults()
	}
	return fs
}
