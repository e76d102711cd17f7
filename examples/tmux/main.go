// Command tmux runs commands in a tmux server without the tmux program. It
// takes every command that tmux has, and a few of its own: see -h.
//
//	go run ./examples/tmux ls
//	go run ./examples/tmux -S /tmp/s display-message -p '#{version}'
//	go run ./examples/tmux -C attach-session
//	printf 'ls\nlist-windows -a\n' | go run ./examples/tmux batch
//	echo make test | go run ./examples/tmux submit %3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"example.org/imsg"
	"example.org/imsg/proto/tmux"
)

// A command is one that tmux does not have.
type command struct {
	name, args, help string
	run              func(ctx context.Context, c *tmux.Client, args []string) (status int, err error)
}

var commands = []command{
	{"batch", "", "run the commands on standard input, one a line, with as few messages as possible", batch},
	{"submit", "PANE", "paste standard input into a pane, press Enter and make sure that it was submitted", submit},
	{"watch", "[SESSION]", "print what happens in a session until it ends", watch},
	{"version", "", "print the server's version and the dialect that it speaks", version},
}

func usage() {
	w := flag.CommandLine.Output()
	fmt.Fprint(w, "usage: tmux [flags] COMMAND [ARG...]\n\nCommands of its own:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-16s %s\n", c.name+" "+c.args, c.help)
	}
	fmt.Fprint(w, `
Every other command is tmux's, for example:
  list-sessions, list-windows, list-panes, list-clients      what there is
  new-session -d, new-window -d, split-window -d             make something
  send-keys, capture-pane -p, display-message -p             use a pane
  load-buffer -, save-buffer -, show-buffer                  buffers from standard input, to standard output
  wait-for, kill-pane, kill-session                          and 70 more: list-commands

Flags:
`)
	flag.PrintDefaults()
}

func main() {
	socket := flag.String("S", tmux.DefaultSocket(), "`path` of the server's socket")
	control := flag.Bool("C", false, "control mode: commands from standard input, replies and events to standard output")
	dialect := flag.String("dialect", "auto", "current (tmux 3.6 and later), legacy, or auto: ask the server")
	timeout := flag.Duration("timeout", 0, "give up after this `time`; 0: never")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx := context.Background()
	if *timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	status, err := run(ctx, *socket, *dialect, *control, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, explain(*socket, err))
		status = 1
	}
	os.Exit(status)
}

// run runs a command and returns its exit status.
func run(ctx context.Context, socket, dialect string, control bool, args []string) (int, error) {
	c, err := tmux.Dial(ctx, socket, &tmux.Config{Dialect: dialect, OpenFile: os.OpenFile})
	if err != nil {
		return 0, err
	}
	for _, own := range commands {
		if own.name == args[0] {
			if n := len(args) - 1; n > 1 || n == 1 && own.args == "" || n == 0 && own.args == "PANE" {
				return 0, fmt.Errorf("usage: %s %s", own.name, own.args)
			}
			return own.run(ctx, c, args[1:])
		}
	}
	return c.Exec(ctx, &tmux.Command{Args: args, Control: control, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
}

// explain puts an error the way tmux does, where tmux has words for it.
func explain(socket string, err error) string {
	var op *imsg.OpError
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no server running on " + socket
	case errors.As(err, &op) && op.Op == "dial" && errors.As(err, &errno):
		return fmt.Sprintf("error connecting to %s (%v)", socket, errno)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "server exited unexpectedly: " + err.Error()
	}
	return err.Error()
}

func version(_ context.Context, c *tmux.Client, _ []string) (int, error) {
	_, err := fmt.Printf("tmux %s, %v\n", c.Version(), c.Dialect())
	return 0, err
}

func submit(ctx context.Context, c *tmux.Client, args []string) (int, error) {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 0, err
	}
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1] // Enter comes by itself
	}
	begin := time.Now()
	if err := c.Paste(ctx, args[0], text); err != nil {
		return 0, err
	}
	fmt.Printf("submitted %d bytes in %v\n", len(text), time.Since(begin).Round(time.Millisecond))
	return 0, nil
}
