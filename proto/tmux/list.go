package tmux

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// RunList runs commands one after the other, as many in one message as fit into
// 16 KiB and 1000 arguments. That costs a small part of a Run for each: connecting
// is what takes time.
//
// Arguments are taken as they are. As in a list of tmux's own, a command that
// fails ends it: its Result has the error, and those behind it the status
// NotRun. The results of a list that tmux cannot parse are all NotRun except
// for the first of its message, which has the error. What if-shell, run-shell
// or source-file run ends no list if it fails: tmux does not say whose error it
// is, and the last Result of the message has it.
//
// The error is as Run's; the results are then those of the commands that are
// known to have been carried out.
func (c *Client) RunList(ctx context.Context, commands [][]string) ([]Result, error) {
	results := make([]Result, 0, len(commands))
	token := newToken()
	left := c.cfg.MaxOutput
	for begin := 0; begin < len(commands); {
		args, n, err := c.pack(commands[begin:], token)
		if err != nil {
			return results, c.fail("run", err)
		}
		var stdout, stderr bytes.Buffer
		status, err := c.Exec(ctx, &Command{Args: args, Stdout: &shared{&stdout, &left}, Stderr: &shared{&stderr, &left}})
		part, failed := c.split(commands[begin:begin+n], token, stdout.Bytes(), stderr.Bytes(), status)
		begin += n
		if err != nil {
			for _, r := range part {
				if r.Status == 0 {
					results = append(results, r)
				}
			}
			return results, err
		}
		results = append(results, part...)
		if failed {
			break
		}
	}
	for i := len(results); i < len(commands); i++ {
		results = append(results, Result{Status: NotRun, args: commands[i], version: c.version})
	}
	return results, nil
}

// maxArgs is how many arguments tmux 3.7 and later take in one message.
const maxArgs = 1000

// pack puts as many commands as fit into one command line, with one behind each
// that prints the token.
func (c *Client) pack(commands [][]string, token string) (args []string, n int, err error) {
	size := 0
	for _, command := range commands {
		if len(command) == 0 {
			return nil, 0, fmt.Errorf("no command")
		}
		full := append([]string(nil), literal(command)...)
		if last := &full[len(full)-1]; *last == "" || strings.HasSuffix(*last, ";") || strings.HasSuffix(*last, `\`) {
			full = append(full, ";")
		} else {
			*last += ";"
		}
		full = append(full, "display", "-p", token+";")
		cost := 0
		for _, arg := range full {
			cost += len(arg) + 1
		}
		if n > 0 && (size+cost > maxCommand || len(args)+len(full) > maxArgs) {
			break
		}
		args, size, n = append(args, full...), size+cost, n+1
	}
	return args, n, nil // newCommand refuses a single one that is too long
}

// split takes the output of a list apart. The first command without its token
// is the one that failed.
func (c *Client) split(commands [][]string, token string, stdout, stderr []byte, status int) (results []Result, failed bool) {
	results = make([]Result, len(commands))
	end := []byte(token + "\n")
	for i, args := range commands {
		r := &results[i]
		r.args, r.version = args, c.version
		switch out, rest, ok := bytes.Cut(stdout, end); {
		case failed:
			r.Status = NotRun
		case ok:
			r.Stdout, stdout = out, rest
			if i == len(commands)-1 { // errors that end no list
				r.Stderr, r.Status = stderr, status
			}
		default:
			failed = true
			r.Stdout, r.Stderr, r.Status = stdout, stderr, max(status, 1)
		}
	}
	return results, failed
}
