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
	"io"
	"os"
)

// A command is one row of the table: what "imsg NAME" does.
type command struct {
	name  string
	args  string // for the usage line
	short string // one line
	long  string // full sentences
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
		usage(os.Stderr)
		return 2
	}
	c := find(args[0])
	switch {
	case c == nil && isHelp(args[0]):
		if len(args) == 2 && find(args[1]) != nil {
			find(args[1]).usage(os.Stderr)
		} else {
			usage(os.Stderr)
		}
		return 2
	case c == nil:
		fmt.Fprintf(os.Stderr, "imsg: unknown command %q\n", args[0])
		usage(os.Stderr)
		return 2
	}
	err := c.run(c, args[1:])
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintf(os.Stderr, "imsg: %s: %v\n", c.name, err)
	return 1
}

func find(name string) *command {
	for _, c := range commands {
		if c.name == name {
			return c
		}
	}
	return nil
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

// usage tells which commands there are.
func usage(w io.Writer) {
	fmt.Fprint(w, "usage: imsg command [arguments]\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s  %s\n", c.name, c.short)
	}
	fmt.Fprint(w, "\n\"imsg help command\" tells more about a command.\n")
}

// usage tells how to call c.
func (c *command) usage(w io.Writer) {
	line := "usage: imsg " + c.name
	if c.args != "" {
		line += " " + c.args
	}
	fmt.Fprintf(w, "%s\n\n%s\n", line, c.long)
}

// flags returns an empty set of flags for c.
func (c *command) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	fs.Usage = func() {
		c.usage(os.Stderr)
		fs.PrintDefaults()
	}
	return fs
}

// parse reads the flags of fs and returns what is left, which must be least to
// most arguments. What is wrong has been said when it returns errUsage.
func (c *command) parse(fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	if err := fs.Parse(args); err != nil {
		return nil, errUsage
	}
	if n := fs.NArg(); n < least || n > most {
		fmt.Fprintf(os.Stderr, "imsg: %s: %d arguments, %d to %d wanted\n", c.name, n, least, most)
		fs.Usage()
		return nil, errUsage
	}
	return fs.Args(), nil
}
