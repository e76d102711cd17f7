// Bench measures package imsg against the bare kernel, OpenBSD's C library and
// other ways to talk to a process of the same machine: see README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	err := error(nil)
	if name := os.Getenv(workerEnv); name != "" {
		err = work(name, os.Args[1:])
	} else {
		err = run(os.Args[1:], os.Stdout, os.Stderr)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// programEnv names the C side where no flag does.
const programEnv = "IMSG_BENCH_C"

// options are what the command line says.
type options struct {
	json         bool
	svg          string
	cases, peers *regexp.Regexp
	rounds       int
	slice        time.Duration
	program      string // the C side, if the user has built one
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	o.cases, o.peers = regexp.MustCompile(""), regexp.MustCompile("")
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.json, "json", false, "print one JSON object instead of tables")
	flags.StringVar(&o.svg, "svg", "", "write plots into `directory`")
	quick := flags.Bool("quick", false, "fewer and shorter rounds: about half a minute, and less exact")
	pattern := func(name, usage string, to **regexp.Regexp) {
		flags.Func(name, usage, func(s string) (err error) {
			*to, err = regexp.Compile(s)
			return err
		})
	}
	pattern("case", "run only cases that match `regexp`", &o.cases)
	pattern("peer", "run only peers that match `regexp`", &o.peers)
	flags.IntVar(&o.rounds, "rounds", 0, "number of rounds (default 21, quick 7)")
	flags.DurationVar(&o.slice, "slice", 0, "how long one peer's turn in a round lasts (default 100ms, quick 25ms)")
	flags.StringVar(&o.program, "c-peer", "", "also run the C side, `program`, made from cpeer/cpeer.c (default $"+programEnv+")")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	rounds, slice := 21, 100*time.Millisecond
	if *quick {
		rounds, slice = 7, 25*time.Millisecond
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	if o.slice <= 0 {
		o.slice = slice
	}
	if o.program == "" {
		o.program = os.Getenv(programEnv)
	}
	if o.program != "" {
		if o.program, err = exec.LookPath(o.program); err == nil {
			o.program, err = filepath.Abs(o.program)
		}
	}
	return o, err
}

// run does everything that the command line args asks for.
func run(args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.svg != "" {
		if err := os.MkdirAll(o.svg, 0o777); err != nil {
			return err
		}
	}
	rep := newReport()
	if !o.json {
		printMachine(stdout, rep.Machine)
	}
	r, err := newRunner(o)
	if err != nil {
		return err
	}
	for _, c := range allCases() {
		peers := r.selected(c)
		if len(peers) == 0 {
			continue
		}
		results, err := r.run(c, peers)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		rep.add(c, results)
		if !o.json {
			printCase(stdout, c, peers, rep)
		}
	}
	if len(rep.Cases) == 0 {
		return errors.New("nothing matches -case and -peer")
	}
	rep.judge(allTargets())
	if o.json {
		err = rep.printJSON(stdout)
	} else {
		printTargets(stdout, rep.Targets)
	}
	if err == nil && o.svg != "" {
		err = writePlots(o.svg, rep)
	}
	return err
}
