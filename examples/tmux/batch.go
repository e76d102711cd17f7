package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"example.org/imsg/proto/tmux"
)

// batch runs a list and prints the results in order.
func batch(ctx context.Context, c *tmux.Client, _ []string) (int, error) {
	var list [][]string
	lines := bufio.NewScanner(os.Stdin)
	for n := 1; lines.Scan(); n++ {
		args, err := split(lines.Text())
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		if len(args) > 0 {
			list = append(list, args)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	results, err := c.RunList(ctx, list)
	status, left := 0, 0
	for _, r := range results {
		if r.Status == tmux.NotRun {
			left++
			continue
		}
		os.Stdout.Write(r.Stdout)
		os.Stderr.Write(r.Stderr)
		status = max(status, r.Status)
	}
	if left > 0 {
		fmt.Fprintf(os.Stderr, "%d commands were not run\n", left)
	}
	return status, err
}

// split takes a line apart at its spaces, except between quotes.
func split(line string) (args []string, err error) {
	var arg strings.Builder
	var quote byte
	inArg := false
	for i := range len(line) { // whatever its encoding is
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inArg = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inArg {
				args = append(args, arg.String())
			}
			arg.Reset()
			inArg = false
		default:
			arg.WriteByte(c)
			inArg = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote has no end")
	}
	if inArg {
		args = append(args, arg.String())
	}
	return args, nil
}

// watch prints the events of a session.
func watch(ctx context.Context, c *tmux.Client, args []string) (int, error) {
	k, err := c.Control(ctx, strings.Join(args, ""), "ignore-size", "read-only", "pause-after=5")
	if err != nil {
		return 0, err
	}
	defer k.Close()
	for {
		select {
		case e, open := <-k.Events():
			if !open {
				return 0, nil
			}
			show(e)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// show prints an event; what a program has written is quoted, for it may
// contain anything.
func show(e tmux.Event) {
	switch e := e.(type) {
	case tmux.ExtendedOutput:
		fmt.Printf("Output %s %q\n", e.Pane, e.Data)
	case tmux.Unknown:
		fmt.Printf("Unknown %q\n", e.Line)
	default:
		fmt.Printf("%s %q\n", strings.TrimPrefix(fmt.Sprintf("%T", e), "tmux."), fmt.Sprintf("%+v", e))
	}
}
