package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.org/imsg"
)

const (
	demoLimit   = 10 * time.Second // for the whole demo
	workerGrace = 2 * time.Second  // for the worker to end by itself
	burst       = 300              // messages
)

// The demo's messages. The payload of all of them is text.
const (
	msgDropped = iota + 1 // worker: has dropped its rights
	msgKept               // worker: could not
	msgRead               // parent: read this path and report
	msgCannot             // worker: cannot open it by itself, and why
	msgCan                // worker: could have opened it by itself
	msgOpen               // worker: asks for this path
	msgFile               // parent: here it is; with a descriptor
	msgDenied             // parent: no, and why
	msgResult             // worker: what was read
	msgBlock              // parent: as large as a message can be
	msgJob                // parent: a number to be squared
	msgDone               // worker: the square
)

var demoNames = map[uint32]string{
	msgDropped: "DROPPED", msgKept: "KEPT", msgRead: "READ", msgCannot: "CANNOT", msgCan: "CAN", msgOpen: "OPEN",
	msgFile: "FILE", msgDenied: "DENIED", msgResult: "RESULT", msgBlock: "BLOCK", msgJob: "JOB", msgDone: "DONE",
}

const resultDenied = "denied: went on without it"

var demoCommand = &command{
	name:  "demo",
	short: "show a privilege-separated pair of processes at work",
	long: `Demo starts a second process of itself, the worker, over a socket pair, and
shows every message between the two as the parent sees it. The worker has no
access to files, if demo runs as root: it asks the parent, which opens what a
policy allows and passes the descriptor. A request that the policy refuses, a
message of the maximum size and a burst of small messages follow, and a summary.

Bytes include the header of each message, 16 bytes.`,
	run: runDemo,
}

// A demo is the parent.
type demo struct {
	out    *printer
	dir    string // of the files, removed at the end
	root   string // the worker's root directory, empty
	policy map[string]bool
	conn   *imsg.Conn
	cmd    *exec.Cmd

	dropped bool
	// For the summary:
	worker, burst string
	stats         imsg.Stats
}

func runDemo(c *command, args []string) error {
	if root, ok := os.LookupEnv(roleVar); ok {
		os.Unsetenv(roleVar)
		return runWorker(root)
	}
	if _, err := c.parse(c.flags(), args, 0, 0); err != nil {
		return err
	}
	// However it ends, the worker is waited for and the files are removed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("not done within %v", demoLimit))
	defer cancel()
	d := &demo{out: &printer{
		w: os.Stdout, start: time.Now(), sent: "parent -> worker", received: "worker -> parent", names: demoNames,
	}}
	err := d.run(ctx)
	return errors.Join(err, d.endWorker(), d.removeFiles()) // nothing to do if all went well
}

// run makes the steps, and tells which one failed.
func (d *demo) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"make the files", d.makeFiles},
		{"start the worker", d.startWorker},
		{"drop the worker's rights", d.confined},
		{"pass a descriptor", d.pass},
		{"refuse a request", d.refuse},
		{"send the largest message", d.largest},
		{"send a burst", d.sendBurst},
		{"end the worker", func(context.Context) error { return d.endWorker() }},
		{"remove the files", func(context.Context) error { return d.removeFiles() }},
		{"sum up", d.summary},
	}
	d.out.heading()
	for i, s := range steps {
		err := s.do(ctx)
		if err == nil {
			err = d.out.print()
		} else if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.name, err)
		}
	}
	return nil
}

const secret = "only the parent may open this file\n"

