package tmux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// LoadBuffer makes r's bytes, up to its end, the paste buffer of the given name;
// "" lets tmux choose one. They go through the socket: no file is made.
func (c *Client) LoadBuffer(ctx context.Context, name string, r io.Reader) error {
	args := []string{"load-buffer"}
	if name != "" {
		args = append(args, "-b", name)
	}
	return c.transfer(ctx, &Command{Args: append(args, "-"), Stdin: r})
}

// SaveBuffer writes the paste buffer of the given name, or the newest one for
// "", to w.
func (c *Client) SaveBuffer(ctx context.Context, name string, w io.Writer) error {
	args := []string{"save-buffer"}
	if name != "" {
		args = append(args, "-b", name)
	}
	return c.transfer(ctx, &Command{Args: append(args, "-"), Stdout: w})
}

// transfer runs a command that must succeed.
func (c *Client) transfer(ctx context.Context, cmd *Command) error {
	r := Result{args: cmd.Args, version: c.version}
	cmd.Args = literal(cmd.Args)
	var stderr bytes.Buffer
	cmd.Stderr = &limited{&stderr, 64 << 10}
	var err error
	if r.Status, err = c.Exec(ctx, cmd); err != nil {
		return err
	}
	r.Stderr = stderr.Bytes()
	return r.Err()
}

// Capture returns what a pane shows, as capture-pane -p prints it. Flags are
// those of capture-pane: "-e" keeps colours, "-S", "-" begins with the history,
// "-J" joins wrapped lines.
func (c *Client) Capture(ctx context.Context, pane string, flags ...string) ([]byte, error) {
	return c.output(ctx, append([]string{"capture-pane", "-p", "-t", pane}, flags...)...)
}

// WaitFor waits until somebody runs tmux wait-for -S with the name of the
// channel. A signal that comes before somebody waits is kept, but a second one
// takes it back.
func (c *Client) WaitFor(ctx context.Context, channel string) error {
	_, err := c.output(ctx, "wait-for", channel)
	return err
}

const (
	settleLimit  = 2 * time.Second  // for a pasted text to appear
	confirmLimit = 5 * time.Second  // for a pane to react to Enter
	firstLook    = time.Millisecond // then twice as long each time, up to
	longestLook  = 50 * time.Millisecond
)

// Paste types text into a pane and presses Enter, such that it is submitted: it
// leaves copy mode or any other mode, which would swallow the keys; it pastes
// from a buffer, of any length, with the marks of a bracketed paste if the
// program asked for them; it waits until the pane shows the text before it
// presses Enter, since a program that finds both in one read may take Enter for
// a part of the text; and it waits until the pane has reacted.
//
// Newlines arrive as carriage returns, as a terminal sends them; other bytes as
// they are. A text with the mark that ends a bracketed paste is refused: what
// follows it could run as a command.
//
// The error is a *CommandError if the pane takes no input, ErrNotConfirmed if
// text and Enter were sent but the pane shows no change within five seconds,
// and otherwise an *Error.
func (c *Client) Paste(ctx context.Context, pane string, text []byte) error {
	if bytes.Contains(text, []byte("\x1b[201~")) {
		return c.fail("paste", errors.New("the text contains the mark that ends a bracketed paste"))
	}
	look, err := c.look(ctx, pane)
	if err != nil {
		return err
	}
	pane = look.pane
	if look.refuses {
		return &CommandError{Args: []string{"paste-buffer"}, Status: 1, Stderr: "pane " + pane + " takes no input", Version: c.version}
	}
	if err := c.must(ctx, []string{"copy-mode", "-q", "-t", pane}); err != nil {
		return err
	}
	if len(text) > 0 {
		if look, err = c.look(ctx, pane); err != nil {
			return err
		}
		if err := c.insert(ctx, pane, text); err != nil {
			return err
		}
		if look, err = c.settle(ctx, look); err != nil {
			return err
		}
	}
	if err := c.must(ctx, []string{"send-keys", "-t", pane, "Enter"}); err != nil {
		return err
	}
	err = c.changed(ctx, look, confirmLimit)
	if isGone(err) {
		return nil // what was submitted has ended the pane
	}
	return c.fail("paste", err)
}

// insert pastes text by a buffer of its own, which is gone afterwards.
func (c *Client) insert(ctx context.Context, pane string, text []byte) error {
	buffer := "imsg-" + newToken()
	paste := []string{"paste-buffer", "-p", "-d", "-b", buffer, "-t", pane}
	err := c.LoadBuffer(ctx, buffer, bytes.NewReader(text))
	if err == nil {
		err = c.must(ctx, append(paste, "-S")) // tmux 3.7 and later change some bytes otherwise
	}
	var refused *CommandError
	if errors.As(err, &refused) && strings.Contains(refused.Stderr, "-S") {
		err = c.must(ctx, paste)
	}
	if err != nil { // the server may have the buffer also if ctx ended before it said so
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		c.Run(ctx, "delete-buffer", "-b", buffer)
	}
	return err
}

// must runs commands that must all succeed.
func (c *Client) must(ctx context.Context, commands ...[]string) error {
	results, err := c.RunList(ctx, commands)
	for _, r := range results {
		if err == nil {
			err = r.Err()
		}
	}
	return err
}

// A view is what a pane shows at one time.
type view struct {
	pane    string // its ID
	refuses bool   // the pane takes no input
	state   string // cursor and size of the history
	screen  string
}

// look looks at a pane.
func (c *Client) look(ctx context.Context, pane string) (view, error) {
	const format = "#{pane_id} #{pane_dead} #{pane_input_off} #{history_size} #{history_bytes} #{cursor_x} #{cursor_y} #{alternate_on} #{pane_current_command}"
	results, err := c.RunList(ctx, [][]string{
		{"display-message", "-p", "-t", pane, format},
		{"capture-pane", "-p", "-e", "-t", pane},
	})
	for _, r := range results {
		if err == nil {
			err = r.Err()
		}
	}
	if err != nil {
		return view{}, err
	}
	v := view{state: string(results[0].Stdout), screen: string(results[1].Stdout)}
	var dead, off string
	if _, err := fmt.Sscan(v.state, &v.pane, &dead, &off); err != nil {
		return view{}, &CommandError{Args: []string{"display-message"}, Status: 1, Stderr: "unexpected answer", Version: c.version}
	}
	v.refuses = dead == "1" || off == "1"
	return v, nil
}

// settle waits until the pane shows something else than before, and does not
// change any more: for two seconds at most, for many programs show nothing.
func (c *Client) settle(ctx context.Context, before view) (view, error) {
	err := c.changed(ctx, before, settleLimit)
	if err != nil && !errors.Is(err, ErrNotConfirmed) {
		return view{}, err
	}
	last := before
	for range 40 {
		now, err := c.look(ctx, before.pane)
		if err != nil || now == last {
			return now, err
		}
		last = now
		if err := wait(ctx, longestLook); err != nil {
			return view{}, err
		}
	}
	return last, nil
}

// changed waits until the pane shows something else than before.
func (c *Client) changed(ctx context.Context, before view, limit time.Duration) error {
	end := time.Now().Add(limit)
	for d := firstLook; ; d = min(2*d, longestLook) {
		now, err := c.look(ctx, before.pane)
		if err != nil || now != before {
			return err
		}
		if time.Now().After(end) {
			return ErrNotConfirmed
		}
		if err := wait(ctx, d); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
