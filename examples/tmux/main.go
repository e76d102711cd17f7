// Command tmux runs one command in a tmux server, as tmux itself would.
//
//	go run ./examples/tmux ls
//	go run ./examples/tmux -S /tmp/s display-message -p '#{version}'
//	go run ./examples/tmux -C attach-session
//
// tmux 3.6 (November 2025) changed the dialect, and on a little-endian machine
// the two look the same until a file is passed. Here only the client passes
// files, so there is nothing to listen for, imsg.Auto cannot help, and a
// client has to know. This one passes files only where the server needs them:
// the output of a command comes back in messages, and only in control mode
// (-C) does the server itself use the client's standard input and output. And
// before it passes one, it asks the server for its version, on a connection
// without files. -dialect overrides the answer. On a big-endian machine, where
// the dialects differ in every header, an old server needs -dialect legacy.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"example.org/imsg"
)

func main() {
	socket := flag.String("S", defaultSocket(), "`path` of the server's socket")
	control := flag.Bool("C", false, "control mode: pass standard input and output to the server")
	dialect := flag.String("dialect", "auto", "current (tmux 3.6 and later), legacy, or auto: ask the server")
	timeout := flag.Duration("timeout", 0, "give up after this `time`; 0: never")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(1)
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

// run finds the dialect out, runs the command and returns its exit status.
func run(ctx context.Context, socket, dialect string, control bool, args []string) (int, error) {
	d, ok := map[string]imsg.Dialect{"auto": imsg.Auto, "current": imsg.Current, "legacy": imsg.Legacy}[dialect]
	if !ok {
		return 0, fmt.Errorf("unknown dialect %q", dialect)
	}
	if d == imsg.Auto && control {
		var err error
		if d, err = ask(ctx, socket); err != nil {
			return 0, err
		}
	}
	if control { // the server makes them non-blocking for all who share them
		defer syscall.SetNonblock(syscall.Stdin, false)
		defer syscall.SetNonblock(syscall.Stdout, false)
	}
	c := &client{out: os.Stdout, control: control}
	return c.run(ctx, socket, &imsg.Config{Dialect: d, AllowFDPass: control}, args)
}

// ask finds a server's dialect out.
func ask(ctx context.Context, socket string) (imsg.Dialect, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out strings.Builder
	c := &client{out: &out}
	if _, err := c.run(ctx, socket, nil, []string{"display-message", "-p", "#{version}"}); err != nil {
		return 0, err
	}
	return dialectOf(strings.TrimSpace(out.String()))
}

// dialectOf tells which dialect a version of tmux speaks, for example "3.5a",
// "next-3.8" or "openbsd-7.7". The snapshots before 3.6 may speak either.
func dialectOf(version string) (imsg.Dialect, error) {
	first, v := 3*100+6, strings.TrimPrefix(version, "next-")
	if s, ok := strings.CutPrefix(version, "openbsd-"); ok {
		first, v = 7*100+7, s
	}
	var major, minor int
	if n, _ := fmt.Sscanf(v, "%d.%d", &major, &minor); n != 2 || version == "next-3.6" {
		return 0, fmt.Errorf("tmux %q speaks an unknown dialect: use -dialect", version)
	}
	if major*100+minor < first {
		return imsg.Legacy, nil
	}
	return imsg.Current, nil
}

// defaultSocket is where tmux looks: the server of the pane that we run in, or
// else the user's.
func defaultSocket() string {
	if s, _, _ := strings.Cut(os.Getenv("TMUX"), ","); s != "" {
		return s
	}
	dir := cmp.Or(os.Getenv("TMUX_TMPDIR"), "/tmp")
	return filepath.Join(dir, fmt.Sprintf("tmux-%d", os.Getuid()), "default")
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
		return "server exited unexpectedly"
	}
	return err.Error()
}
