// Imsgctl shows, records, decodes, draws and speaks what goes over imsg
// sockets.
//
// Standard output is for data, standard error for everything else. The exit
// status is 0 if all went well, 1 if something failed, and 2 if the command
// was not understood.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// An app is what the commands share: the streams, and what they are.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	inTTY          bool        // stdin is a terminal
	outTTY, errTTY bool        // so are stdout and stderr
	noColor        bool        // NO_COLOR is set, or the terminal is dumb
	reading        os.FileInfo // the capture, if it is a file: nobody may write to it
	root           *cobra.Command
	running        string // the command that runs: what fails before is usage
}

func main() { os.Exit(newApp().run(os.Args[1:])) }

func newApp() *app {
	tty := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	a := &app{
		stdin: os.Stdin, stdout: &stdout{f: os.Stdout}, stderr: os.Stderr,
		inTTY: tty(os.Stdin), outTTY: tty(os.Stdout), errTTY: tty(os.Stderr),
		noColor: os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb",
	}
	a.root = &cobra.Command{
		Use:   "imsgctl",
		Short: "See, record, decode, draw and speak what goes over imsg sockets",
		Long: `Imsgctl shows what programs say to each other over imsg sockets: the channels
between the processes of a daemon, and between a daemon and its clients.`,
		Example: `  imsgctl demo                              what an imsg channel is, in one screen
  imsgctl trace -w start.pcapng bgpd -d     what the processes of a daemon say to each other
  imsgctl proxy --move /run/bgpd.sock.0     what clients say to a daemon
  imsgctl decode -v start.pcapng            what was recorded with -w
  imsgctl send -v /run/openntpd/ntpd.sock CTL_SHOW_STATUS`,
		SilenceErrors: true,
		SilenceUsage:  true,

		DisableSuggestions:         true, // of cobra, which makes several lines
		SuggestionsMinimumDistance: 2,
	}
	a.root.SetHelpCommand(newHelpCommand(a))
	a.root.AddCommand(
		newCompletionCommand(a),
		newDecodeCommand(a),
		newDemoCommand(a),
		newDoctorCommand(a),
		newFilterTopic(),
		newProxyCommand(a),
		newRunCommand(a),
		newSendCommand(a),
		newSeqCommand(a),
		newStatCommand(a),
		newTraceCommand(a),
		newTypesCommand(a),
	)
	return a
}

// newHelpCommand is cobra's, but for a command that is not known.
func newHelpCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Tell about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := a.root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("unknown command %q%s", strings.Join(args, " "), a.near(args))
			}
			return c.Help()
		},
	}
}

// run runs a command line and returns the exit status.
func (a *app) run(args []string) int {
	// Not ignored, which programs that we start would inherit: a write to a
	// closed pipe fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // the second one kills

	a.root.SetIn(a.stdin)
	a.root.SetOut(a.stdout)
	a.root.SetErr(a.stderr)
	if args == nil {
		args = []string{} // nil is os.Args
	}
	a.root.SetArgs(args)
	a.watch(a.root)
	err := error(usagef("a command is missing"))
	if len(args) > 0 {
		_, err = a.root.ExecuteContextC(ctx)
	} else {
		a.root.SetOut(a.stderr)
		a.root.Help()
	}
	understood := err == nil || a.running != ""
	if out, ok := a.stdout.(*stdout); ok && err == nil {
		err = out.err // what prints help does not look
	}
	name := cmp.Or(a.running, a.calledName(args))
	usage, status := new(usageError), exitStatus(0)
	switch {
	case errors.As(err, &status):
		return int(status)
	case err == nil, errors.Is(err, errStdoutClosed):
		return 0
	case !understood, errors.As(err, usage):
		switch {
		case name != "":
		case len(args) > 1 && strings.HasPrefix(args[0], "-") && strings.HasPrefix(err.Error(), "unknown command"):
			err = fmt.Errorf("%s: a command comes first, then its flags", args[0])
		default:
			err = fmt.Errorf("%w%s", err, a.near(args))
		}
		if !strings.Contains(err.Error(), "\n") {
			err = fmt.Errorf("%w (%s -h tells more)", err, strings.TrimSpace("imsgctl "+name))
		}
		a.complain(name, err)
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)):
		err = context.Cause(ctx)
	}
	a.complain(name, err)
	return 1
}

// watch notes when a command begins to run, here and below.
func (a *app) watch(c *cobra.Command) {
	completeFlags(c)
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.running = strings.TrimPrefix(c.CommandPath(), "imsgctl ")
			if err := noneEmpty(c, args); err != nil {
				return err
			}
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.watch(sub)
	}
}

// noneEmpty refuses an empty argument or value of a flag, which is what a script
// gives whose variable is not set: it means none of what is the default.
func noneEmpty(c *cobra.Command, args []string) (err error) {
	own := len(args) // of imsgctl; the rest is another program's
	if c.Name() == "run" || c.Name() == "trace" {
		own = min(1, own)
	}
	if slices.Contains(args[:own], "") {
		return usagef("an argument is empty")
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if slices.Contains(values, "") {
			err = usagef("--%s: the value is empty", f.Name)
		}
	})
	return err
}

// near suggests commands whose names are like the first of args.
func (a *app) near(args []string) string {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return ""
	}
	if names := a.root.SuggestionsFor(args[0]); len(names) > 0 && !slices.Contains(names, args[0]) {
		return ": " + strings.Join(names, " or ") + " is one"
	}
	return ""
}

// calledName is the command that args name, or "".
func (a *app) calledName(args []string) string {
	c, _, err := a.root.Find(args)
	if err != nil || c == a.root {
		return ""
	}
	return strings.TrimPrefix(c.CommandPath(), "imsgctl ")
}

// complain writes an error, or a warning, as a line that begins with the
// command's name.
func (a *app) complain(name string, err error) {
	if name != "" {
		name += ": "
	}
	fmt.Fprintf(a.stderr, "imsgctl: %s%s\n", name, printable(err.Error()))
}

// printable escapes what could upset a terminal, line by line: an error can
// have in it what a peer or a capture says.
func printable(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = escape(line)
	}
	return strings.Join(lines, "\n")
}

var unquoted = strings.NewReplacer(`\"`, `"`, `\\`, `\`)

// escape makes one line of s that any terminal can bear.
func escape(s string) string {
	q := strconv.Quote(s)
	return unquoted.Replace(q[1 : len(q)-1])
}

// An exitStatus is that of a program that a command has started, which has said
// why.
type exitStatus int

func (e exitStatus) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// A usageError is a mistake in the command line that only the command can see:
// the exit status is 2.
type usageError struct{ error }

func usagef(format string, args ...any) usageError { return usageError{fmt.Errorf(format, args...)} }

func (e usageError) Unwrap() error { return e.error }

// errStdoutClosed is returned by writes to standard output when nobody reads
// it any longer: a command ends, and nobody complains.
var errStdoutClosed = errors.New("standard output is closed")

// A stdout is standard output, which remembers an error.
type stdout struct {
	f   *os.File
	err error
}

func (s *stdout) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		err = errStdoutClosed
	}
	s.err = cmp.Or(s.err, err)
	return n, err
}
