package tmux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// defaultFlags are the client flags of a Control that is given none: it does
// not change the size of windows, and the server stops sending the output of a
// pane when this process has not read for five seconds, instead of ending the
// client or stopping the pane.
var defaultFlags = []string{"ignore-size", "pause-after=5"}

const (
	maxLine    = 1 << 20 // of a notification; tmux's are below 64 KiB
	maxPending = 4096    // commands that wait for their replies
	batchSize  = 256     // commands of a RunList that are sent before the first reply is waited for
	closeLimit = 3 * time.Second
)

// A Control is a control client: it is attached to a session, runs commands one
// after the other without connecting anew, and is told what happens. It must be
// closed. Its methods may be called by many goroutines at a time.
//
// The server never waits for a program that uses a Control: what it sends is
// always read, and events that the program does not take from Events are
// dropped when they cost more than 8 MiB (see Lost).
type Control struct {
	client *Client
	talk   *conversation
	in     *os.File // commands
	out    *os.File // replies and notifications
	token  string   // ends each reply
	events eventQueue
	ch     chan Event
	served chan struct{} // closed when the connection has ended
	done   chan struct{} // closed when the pipe has, too
	closed chan struct{} // closed by Close
	cancel func()        // ends the connection
	once   sync.Once
	work   sync.WaitGroup

	writing chan struct{} // empty while somebody writes to in

	mu       sync.Mutex
	attached chan struct{} // closed when the server has answered to the attach; nil afterwards
	greeting pending
	pending  []*pending
	err      error // why the client has ended
}

// Control attaches a control client to a session, or to the one that tmux
// chooses if target is "". The client flags are those of attach-session -f,
// such as "read-only", "no-output" or "pause-after=1"; without any they are
// "ignore-size" and "pause-after=5". ctx ends the attempt, not the client: that
// is what Close does. The error is an *Error, or a *CommandError if tmux
// refuses to attach.
func (c *Client) Control(ctx context.Context, target string, flags ...string) (*Control, error) {
	if len(flags) == 0 {
		flags = defaultFlags
	}
	args := []string{"attach-session", "-f", strings.Join(flags, ",")}
	if target != "" {
		args = append(args, "-t", target)
	}
	now, d, err := c.again(ctx)
	if err != nil {
		return nil, now.fail("control", err)
	}
	talk, in, out, err := now.beginControl(ctx, d, &Command{Args: literal(args), Control: true})
	if err != nil {
		return nil, now.fail("control", err)
	}
	served, cancel := context.WithCancel(context.Background())
	k := &Control{
		client: now, talk: talk, in: in, out: out, token: newToken(), cancel: cancel,
		ch: make(chan Event), served: make(chan struct{}), done: make(chan struct{}), closed: make(chan struct{}),
		writing: make(chan struct{}, 1), attached: make(chan struct{}),
		greeting: pending{left: now.cfg.MaxOutput, result: Result{args: args, version: now.version}},
		events:   eventQueue{wake: make(chan struct{}, 1)},
	}
	k.writing <- struct{}{}
	attached := k.attached
	k.work.Go(func() { k.serve(served) })
	k.work.Go(k.read)
	k.work.Go(k.deliver)
	select {
	case <-attached:
	case <-k.done:
	case <-ctx.Done():
		cancel()
		err = ctx.Err()
	}
	k.mu.Lock()
	failed := k.greeting.result
	if err == nil && k.attached != nil {
		err = k.err // it ended before
	}
	k.mu.Unlock()
	if err == nil && failed.Status == 0 {
		return k, nil
	}
	k.Close()
	if err == nil {
		err = failed.Err()
	}
	return nil, now.fail("control", err)
}

// serve answers the messages of the server.
func (k *Control) serve(ctx context.Context) {
	k.fail(k.talk.serve(ctx))
	if ctx.Err() != nil { // hung up
		k.out.SetReadDeadline(time.Unix(1, 0))
	} else { // the server closes its end now, and all that it wrote can be read
		k.out.SetReadDeadline(time.Now().Add(closeLimit))
	}
	close(k.served)
}

// fail keeps the first reason why the client has ended.
func (k *Control) fail(err error) {
	if err == nil {
		err = ErrExited
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = err
	}
}

// read takes apart what the server writes, to the end.
func (k *Control) read() {
	r := controlReader{handler: k, max: max(maxLine, k.client.cfg.MaxOutput)}
	p := make([]byte, 64<<10)
	var err error
	for err == nil {
		var n int
		n, err = k.out.Read(p)
		r.write(p[:n])
	}
	k.out.Close()
	k.in.Close()
	hangUp := time.AfterFunc(closeLimit, k.cancel) // the client is nothing without its pipe
	<-k.served
	hangUp.Stop()
	k.cancel()
	k.mu.Lock()
	waiting := k.pending
	k.pending = nil
	k.mu.Unlock()
	for _, p := range waiting {
		close(p.over)
	}
	k.events.exit(k.talk.reason)
	close(k.done)
}

