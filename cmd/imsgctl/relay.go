package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"example.org/imsg"
	"example.org/imsg/internal/relay"
)

// relayFlags are the flags of the commands that stand between two programs.
type relayFlags struct {
	dialect string
	maxSize int
	out     outputFlags
}

func (f *relayFlags) add(c *cobra.Command) {
	f.out.add(c.Flags())
	completeFlags(c)
	c.Flags().StringVar(&f.dialect, "dialect", "auto", "what both sides speak: auto, current, or legacy")
	c.Flags().IntVar(&f.maxSize, "max-size", relay.DefaultMaxSize, "largest payload in `BYTES`: a longer one ends its connection")
	c.RegisterFlagCompletionFunc("dialect", cobra.FixedCompletions([]string{"auto", "current", "legacy"}, cobra.ShellCompDirectiveNoFileComp))
}

// A tap is a relay whose messages are shown.
type tap struct {
	*relay.Relay
	rec *relay.Recorder
	out *output // tells at the end how much there was, once there is something to count
}

// parseDialect is for flags.
func parseDialect(name string) (imsg.Dialect, error) {
	for _, d := range []imsg.Dialect{imsg.Auto, imsg.Current, imsg.Legacy} {
		if d.String() == name {
			return d, nil
		}
	}
	return 0, usagef("--dialect %q: auto, current or legacy", name)
}

// asFlags names what the library's errors name as the flags of the command.
var asFlags = strings.NewReplacer("see SetMaxSize, of both ends", "see --max-size", "see Config.Dialect", "see --dialect")

// open makes a tap of the channel with that name. The context that it returns
// ends with ctx, and when nobody reads standard output any longer.
func (f *relayFlags) open(ctx context.Context, a *app, name string) (context.Context, *tap, error) {
	d, err := parseDialect(f.dialect)
	if err != nil {
		return nil, nil, err
	}
	size, most := f.maxSize, 1<<30
	if d == imsg.Legacy {
		most = 1<<16 - 1 - imsg.HeaderSize
		if size == relay.DefaultMaxSize {
			size = most
		}
	}
	if size < 1 || size > most {
		return nil, nil, usagef("--max-size %d: from 1 to %d bytes, with --dialect %v", size, most, d)
	}
	out, err := f.out.open(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	report := func(err error) { a.complain(a.running, errors.New(asFlags.Replace(err.Error()))) }
	ctx, stop := context.WithCancelCause(ctx)
	rec := relay.NewRecorder(out, func(err error) {
		if errors.Is(err, errStdoutClosed) {
			stop(err)
		} else {
			report(fmt.Errorf("%w: messages are passed on, but no longer shown and recorded", err))
		}
	})
	cfg := relay.Config{Dialect: d, MaxSize: size, Name: name, Record: rec, Report: report}
	return ctx, &tap{relay.New(cfg), rec, out}, nil
}

// close writes the summary. The error is that of what was shown or recorded, and
// otherwise err.
func (t *tap) close(err error) error {
	if cerr := t.rec.Close(); cerr != nil {
		return cerr
	}
	return err
}
