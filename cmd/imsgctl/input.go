package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
)

// inputFlags are the flags of every command that reads a capture.
type inputFlags struct {
	format, dialect, order string
	max                    int
	follow                 context.Context // until it ends the file may grow; nil: it does not
}

func (i *inputFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&i.format, "format", "auto", "what the file is: auto, "+strings.Join(capture.Formats(), ", "))
	flags.StringVar(&i.dialect, "dialect", "auto", "of a raw stream or hex: auto, current, or legacy")
	flags.StringVar(&i.order, "order", "auto", "byte order of a raw stream or hex: auto, little, or big")
	flags.IntVar(&i.max, "max", capture.DefaultMax, "`BYTES` of the longest message to believe in, header included")
	for name, values := range map[string][]string{
		"format": append(capture.Formats(), "auto"), "dialect": {"auto", "current", "legacy"}, "order": {"auto", "little", "big"},
	} {
		c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// An input is a capture that is read.
type input struct {
	capture.Reader
	a      *app
	name   string // "" for standard input
	format string
	file   io.Closer
	size   int64 // 0: not known
	read   atomic.Int64
	from   io.Reader
}

// open opens a capture: "" and "-" are standard input. If ctx ends before the
// first bytes have come, there are none.
func (i *inputFlags) open(ctx context.Context, a *app, name string) (*input, error) {
	in := &input{a: a, from: a.stdin}
	o := capture.Options{Max: i.max, Warn: func(s string) { a.complain(a.running, fmt.Errorf("%s", s)) }}
	switch i.dialect {
	case "auto":
	case "current":
		o.Dialect = capture.Current
	case "legacy":
		o.Dialect = capture.Legacy
	default:
		return nil, usagef("--dialect %q: auto, current or legacy", i.dialect)
	}
	switch i.order {
	case "auto":
	case "little":
		o.Order = binary.LittleEndian
	case "big":
		o.Order = binary.BigEndian
	default:
		return nil, usagef("--order %q: auto, little or big", i.order)
	}
	if i.max < 16 || i.max > capture.MaxPayload {
		return nil, usagef("--max %d: 16 to %d", i.max, capture.MaxPayload)
	}
	if i.format != "auto" && !strings.Contains(" "+strings.Join(capture.Formats(), " ")+" ", " "+i.format+" ") {
		return nil, usagef("--format %q: auto, %s", i.format, strings.Join(capture.Formats(), ", "))
	}
	if name != "" && name != "-" {
		f, ok, err := within(ctx, func() (*os.File, error) { return i.file(ctx, a, name) }) // a FIFO waits for who writes
		if !ok {
			in.Reader = nothing{}
			return in, nil
		} else if err != nil {
			return nil, err
		}
		in.name, in.file, in.from = name, f, f
		if i.follow != nil {
			in.from = follower{i.follow, f}
		}
		if fi := regular(f); fi != nil {
			in.size, a.reading = fi.Size(), fi
		}
	} else if f, ok := a.stdin.(*os.File); ok && regular(f) != nil {
		a.reading = regular(f)
	} else if a.inTTY {
		a.complain(a.running, fmt.Errorf("reading from the terminal: paste hex or what strace printed, and end with ^D"))
	}
	var format string // another variable than in.format, which is read although this goes on
	r, ok, err := within(ctx, func() (r capture.Reader, err error) {
		r, format, err = capture.Open(in.counted(), i.format, o)
		return r, err
	})
	if !ok {
		in.Reader = nothing{}
		return in, nil
	}
	if err != nil {
		in.Close()
		return nil, in.wrap(err)
	}
	in.Reader, in.format = r, format
	return in, nil
}

// file opens the file. One that is to grow may not be there yet, for who records to
// it was started at the same time.
func (i *inputFlags) file(ctx context.Context, a *app, name string) (*os.File, error) {
	open := func() (*os.File, error) { return os.Open(name) }
	if i.follow == nil {
		return open()
	}
	return a.openAgain(ctx, open, fs.ErrNotExist, func(err error) error { return fmt.Errorf("%w: waiting until it is there", err) })
}

// openAgain calls open until its error is another one than what, or ctx ends. If
// it has to wait, it says once what for.
func (a *app) openAgain(ctx context.Context, open func() (*os.File, error), what error, say func(error) error) (*os.File, error) {
	f, err := open()
	if errors.Is(err, what) {
		a.complain(a.running, say(err))
	}
	for errors.Is(err, what) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
			f, err = open()
		}
	}
	return f, err
}

// nothing is a capture that has not begun.
type nothing struct{}

func (nothing) Next() (*capture.Record, error) { return nil, io.EOF }

// within returns what do returns, and false if ctx ends before: nobody waits for
// it then, for the program ends.
func within[T any](ctx context.Context, do func() (T, error)) (v T, ok bool, err error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, true, r.err
	case <-ctx.Done():
		return v, false, nil
	}
}

// regular returns what f is, if it is a file with an end.
func regular(f *os.File) os.FileInfo {
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
		return fi
	}
	return nil
}

// isRead reports whether fi is the capture that is read, which nothing may be
// written to.
func (a *app) isRead(fi os.FileInfo) bool {
	return fi != nil && a.reading != nil && os.SameFile(fi, a.reading)
}

// counted is the file, whose bytes are counted.
func (in *input) counted() io.Reader { return countedReader{in} }

type countedReader struct{ in *input }

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.in.from.Read(p)
	r.in.read.Add(int64(n))
	return n, err
}

// wrap tells which file an error is about.
func (in *input) wrap(err error) error {
	if in.name == "" {
		return fmt.Errorf("standard input: %w", err)
	}
	return fmt.Errorf("%s: %w", quote(in.name), err)
}

// layout says in which dialect and byte order a raw stream was read, or "".
func (in *input) layout() string {
	if r, ok := in.Reader.(*capture.RawReader); ok {
		return r.Layout()
	}
	return ""
}

// Close closes the file.
func (in *input) Close() error {
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// each calls do for every record, and idle now and then meanwhile, on another
// goroutine. It ends with the input, with do's error, and with ctx, whose end is
// no error: what was read so far is good. Long work is shown on a terminal.
func (in *input) each(ctx context.Context, do func(*capture.Record) error, idle func()) error {
	done := make(chan error, 1)
	var n atomic.Int64
	var mu sync.Mutex // while do runs
	stopped := false
	go func() {
		for {
			r, err := in.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				done <- in.wrap(err)
				return
			}
			n.Add(1)
			mu.Lock()
			if !stopped {
				err = do(r)
			}
			quit := stopped || err != nil
			mu.Unlock()
			if quit {
				done <- err
				return
			}
		}
		done <- nil
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	begin, shown := time.Now(), false
	show := in.a.errTTY && !in.a.outTTY && in.size > 0
	for {
		select {
		case err := <-done:
			if shown {
				fmt.Fprint(in.a.stderr, "\r\x1b[K")
			}
			return err
		case <-ctx.Done():
			mu.Lock()
			defer mu.Unlock()
			stopped = true // and nobody is waited for: a read of a terminal or a pipe can last
			return nil
		case <-tick.C:
			idle()
			if show && time.Since(begin) > time.Second {
				shown = true
				fmt.Fprintf(in.a.stderr, "\r%3d%% of %d MB, %d messages\x1b[K", 100*in.read.Load()/in.size, in.size>>20, n.Load())
			}
		}
	}
}
