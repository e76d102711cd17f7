package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/ptrace"
)

// A traceCommand is a command line of trace.
type traceCommand struct {
	a     *app
	out   outputFlags
	pids  []int
	files bool
}

// straceLine makes strace print what decode reads.
const straceLine = `strace -f -qq -z -ttt -yy -xx -s 70000 -e signal=none \
    -e trace=read,write,readv,writev,sendmsg,recvmsg,sendto,recvfrom,sendmmsg,recvmmsg \
    -o FILE COMMAND
  imsgctl decode FILE`

func newTraceCommand(a *app) *cobra.Command {
	t := &traceCommand{a: a}
	c := &cobra.Command{
		Use:   "trace COMMAND [ARG...] | -p PID",
		Short: "Show what running programs say over all their imsg channels",
		Long: `Trace starts a command, or takes hold of processes that run already, and shows
each message that they and all their children send or receive over a unix stream
socket, also to each other: once, though both ends are traced, with what the
descriptors in it are, and the time that it waited in the socket if that is more
than a millisecond (or -v). One that the other program does not take is shown
after a second, or 10 if the output is no terminal. Sockets over which something
else than imsg goes are left out.

Trace ends with the last of the programs, or by Ctrl-C. They run slower, and
otherwise as before, also in a sandbox, and go on whatever ends trace. Without
root only one's own programs can be traced, and a set-user-ID program that they
start has no more rights than they.
Of a program that is traced by something else (gdb, strace) nothing can be seen,
nor of 32-bit programs, nor what goes over io_uring.

What the command prints goes to standard error. Beside one that draws on the
terminal, redirect what trace shows: imsgctl trace tmux >FILE.

On other machines than Linux on amd64 and arm64, or for 32-bit programs:
  ` + straceLine,
		Example: `  imsgctl trace bgpd -d                     from its start on
  imsgctl trace -p $(pgrep -o ntpd)         a daemon that runs, and its children
  imsgctl trace -w start.pcapng -- ./mydaemon -v
  imsgctl trace --json -f file -- tmux -Ltest new true`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 0 && len(t.pids) > 0:
				return usagef("a command or --pid: one of the two")
			case len(args) == 0 && len(t.pids) == 0:
				return usagef("a command is missing, or --pid PID")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return t.run(c.Context(), args) },
	}
	t.out.add(c.Flags())
	c.Flags().IntSliceVarP(&t.pids, "pid", "p", nil, "trace the process with that `PID`, and its children; can be given several times")
	c.Flags().BoolVar(&t.files, "files", false, "tell at the end which way each descriptor went")
	c.Flags().SetInterspersed(false) // what follows the command's name is its own
	return c
}

func (t *traceCommand) run(ctx context.Context, args []string) error {
	for _, pid := range t.pids {
		if pid < 1 {
			return usagef("--pid %d: at least 1", pid)
		}
	}
	var path string
	if len(args) > 0 {
		var err error
		if path, err = exec.LookPath(args[0]); err != nil {
			return err
		}
	}
	out, err := t.out.open(ctx, t.a)
	if err != nil {
		return err
	}
	w := newWatcher(ctx, out, t.files)
	status, err := ptrace.Status{}, error(nil)
	if path != "" {
		status, err = ptrace.Run(w.ctx, &ptrace.Command{
			Path: path, Args: args, Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stderr, os.Stderr},
		}, w.config())
	} else {
		err = ptrace.Attach(w.ctx, slices.Compact(slices.Sorted(slices.Values(t.pids))), w.config())
	}
	interrupted := ctx.Err() != nil
	out.summary = err == nil
	if werr := w.close(); werr != nil {
		return werr
	}
	switch {
	case errors.Is(err, ptrace.ErrNotSupported) && runtime.GOOS == "linux":
		return fmt.Errorf("%w, a %s machine; strace works:\n  %s", err, runtime.GOARCH, straceLine)
	case err != nil:
		return err
	case !interrupted && (status.Code != 0 || status.Signal != nil):
		return fmt.Errorf("%s: %v", args[0], status)
	}
	return nil
}

// A watcher makes messages of what an engine sees, in a goroutine of its own:
// an output that blocks must not hold up the programs, for one of them may be
// what it waits for, such as the terminal.
type watcher struct {
	out  *output
	asm  *capture.Assembler
	ctx  context.Context // done when nobody wants to see more
	stop context.CancelCauseFunc
	queue
	done  chan struct{}
	ways  *ways        // nil: nobody asked
	err   error        // of the output
	alive map[int]bool // processes; the engine's
}

