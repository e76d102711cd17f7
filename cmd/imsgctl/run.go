package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"example.org/imsg"
	"example.org/imsg/internal/profile"
	"example.org/imsg/internal/relay"
)

// A runCommand is a command line of run.
type runCommand struct {
	a     *app
	flags relayFlags
	fd    int
}

func newRunCommand(a *app) *cobra.Command {
	r := &runCommand{a: a}
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a child that expects its channel, and show what is said on it",
		Long: `Run starts COMMAND with a channel as its descriptor 3, or --fd, where a child of
a privilege-separated program expects it, and shows the messages.

If run has inherited a channel at the same descriptor, it passes messages on
between COMMAND and its parent: put "imsgctl run -w FILE --" in front of the
child's command in the parent's program or configuration. Then what COMMAND
prints is untouched, and the messages are shown on standard error.

Otherwise it reads messages from standard input, one a line, in the form of send:
a type and the payload, such as "7 text:hello hex:00" or "REQUEST id=5", with
--file PATH to pass a descriptor. Quote what has spaces. The channel ends with
the input. What COMMAND prints goes to standard error then.

The exit status is that of COMMAND, and 1 if it was killed.`,
		Example: `  echo '10 hex:0102' | imsgctl run -- ./child
  imsgctl run --fd 0 --dialect legacy -- table-passwd /etc/passwd
  imsgctl run -w child.pcapng -- /usr/libexec/child        in place of /usr/libexec/child`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("a command is needed, behind --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return r.run(c.Context(), args) },
	}
	r.flags.add(c)
	c.Flags().IntVar(&r.fd, "fd", 3, "descriptor of the channel")
	c.Flags().SetInterspersed(false)
	return c
}

func (r *runCommand) run(ctx context.Context, argv []string) error {
	if r.fd < 0 || r.fd > 1000 {
		return usagef("--fd %d: 0 to 1000", r.fd)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	parent, err := imsg.NewConn(r.fd, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true})
	if err != nil {
		return r.talk(ctx, cmd)
	}
	defer parent.Close()
	return r.between(ctx, cmd, parent)
}

// between stands between the child and our own parent.
func (r *runCommand) between(ctx context.Context, cmd *exec.Cmd, parent *imsg.Conn) error {
	a := *r.a
	a.stdout, a.outTTY = a.stderr, a.errTTY
	if r.flags.out.write == "-" {
		return usagef("-w -: standard output is the command's")
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	switch r.fd {
	case 0:
		cmd.Stdin = nil
	case 1:
		cmd.Stdout = nil
	case 2:
		return usagef("--fd 2: the messages are shown there")
	}
	_, t, err := r.flags.open(context.WithoutCancel(ctx), &a, "")
	if err != nil {
		return err
	}
	parent.SetDialect(t.ConnConfig().Dialect)
	return t.close(r.serve(cmd, t, relay.End{Conn: parent, Who: relay.Peer(parent)}))
}

// talk sends the messages that standard input has.
func (r *runCommand) talk(ctx context.Context, cmd *exec.Cmd) error {
	if r.fd != 1 {
		cmd.Stdout = r.a.stderr
	}
	if r.fd != 2 {
		cmd.Stderr = r.a.stderr
	}
	ctx, t, err := r.flags.open(ctx, r.a, "")
	if err != nil {
		return err
	}
	ours, end, err := imsg.Pair(t.ConnConfig())
	if err != nil {
		return t.close(err)
	}
	defer end.Close()
	defer ours.Close()
	ours.SetMaxSize(r.flags.maxSize)
	defer context.AfterFunc(ctx, func() { ours.Close() })()
	s := &sender{a: r.a, dialect: r.flags.dialect}
	switch name := r.flags.out.profile; name {
	case "auto":
		s.profile = profile.For("", cmd.Path)
	case "none":
	default:
		if s.profile, err = profile.Load(name); err != nil {
			return t.close(err)
		}
	}
	go func() {
		for m, err := range ours.Each(context.Background()) { // they are shown already
			if err != nil {
				return
			}
			_ = m
		}
	}()
	read := make(chan error, 1)
	go func() {
		if r.a.inTTY {
			r.a.complain("run", errors.New("a message a line: TYPE [payload...]; Ctrl-D ends the channel"))
		}
		err := s.lines(ctx, ours)
		ours.CloseWrite()
		read <- err
	}()
	err = r.serve(cmd, t, relay.End{Conn: end, Who: self()})
	select {
	case rerr := <-read:
		if rerr != nil {
			err = rerr
		}
	default: // the child has ended first
	}
	return t.close(err)
}

// serve starts the child, passes messages on, and waits.
func (r *runCommand) serve(cmd *exec.Cmd, t *tap, parent relay.End) error {
	child, err := imsg.StartChild(cmd, r.fd, t.ConnConfig())
	if err != nil {
		return err
	}
	defer child.Close()
	t.out.summary = true
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(sigs)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-sigs:
				cmd.Process.Signal(sig)
			case <-done:
				return
			}
		}
	}()
	t.Pipe(context.Background(), parent, relay.End{Conn: child, Who: relay.ProcessOf(cmd.Process.Pid)})
	err = cmd.Wait()
	close(done)
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
		return exitStatus(e.ExitCode())
	} else if ok {
		return fmt.Errorf("%s: %w", cmd.Path, err)
	}
	return err
}

// lines sends a message for each line of standard input.
func (s *sender) lines(ctx context.Context, c *imsg.Conn) error {
	in := bufio.NewScanner(s.a.stdin)
	in.Buffer(nil, 32<<20)
	for n := 1; in.Scan(); n++ {
		args, err := splitWords(in.Text())
		if err == nil && len(args) > 0 {
			err = s.line(ctx, c, args)
		}
		if errors.Is(err, syscall.EPIPE) {
			return fmt.Errorf("line %d: the command has closed the channel", n)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return in.Err()
}

func (s *sender) line(ctx context.Context, c *imsg.Conn, args []string) (err error) {
	var f *os.File
	for i := 1; i < len(args); i++ {
		if args[i] != "--file" {
			continue
		}
		if i+1 == len(args) || f != nil {
			return errors.New("--file takes one path, once")
		}
		if f, err = os.Open(args[i+1]); err != nil {
			return err
		}
		defer f.Close()
		args = append(args[:i:i], args[i+2:]...)
		i--
	}
	types, err := s.types(args[:1])
	if err != nil {
		return err
	}
	payload, err := s.payload(types[0], args[1:])
	if err != nil {
		return err
	}
	err = c.Send(ctx, imsg.Header{Type: types[0]}, f, payload)
	if errors.Is(err, imsg.ErrTooLarge) {
		return errors.New(asFlags.Replace(err.Error()))
	}
	return err
}

// splitWords splits a line at spaces. Within ' or " a space is part of the word;
// a word that begins with # ends the line.
func splitWords(line string) (words []string, err error) {
	var word strings.Builder
	begun, quote := false, byte(0)
	for _, c := range []byte(line) { // which need not be UTF-8
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			begun, quote = true, c
		case c == ' ' || c == '\t':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		case c == '#' && !begun:
			return words, nil
		default:
			begun = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}
