// Command tmuxrun does what an agent that works in a terminal does: it runs a
// shell command in a window of its own in a tmux session, where a person can
// look on, waits until it is finished, and reports its output and exit status.
//
//	go run ./examples/tmuxrun -t work 'go test ./...'
//
// Nothing is typed into a shell whose prompt would have to be guessed: the window
// stays when its program ends, a hook of the pane then signals a channel, and
// tmuxrun waits for that signal.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"example.org/imsg/proto/tmux"
)

func main() {
	socket := flag.String("S", tmux.DefaultSocket(), "`path` of the server's socket")
	session := flag.String("t", "", "`session` in which to make the window (default: the one that tmux chooses)")
	keep := flag.Bool("keep", false, "leave the window behind")
	timeout := flag.Duration("timeout", 0, "end the command after this `time`; 0: never")
	flag.CommandLine.Init("tmuxrun", flag.ContinueOnError)
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "usage: tmuxrun [flags] SHELL-COMMAND\n\nThe exit status is the command's; 125 if it could not be run.\n\nFlags:\n")
		flag.PrintDefaults()
	}
	switch err := flag.CommandLine.Parse(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		os.Exit(125)
	case flag.NArg() == 0:
		flag.Usage()
		os.Exit(125)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	r, err := run(ctx, *socket, *session, strings.Join(flag.Args(), " "), *keep)
	os.Stdout.Write(r.output)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tmuxrun:", err)
		os.Exit(125)
	}
	if r.cut {
		fmt.Fprintln(os.Stderr, "tmuxrun: the first lines may be missing: tmux keeps no more than its option history-limit says")
	}
	fmt.Fprintf(os.Stderr, "tmuxrun: exit status %d after %v\n", r.status, r.took.Round(time.Millisecond))
	os.Exit(r.status)
}

// tidyLimit bounds what is done behind the end of the command: a server may be
// stopped.
const tidyLimit = 10 * time.Second

// A report is what became of a command.
type report struct {
	output []byte // what its window has shown
	cut    bool   // it may have shown more before
	status int
	took   time.Duration
}

// script runs a command. tmux 3.3a drops what it has not read when a program
// ends. So the script asks the terminal for its status before it ends: the
// answer, of four bytes, comes when all before the question was read.
const script = `"${SHELL:-sh}" -c "$1"
status=$?
stty -icanon -echo
printf '\033[5n'
dd bs=1 count=4 >/dev/null 2>&1
exit $status`

// run runs a command in a new window.
func run(ctx context.Context, socket, session, command string, keep bool) (r report, err error) {
	c, err := tmux.Dial(ctx, socket, nil)
	if err != nil {
		return r, err
	}
	name := "run-" + rand.Text()[:8]
	window := session + ":=" + name
	begin := time.Now()
	// One list, which the server carries out before it looks at anything else:
	// however soon the command ends, the hook is there before.
	results, err := c.RunList(ctx, [][]string{
		{"new-window", "-d", "-n", name, "-t", session + ":", "-P", "-F", "#{pane_id}", "sh", "-c", script, "sh", command},
		{"set-option", "-w", "-t", window, "remain-on-exit", "on"},
		{"set-hook", "-p", "-t", window, "pane-died", "wait-for -S " + name},
	})
	for _, result := range results {
		if err == nil {
			err = result.Err()
		}
	}
	if err != nil {
		return r, err
	}
	pane := strings.TrimSpace(string(results[0].Stdout))
	waited := wait(ctx, c, name)
	r.took = time.Since(begin)
	if ctx.Err() != nil {
		waited = ctx.Err()
	}

	// The output of a command that was given up is worth a look, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit)
	defer cancel()
	if !keep {
		defer c.Run(ctx, "kill-pane", "-t", pane)
	}
	if r.output, err = c.Capture(ctx, pane, "-J", "-S", "-"); err != nil {
		return r, err
	}
	r.output = trim(r.output)
	if waited != nil {
		return r, fmt.Errorf("not finished after %v: %w", r.took.Round(time.Millisecond), waited)
	}
	state, err := c.Run(ctx, "display-message", "-p", "-t", pane, "#{history_size} #{history_limit}\n#{pane_dead_status} #{pane_dead_signal}")
	if err = errors.Join(err, state.Err()); err != nil {
		return r, err
	}
	history, status, _ := strings.Cut(string(state.Stdout), "\n")
	r.cut = cut(history)
	r.status, err = exitStatus(status)
	return r, err
}

// cut reads the size of the history and its limit, and tells whether lines may
// have been dropped: tmux drops a tenth when it is full.
func cut(s string) bool {
	var size, limit int
	fmt.Sscan(s, &size, &limit)
	return size > 0 && size >= limit-max(limit/10, 1)
}

// wait waits for a signal. tmux 3.3a misses the end of a pane's program now and
// then (3 times in 160 on a busy machine, with a zombie left behind) until
// another child of its ends: so one does, once a second.
func wait(ctx context.Context, c *tmux.Client, channel string) error {
	done := make(chan error, 1)
	go func() { done <- c.WaitFor(ctx, channel) }()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-t.C:
			c.Run(ctx, "run-shell", "true") // if it fails, so does WaitFor
		}
	}
}

// exitStatus reads the status and the signal with which a pane's program ended.
func exitStatus(s string) (int, error) {
	status, signal, _ := strings.Cut(strings.TrimSuffix(s, "\n"), " ")
	if n, err := strconv.Atoi(status); err == nil {
		return n, nil
	}
	if n, err := strconv.Atoi(signal); err == nil {
		return 128 + n, nil // as a shell reports it
	}
	return 0, fmt.Errorf("tmux says nothing about the end of the command: %q", s)
}

// trim removes what is no output: the empty lines of the screen, and tmux's own
// line about the end.
func trim(p []byte) []byte {
	s := strings.TrimRight(string(p), "\n")
	if i := strings.LastIndexByte(s, '\n') + 1; strings.HasPrefix(s[i:], "Pane is dead") {
		s = strings.TrimRight(s[:i], "\n")
	}
	if s == "" {
		return nil
	}
	return []byte(s + "\n")
}