func newWatcher(ctx context.Context, out *output, files bool) *watcher {
	w := &watcher{out: out, done: make(chan struct{}), alive: map[int]bool{}}
	if files {
		w.ways = &ways{ways: map[string]*way{}}
	}
	w.asm = capture.NewAssembler(func(r *capture.Record) error {
		if w.ways != nil {
			w.ways.add(r)
		}
		return out.Write(r)
	})
	w.ctx, w.stop = context.WithCancelCause(ctx)
	w.asm.Problem = w.say
	if !out.a.outTTY { // nobody watches: rather complete than soon
		w.asm.HoldBoth = 10 * time.Second
	}
	w.queue.init()
	go w.show()
	return w
}

func (w *watcher) say(text string) { w.out.a.complain(w.out.a.running, errors.New(text)) }

func (w *watcher) config() *ptrace.Config {
	return &ptrace.Config{
		Call:   func(c *ptrace.Call) { w.put(w.ctx, item{side: c.Side(), write: c.Write, call: c.Moved()}) },
		Closed: func(s *ptrace.Socket) { w.put(w.ctx, item{side: capture.Side{Inode: s.Inode}, closed: true}) },
		Attached: func() {
			w.put(w.ctx, item{text: "tracing " + count(len(w.alive), "process") + "; Ctrl-C ends it, and not them"})
		},
		Started: func(p *ptrace.Process) { w.alive[p.PID] = true },
		Ended:   func(p *ptrace.Process, _ ptrace.Status) { delete(w.alive, p.PID) },
		Warn:    func(text string) { w.put(w.ctx, item{text: text}) },
	}
}

// show is the goroutine.
func (w *watcher) show() {
	defer close(w.done)
	for more := true; more; {
		more = w.take(w.handle, func(now time.Time) {
			if w.err == nil {
				w.fail(w.asm.Tick(now))
			}
		})
		if w.err == nil {
			w.fail(w.out.Flush())
		}
	}
	if w.err == nil {
		w.fail(w.asm.Close())
	}
}

func (w *watcher) fail(err error) error {
	if err != nil && w.err == nil {
		w.err = err
		w.stop(err)
	}
	return w.err
}

func (w *watcher) handle(i *item) {
	switch {
	case i.text != "":
		w.say(i.text)
	case w.err != nil:
	case i.closed:
		w.fail(w.asm.Closed(i.side))
	case i.write:
		w.fail(w.asm.Sent(i.side, i.call))
	default:
		w.fail(w.asm.Received(i.side, i.call))
	}
}

// close shows what is left and the summary, after the engine's end.
func (w *watcher) close() error {
	w.queue.end()
	<-w.done
	w.stop(nil)
	err := w.out.Close()
	if w.ways != nil {
		w.ways.tell(w.say)
	}
	if n := w.asm.Others(); n > 0 {
		w.say("not shown: what went over " + count(n, "other socket") + ", which is not imsg")
	}
	if len(w.alive) > 0 {
		pids := make([]string, 0, len(w.alive))
		for pid := range w.alive {
			pids = append(pids, fmt.Sprint(pid))
		}
		slices.Sort(pids)
		w.say("still there, and not traced any more: " + strings.Join(pids, " "))
	}
	if w.err != nil {
		return w.err
	}
	return err
}

// ways are those of descriptors: which process had it under which number, and
// the channels between. A socket or a pipe is known by its inode; of files those
// with the same path and flags count as one.
type ways struct {
	keys []string // in the order in which they were passed first
	ways map[string]*way
}

type way struct{ what, hops, last string }

func (w *ways) add(r *capture.Record) {
	for _, f := range r.Files {
		flags := strings.TrimSuffix(strings.TrimSuffix(f.Flags, "cloexec"), "|") // each process has its own
		what := strings.TrimSpace(f.Kind + " " + quote(f.Path) + " " + flags)
		key := what
		if inode, _, ok := strings.Cut(f.Path, "]"); ok && (f.Kind == "socket" || f.Kind == "pipe") {
			key = inode
		}
		v := w.ways[key]
		if v == nil {
			v = &way{what: what}
			w.keys = append(w.keys, key)
			w.ways[key] = v
		}
		from := fmt.Sprintf("%s %s", appendEnd(nil, r.From, "?"), number(f.From))
		to := fmt.Sprintf("%s %s", appendEnd(nil, r.To, "?"), number(f.To))
		if f.Lost {
			to = "lost"
		}
		switch {
		case v.hops == "":
			v.hops = from
		case v.last != from:
			v.hops += "; " + from
		}
		v.hops += fmt.Sprintf(" -#%d-> %s", r.Channel, to)
		v.last = to
	}
}

func (w *ways) tell(say func(string)) {
	for _, key := range w.keys {
		say(w.ways[key].what + ": " + w.ways[key].hops)
	}
}