// deliver hands out the events.
func (k *Control) deliver() {
	defer close(k.ch)
	for {
		e, ok := k.events.pop()
		if !ok {
			select {
			case <-k.events.wake:
				continue
			case <-k.closed:
				return
			}
		}
		select {
		case k.ch <- e:
		case <-k.closed:
			return
		}
		if _, last := e.(Exit); last {
			return
		}
	}
}

// Events returns the channel on which everything comes that is not the reply to
// a command, in order. It is closed after Exit, and by Close.
func (k *Control) Events() <-chan Event { return k.ch }

// Version returns the version of the server.
func (k *Control) Version() string { return k.client.version }

// Close detaches the client and waits until it has ended: for three seconds at
// most, then it hangs up. A second Close does nothing. The error is always nil.
func (k *Control) Close() error {
	k.once.Do(func() {
		close(k.closed)
		k.in.Close() // which is how a control client ends
		defer time.AfterFunc(closeLimit, k.cancel).Stop()
		k.work.Wait()
	})
	return nil
}

// Err returns why the client has ended: ErrExited if it was told to, and nil
// while it has not.
func (k *Control) Err() error {
	select {
	case <-k.done:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.err
	default:
		return nil
	}
}

// Run runs one command and returns its result when it is complete. The
// arguments are taken as they are. A command that waits, such as wait-for,
// holds up those after it; use Client.WaitFor. When ctx ends, or with an error,
// the command may have been carried out nevertheless.
func (k *Control) Run(ctx context.Context, args ...string) (Result, error) {
	r, err := k.RunList(ctx, [][]string{args})
	if len(r) == 0 {
		return Result{}, err
	}
	return r[0], err
}

// RunList runs commands one after the other, without waiting for the reply to
// one before it sends the next. Each is carried out whatever became of those
// before it.
func (k *Control) RunList(ctx context.Context, commands [][]string) ([]Result, error) {
	results := make([]Result, 0, len(commands))
	for len(commands) > 0 {
		n := min(len(commands), batchSize)
		sent, err := k.send(ctx, commands[:n])
		if err != nil {
			return results, k.client.fail("control", err)
		}
		for _, p := range sent {
			if err == nil {
				err = k.wait(ctx, p)
			}
			if err != nil {
				k.mu.Lock()
				p.abandoned = true
				p.result = Result{}
				k.mu.Unlock()
				continue
			}
			results = append(results, p.result)
		}
		if err != nil {
			return results, k.client.fail("control", err)
		}
		commands = commands[n:]
	}
	return results, nil
}

// wait waits for the result of a command.
func (k *Control) wait(ctx context.Context, p *pending) error {
	select {
	case <-p.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case p.truncated:
		return ErrOutputTooLarge
	case p.result.Status == NotRun:
		return k.err
	}
	return nil
}

// send writes commands, each with one behind it that ends its reply.
func (k *Control) send(ctx context.Context, commands [][]string) ([]*pending, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var text []byte
	sent := make([]*pending, len(commands))
	for i, args := range commands {
		if len(args) == 0 {
			return nil, errors.New("no command")
		}
		for j, arg := range args {
			if strings.ContainsRune(arg, 0) {
				return nil, fmt.Errorf("argument %q contains a NUL", arg)
			}
			if j > 0 {
				text = append(text, ' ')
			}
			text = appendQuoted(text, arg)
		}
		text = append(append(append(text, "\ndisplay-message -p "...), k.token...), '\n')
		sent[i] = &pending{
			left: k.client.cfg.MaxOutput, over: make(chan struct{}),
			result: Result{args: args, version: k.client.version, Status: NotRun},
		}
	}
	select {
	case <-k.writing:
	case <-k.done:
		return nil, k.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { k.writing <- struct{}{} }()
	k.mu.Lock()
	err := k.err
	switch {
	case err != nil:
	case len(k.pending)+len(sent) > maxPending:
		err = fmt.Errorf("%d commands wait for their replies", len(k.pending))
	default:
		k.pending = append(k.pending, sent...)
	}
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return sent, k.write(ctx, text, len(sent))
}

// write writes the text of n commands, which are the last that are pending. If
// it is torn the client is of no more use.
func (k *Control) write(ctx context.Context, text []byte, n int) error {
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		k.in.SetWriteDeadline(time.Unix(1, 0))
		close(late)
	})
	w, err := k.in.Write(text)
	if !stop() {
		<-late
		k.in.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, os.ErrClosed) || hungUp(err) {
		err = ErrExited
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if w == 0 {
		k.pending = k.pending[:max(0, len(k.pending)-n)]
		return err
	}
	if k.err == nil {
		k.err = fmt.Errorf("a command was sent in part: %w", err)
	}
	k.in.Close()
	return err
}
