package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

// outputFlags are the flags of every command that shows messages.
type outputFlags struct {
	verbose, json, asSend         bool
	write, filter, profile, color string
}

// add adds them to a command's.
func (o *outputFlags) add(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "show fields, where the profile knows them, and the payload in hex")
	fs.BoolVar(&o.json, "json", false, "one JSON object a line, with everything")
	fs.BoolVar(&o.asSend, "as-send", false, "the command that sends the message again")
	fs.StringVarP(&o.write, "write", "w", "", "record to `FILE` as pcapng, too; - is standard output, and nothing else is shown")
	fs.StringVarP(&o.filter, "filter", "f", "", "only messages for which `EXPR` is true, as 'type == OPEN and size > 100' (help filter)")
	fs.StringVar(&o.profile, "profile", "auto", "names and fields of `NAME`: auto, none, a program, or a file (help types)")
	fs.StringVar(&o.color, "color", "auto", "colors: auto, always, or never")
}

// completeFlags tells a shell what the values of these flags can be.
func completeFlags(c *cobra.Command) {
	if c.Flags().Lookup("profile") != nil {
		c.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions(append(profile.Names(), "auto", "none"), cobra.ShellCompDirectiveDefault))
	}
	if c.Flags().Lookup("color") != nil {
		c.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	}
}

// An output shows the messages that pass the filter, and records them. It is a
// capture.Writer, and safe for concurrent use.
type output struct {
	a       *app
	summary bool // Close tells how many there were

	mu        sync.Mutex
	keep      *filter // nil: everything
	profiles  *profile.Chooser
	print     func(o *output, r *capture.Record, p *profile.Profile) // nil: nothing is shown
	text      text
	buf       []byte // of one message
	out       *bufio.Writer
	rec       capture.Writer // nil: nothing is recorded
	file      *os.File
	recording string

	seen, shown, files int
	channels           map[int]bool
	err                error // the first
}

// open checks the flags and opens what is to be recorded to.
func (o *outputFlags) open(ctx context.Context, a *app) (_ *output, err error) {
	out := &output{a: a, channels: make(map[int]bool), print: (*output).line}
	out.text.verbose = o.verbose
	switch o.color {
	case "auto":
		out.text.color = a.outTTY && !a.noColor
	case "always":
		out.text.color = true
	case "never":
	default:
		return nil, usagef("--color %q: auto, always or never", o.color)
	}
	switch {
	case o.json && o.asSend:
		return nil, usagef("--json and --as-send: one of the two")
	case o.json:
		out.print = (*output).json
	case o.asSend:
		out.print = (*output).asSend
	}
	if out.profiles, err = profile.Choose(o.profile); err != nil {
		return nil, usageError{err}
	}
	if o.filter != "" {
		if out.keep, err = parseFilter(o.filter, out.profiles); err != nil {
			return nil, usageError{err}
		}
	}
	if s, ok := a.stdout.(*stdout); ok && a.isRead(regular(s.f)) {
		return nil, usagef("standard output is what is read")
	}
	out.out = bufio.NewWriterSize(a.stdout, 1<<16)
	var to io.Writer = out.out
	switch o.write {
	case "":
		return out, nil
	case "-":
		if a.outTTY {
			return nil, usagef("--write -: standard output is a terminal")
		}
		out.print = nil
	default:
		if fi, err := os.Stat(o.write); err == nil && a.isRead(fi) {
			return nil, usagef("--write %s: that is what is read", quote(o.write))
		}
		if out.file, err = create(ctx, a, o.write); err != nil {
			return nil, err
		}
		to, out.recording = out.file, o.write
	}
	out.rec = capture.NewPcapngWriter(to)
	return out, nil
}

// create opens what is to be recorded to. A FIFO waits for who reads it.
func create(ctx context.Context, a *app, path string) (*os.File, error) {
	open := func() (*os.File, error) { // for the owner only: payloads can be secret
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o600)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		return open()
	}
	f, err := a.openAgain(ctx, open, syscall.ENXIO, func(error) error {
		return fmt.Errorf("--write %s: waiting for who reads the FIFO", quote(path))
	})
	if errors.Is(err, syscall.ENXIO) {
		err = fmt.Errorf("%w: nobody has read the FIFO", context.Cause(ctx))
	}
	return f, err
}

// Write shows and records r, if the filter lets it pass. On a terminal it is
// seen at once, elsewhere when much has come, or by Flush.
func (o *output) Write(r *capture.Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.seen++
	p := o.profiles.Of(r)
	if o.keep != nil && !o.keep.match(r, p) {
		return nil
	}
	o.shown++
	o.files += len(r.Files)
	if len(o.channels) < manyChannels { // a hostile capture can have more than memory
		o.channels[r.Channel] = true
	}
	if o.rec != nil {
		if err := o.rec.Write(r); err != nil {
			o.err = o.recordError(err)
			return o.err
		}
	}
	if o.print != nil {
		o.buf = o.buf[:0]
		o.print(o, r, p)
		_, o.err = o.out.Write(o.buf)
		if o.a.outTTY && o.err == nil {
			o.err = o.out.Flush()
		}
	}
	return o.err
}

// manyChannels bounds what is kept of each channel.
const manyChannels = 1 << 16

// Flush writes what was held back: call it when there is nothing to do.
func (o *output) Flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = cmp.Or(o.err, o.out.Flush())
	return o.err
}

// Close writes what is left, and the summary. The error is the first that
// there was.
func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rec != nil {
		o.err = cmp.Or(o.err, o.recordError(o.rec.Close()))
	}
	if o.file != nil {
		o.err = cmp.Or(o.err, o.recordError(o.file.Close()))
	}
	o.err = cmp.Or(o.err, o.out.Flush())
	if o.summary {
		of := ""
		if o.shown != o.seen {
			of = fmt.Sprintf(" (of %d)", o.seen)
		}
		if o.recording != "" {
			of += ", recorded in " + quote(o.recording)
		}
		o.a.complain(o.a.running, fmt.Errorf("%s%s, %s on %s", count(o.shown, "message"), of, count(o.files, "file"), count(len(o.channels), "channel")))
	}
	return o.err
}

func (o *output) recordError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("recording %s: %w", o.recording, err)
}

func (o *output) line(r *capture.Record, p *profile.Profile)   { o.buf = o.text.append(o.buf, r, p) }
func (o *output) json(r *capture.Record, p *profile.Profile)   { o.buf = appendJSON(o.buf, r, p) }
func (o *output) asSend(r *capture.Record, p *profile.Profile) { o.buf = appendSend(o.buf, r, p) }

// count returns for example "1 file", "2 files" and "2 processes".
func count(n int, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "s"):
		what += "es"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
