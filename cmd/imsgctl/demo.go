package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"example.org/imsg"
)

// The demo's messages. Every payload is text.
const (
	msgDropped = iota + 1 // worker: has dropped its rights
	msgKept               // worker: has not, and why
	msgRead               // parent: read this path and report
	msgCannot             // worker: cannot open it by itself, and why
	msgCan                // worker: could
	msgOpen               // worker: asks for this path
	msgFile               // parent: here it is; with the descriptor
	msgDenied             // parent: no, and why
	msgResult             // worker: what it has read
	msgBlock              // parent: as large as a message can be
	msgJob                // parent: a number to be squared
	msgDone               // worker: the square
)

var demoNames = map[uint32]string{
	msgDropped: "DROPPED", msgKept: "KEPT", msgRead: "READ", msgCannot: "CANNOT", msgCan: "CAN", msgOpen: "OPEN",
	msgFile: "FILE", msgDenied: "DENIED", msgResult: "RESULT", msgBlock: "BLOCK", msgJob: "JOB", msgDone: "DONE",
}

// demoName returns the name of a message type, or its number.
func demoName(typ uint32) string {
	return cmp.Or(demoNames[typ], strconv.FormatUint(uint64(typ), 10))
}

const (
	roleVar      = "IMSG_DEMO_WORKER" // makes "imsgctl demo" the worker; its value is the worker's root directory
	burst        = 300                // messages
	secret       = "only the parent may open this file\n"
	resultDenied = "denied: went on without it"
	demoLimit    = 10 * time.Second // for everything
	workerGrace  = 2 * time.Second  // for the worker to end by itself
)

func newDemoCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show a privilege-separated pair of processes at work",
		Long: `Demo starts a second process of itself, the worker, over a socket pair, and
shows every message between the two as the parent sees it. If it runs as root,
the worker gives up all access to files: it asks the parent, which opens what a
policy allows and passes the descriptor. A request that the policy refuses, a
message of the maximum size, a burst of small messages and a summary follow.
Bytes include the 16 bytes of each message's header.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if root, ok := os.LookupEnv(roleVar); ok {
				os.Unsetenv(roleVar)
				return runWorker(root)
			}
			return runDemo(c.Context(), a.stdout)
		},
	}
}

// A demo is the parent.
type demo struct {
	out     *printer
	dir     string // holds everything below; removed at the end
	root    string // the worker's root directory, empty
	allowed string // the worker may have this file
	refused string // but not this one
	cmd     *exec.Cmd
	conn    *imsg.Conn
	dropped bool
	worker  string // what it says about its rights
	burst   string // what the burst took
}

func runDemo(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("not done within %v", demoLimit))
	defer cancel()
	d := &demo{out: &printer{w: stdout, start: time.Now(), ways: [2]string{"parent -> worker", "worker -> parent"}}}
	err := d.run(ctx)
	if werr := d.endWorker(); werr != nil {
		err = fmt.Errorf("%w (%w)", err, werr) // perhaps the reason
	}
	return errors.Join(err, d.removeFiles())
}

// run makes the steps and tells which one failed.
func (d *demo) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"make files", d.makeFiles},
		{"start the worker", d.startWorker},
		{"drop the worker's rights", d.confined},
		{"pass a descriptor", func(ctx context.Context) error { return d.request(ctx, 1, d.allowed, describe([]byte(secret))) }},
		{"refuse a request", func(ctx context.Context) error { return d.request(ctx, 2, d.refused, resultDenied) }},
		{"send the largest message", d.largest},
		{"send a burst", d.sendBurst},
		{"sum up", d.summary},
	}
	d.out.heading()
	for i, s := range steps {
		err := s.do(ctx)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // says more
		}
		if err == nil {
			err = d.out.print()
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.name, err)
		}
	}
	return nil
}

func (d *demo) makeFiles(context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "imsg-demo-"); err != nil {
		return err
	}
	d.root, d.allowed, d.refused = filepath.Join(d.dir, "root"), filepath.Join(d.dir, "notes"), filepath.Join(d.dir, "key")
	for _, path := range []string{d.allowed, d.refused} {
		if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
			return err
		}
	}
	return os.Mkdir(d.root, 0o755)
}

// startWorker starts the worker with one side of a new channel. It inherits
// no other descriptor, and of the environment only its role.
func (d *demo) startWorker(context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if runtime.GOOS == "linux" {
		exe = "/proc/self/exe" // this very program, even if its file was replaced
	}
	ours, theirs, err := imsg.Pair(&imsg.Config{AllowFDPass: true, Trace: d.out.trace, TypeNames: demoNames})
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
	cmd := &exec.Cmd{Path: exe, Args: []string{"imsgctl", "demo"}, Env: []string{roleVar + "=" + d.root}, Stderr: os.Stderr, ExtraFiles: []*os.File{f}}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.cmd = cmd
	return nil
}

func (d *demo) confined(ctx context.Context) error {
	typ, text, err := d.expect(ctx, 0, msgDropped, msgKept)
	d.dropped, d.worker = typ == msgDropped, text
	return err
}

// request lets the worker read a file, gives it what it asks for if the policy
// allows that, and compares what it reports.
func (d *demo) request(ctx context.Context, id uint32, path, want string) error {
	if err := d.send(ctx, msgRead, id, nil, path); err != nil {
		return err
	}
	if typ, _, err := d.expect(ctx, id, msgCannot, msgCan); err != nil {
		return err
	} else if typ == msgCan && d.dropped {
		return errors.New("the worker has dropped its rights and can open the file all the same")
	}
	_, asked, err := d.expect(ctx, id, msgOpen)
	if err != nil {
		return err
	}
	if err := d.serve(ctx, id, asked); err != nil {
		return err
	}
	return d.result(ctx, id, msgResult, want)
}

// serve answers a request. The worker is not trusted: the policy, a list of
// one path, decides.
func (d *demo) serve(ctx context.Context, id uint32, path string) error {
	if path != d.allowed {
		return d.send(ctx, msgDenied, id, nil, "not allowed: "+filepath.Base(path))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() // Send only borrows it
	d.out.sending(filepath.Base(path))
	return d.send(ctx, msgFile, id, f, path)
}

func (d *demo) largest(ctx context.Context) error {
	text := "as large as a message can be "
	text += strings.Repeat(".", imsg.DefaultMaxSize-imsg.HeaderSize-len(text))
	if err := d.send(ctx, msgBlock, 3, nil, text); err != nil {
		return err
	}
	return d.result(ctx, 3, msgResult, describe([]byte(text)))
}

// sendBurst queues many small messages, which leave together. So do the
// answers.
func (d *demo) sendBurst(ctx context.Context) error {
	before := d.conn.Stats()
	for i := 1; i <= burst; i++ {
		if err := d.conn.Compose(imsg.Header{Type: msgJob, ID: uint32(i)}, nil, strconv.AppendInt(nil, int64(i), 10)); err != nil {
			return err
		}
	}
	if err := d.conn.Flush(ctx); err != nil {
		return err
	}
	for i := 1; i <= burst; i++ {
		if err := d.result(ctx, uint32(i), msgDone, strconv.Itoa(i*i)); err != nil {
			return err
		}
	}
	after := d.conn.Stats()
	d.burst = fmt.Sprintf("%d messages and as many answers; system calls: %d to send, %d to receive",
		burst, after.Sent.Calls-before.Sent.Calls, after.Received.Calls-before.Received.Calls)
	return nil
}

func (d *demo) summary(context.Context) error {
	stats := d.conn.Stats()
	peer, perr := d.conn.PeerCred()
	us, pid := os.Getpid(), d.cmd.Process.Pid
	if err := d.endWorker(); err != nil {
		return err
	}
	if err := d.removeFiles(); err != nil {
		return err
	}
	p := d.out
	p.release()
	p.printf("\n%-16s  %8s  %8s  %5s  %12s\n", "", "messages", "bytes", "files", "system calls")
	for i, c := range []imsg.Counters{stats.Sent, stats.Received} {
		p.printf("%-16s  %8d  %8d  %5d  %12d\n", p.ways[i], c.Messages, c.Bytes, c.Files, c.Calls)
	}
	p.printf("\nburst    %s\n", d.burst)
	if perr != nil {
		p.printf("peer     %v\n", perr)
	} else {
		p.printf("peer     pid %d, uid %d, gid %d: who made the pair, which is the parent (pid %d), not the worker (pid %d)\n",
			peer.PID, peer.UID, peer.GID, us, pid)
	}
	p.printf("worker   %s\ntime     %.1f ms\nok\n", d.worker, time.Since(p.start).Seconds()*1000)
	return nil
}

// send sends one message and shows it. f may be nil.
func (d *demo) send(ctx context.Context, typ, id uint32, f *os.File, text string) error {
	if err := d.conn.Send(ctx, imsg.Header{Type: typ, ID: id}, f, []byte(text)); err != nil {
		return err
	}
	return d.out.print()
}

// expect receives one message, shows it, and makes sure that it is due now.
func (d *demo) expect(ctx context.Context, id uint32, types ...uint32) (typ uint32, text string, err error) {
	m, err := d.conn.Receive(ctx)
	if err == io.EOF {
		err = errors.New("the worker has closed the channel")
	}
	if err != nil {
		return 0, "", err
	}
	defer m.Close()
	if err := d.out.print(); err != nil {
		return 0, "", err
	}
	if m.ID() != id || !slices.Contains(types, m.Type()) {
		return 0, "", fmt.Errorf("%s with id %d received, %s with id %d expected", demoName(m.Type()), m.ID(), demoName(types[0]), id)
	}
	return m.Type(), string(m.Bytes()), nil
}

// result receives a message that must say want.
func (d *demo) result(ctx context.Context, id, typ uint32, want string) error {
	_, got, err := d.expect(ctx, id, typ)
	if err == nil && got != want {
		err = fmt.Errorf("the worker's answer is %q, not %q", got, want)
	}
	return err
}

// endWorker closes the channel, which tells the worker to end, and waits for
// it. Called again it does nothing.
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
		return fmt.Errorf("worker with pid %d: %w", cmd.Process.Pid, err)
	}
	return nil
}

// removeFiles removes what makeFiles has made. Called again it does nothing.
func (d *demo) removeFiles() error {
	dir := d.dir
	d.dir = ""
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}