func (d *demo) makeFiles(context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "imsg-demo-"); err != nil {
		return err
	}
	d.root = filepath.Join(d.dir, "root")
	if err := os.Mkdir(d.root, 0o755); err != nil {
		return err
	}
	d.policy = map[string]bool{d.path("notes"): true}
	for _, name := range []string{"notes", "key"} {
		if err := os.WriteFile(d.path(name), []byte(secret), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// startWorker starts the worker with one side of a new channel. Nothing else
// is inherited: no descriptor, and of the environment only the role.
func (d *demo) startWorker(context.Context) error {
	exe, err := self()
	if err != nil {
		return err
	}
	ours, theirs, err := imsg.Pair(&imsg.Config{AllowFDPass: true, Trace: d.out.trace})
	if err != nil {
		return err
	}
	d.conn = ours
	defer theirs.Close()
	f, err := theirs.File()
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := &exec.Cmd{
		Path:       exe,
		Args:       []string{"imsg", "demo"},
		Env:        []string{roleVar + "=" + d.root},
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{f}, // becomes workerFD
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd = cmd
	return nil
}

// self returns what to execute for another process of this program.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil // this very file, even if it was replaced
	}
	return os.Executable()
}

func (d *demo) confined(ctx context.Context) error {
	typ, text, err := d.expect(ctx, 0, msgDropped, msgKept)
	d.dropped, d.worker = typ == msgDropped, text
	return err
}

func (d *demo) pass(ctx context.Context) error {
	result, err := d.request(ctx, 1, d.path("notes"))
	if want := describe(len(secret), sha256.Sum256([]byte(secret))); err == nil && result != want {
		err = fmt.Errorf("the worker read %q instead of %q", result, want)
	}
	return err
}

func (d *demo) refuse(ctx context.Context) error {
	result, err := d.request(ctx, 2, d.path("key"))
	if err == nil && result != resultDenied {
		err = fmt.Errorf("the worker was to be denied, and reports %q", result)
	}
	return err
}

// request lets the worker read a file and serves what it needs for that.
func (d *demo) request(ctx context.Context, id uint32, path string) (result string, err error) {
	if err := d.send(ctx, msgRead, id, nil, path); err != nil {
		return "", err
	}
	typ, _, err := d.expect(ctx, id, msgCannot, msgCan)
	if err != nil {
		return "", err
	}
	if typ == msgCan && d.dropped {
		return "", errors.New("the worker has dropped its rights and can open the file all the same")
	}
	_, wanted, err := d.expect(ctx, id, msgOpen)
	if err != nil {
		return "", err
	}
	if err := d.serve(ctx, id, wanted); err != nil {
		return "", err
	}
	_, result, err = d.expect(ctx, id, msgResult)
	return result, err
}

// serve answers a request for a file. The worker is not trusted: only the
// policy decides, on the very path that is opened then.
func (d *demo) serve(ctx context.Context, id uint32, path string) error {
	if !d.policy[path] {
		return d.send(ctx, msgDenied, id, nil, "not in the policy: "+filepath.Base(path))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return d.send(ctx, msgDenied, id, nil, reason(err))
	}
	defer f.Close() // Send only borrows it
	return d.send(ctx, msgFile, id, f, path)
}

func (d *demo) largest(ctx context.Context) error {
	const size = imsg.DefaultMaxSize - imsg.HeaderSize
	text := "the largest message, and one byte more is an error "
	text += strings.Repeat(".", size-len(text))
	if err := d.conn.Send(ctx, imsg.Header{Type: msgBlock, ID: 3}, nil, []byte(text), []byte(".")); !errors.Is(err, imsg.ErrTooLarge) {
		return fmt.Errorf("a payload of %d bytes was sent: %w", size+1, errors.Join(err, imsg.ErrTooLarge))
	}
	if err := d.send(ctx, msgBlock, 3, nil, text); err != nil {
		return err
	}
	_, result, err := d.expect(ctx, 3, msgResult)
	if want := describe(size, sha256.Sum256([]byte(text))); err == nil && result != want {
		err = fmt.Errorf("the worker got %q instead of %q", result, want)
	}
	return err
}

// sendBurst queues many small messages, which leave together, and so do the
// answers.
func (d *demo) sendBurst(ctx context.Context) error {
	before := d.conn.Stats()
	for i := 1; i <= burst; i++ {
		if err := d.conn.Queue(imsg.Header{Type: msgJob, ID: uint32(i)}, nil, strconv.AppendInt(nil, int64(i), 10)); err != nil {
			return err
		}
	}
	if err := d.conn.Flush(ctx); err != nil {
		return err
	}
	for i := 1; i <= burst; i++ {
		_, got, err := d.expect(ctx, uint32(i), msgDone)
		if err != nil {
			return err
		}
		if want := strconv.Itoa(i * i); got != want {
			return fmt.Errorf("the worker's answer to %d is %q instead of %s", i, got, want)
		}
	}
	d.stats = d.conn.Stats()
	d.burst = fmt.Sprintf("%d messages sent with system calls: %d, their answers received with: %d", burst,
		d.stats.Sent.Calls-before.Sent.Calls, d.stats.Received.Calls-before.Received.Calls)
	return d.credentials()
}

// send sends one message and shows it.
func (d *demo) send(ctx context.Context, typ, id uint32, f *os.File, text string) error {
	if f != nil {
		d.out.sending(filepath.Base(f.Name()))
	}
	if err := d.conn.Send(ctx, imsg.Header{Type: typ, ID: id}, f, []byte(text)); err != nil {
		return err
	}
	return d.out.print()
}

// expect receives one message, shows it, and makes sure that it is one that is
// due now.
func (d *demo) expect(ctx context.Context, id uint32, types ...uint32) (typ uint32, text string, err error) {
	m, err := d.conn.Receive(ctx)
	if err == io.EOF {
		return 0, "", errors.New("the worker has closed the channel")
	} else if err != nil {
		return 0, "", err
	}
	defer m.Close()
	if err := d.out.print(); err != nil {
		return 0, "", err
	}
	if m.ID() != id || !slices.Contains(types, m.Type()) {
		return 0, "", fmt.Errorf("%s with id %d expected, type %d with id %d received", demoNames[types[0]], id, m.Type(), m.ID())
	}
	return m.Type(), string(m.Bytes()), nil
}

// endWorker closes the channel, which is the sign for the worker to end, and
// waits for it.
func (d *demo) endWorker() error {
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
	if d.cmd == nil {
		return nil
	}
	cmd := d.cmd
	d.cmd = nil
	defer time.AfterFunc(workerGrace, func() { cmd.Process.Kill() }).Stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the worker, pid %d, ended with %w", cmd.Process.Pid, err)
	}
	return nil
}

func (d *demo) removeFiles() error {
	dir := d.dir
	d.dir = ""
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}
