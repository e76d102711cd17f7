package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// patience is how long a worker may take for anything before it is ended.
const patience = time.Minute

// A pair is one peer's processes: they end when their input and their socket
// do, which is when this process closes them or is gone.
type pair struct {
	peer      peer
	run       func(*exec.Cmd) error // starts a process
	driver    *exec.Cmd
	server    *exec.Cmd // nil: none
	in        io.WriteCloser
	out       *bufio.Reader
	ops, done int // operations a slice, and altogether
	cpu       time.Duration
	startup   time.Duration // CPU time that is not the operations'
	perOp     []float64     // of every round
}

// start runs program as the peer p's two processes, or this program.
func start(c benchCase, p peer, self, program string) (*pair, error) {
	work := c.name
	env := append(os.Environ(), workerEnv+"="+c.name+" "+p.name)
	if p.c != "" {
		self, work, env = program, p.c, os.Environ()
	}
	command := func(verb string, f *os.File) *exec.Cmd {
		cmd := exec.Command(self, verb, work, strconv.Itoa(c.size))
		cmd.Env, cmd.Stderr = env, os.Stderr
		if f != nil {
			cmd.ExtraFiles = []*os.File{f}
		}
		return cmd
	}
	q := &pair{peer: p, run: (*exec.Cmd).Start}
	if p.serve == nil && p.c == "" {
		q.driver = command("drive", nil)
		return q, q.begin()
	}
	fds, err := socketpair()
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "driver"), os.NewFile(uintptr(fds[1]), "server")
	defer ours.Close()
	defer theirs.Close()
	q.driver, q.server = command("drive", ours), command("serve", theirs)
	if c.oneCore {
		q.run = startOnOne
	}
	if err := q.run(q.server); err != nil {
		return nil, err
	}
	if err := q.begin(); err != nil {
		ours.Close()
		theirs.Close()
		q.server.Wait()
		return nil, err
	}
	return q, nil
}

// begin starts the driver.
func (q *pair) begin() error {
	in, err := q.driver.StdinPipe()
	if err != nil {
		return err
	}
	out, err := q.driver.StdoutPipe()
	if err != nil {
		return err
	}
	q.in, q.out = in, bufio.NewReader(out)
	return q.run(q.driver)
}

// ready waits until the driver is.
func (q *pair) ready() error {
	line, err := q.line()
	if err == nil && line != "ready" {
		err = fmt.Errorf("%q instead of ready", line)
	}
	return err
}

// do lets the driver perform n operations and returns what they took.
func (q *pair) do(n int) (float64, error) {
	fmt.Fprintln(q.in, n) // if that fails, so does reading
	line, err := q.line()
	if err != nil {
		return 0, err
	}
	took, err := strconv.ParseInt(line, 10, 64)
	if err != nil || took < 0 {
		return 0, fmt.Errorf("%q instead of a time", line)
	}
	q.done += n
	return float64(took), nil
}

// line reads a line from the driver, which is ended if it takes too long.
func (q *pair) line() (string, error) {
	timer := time.AfterFunc(patience, q.kill)
	line, err := q.out.ReadString('\n')
	if !timer.Stop() {
		return "", fmt.Errorf("no answer within %v", patience)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the driver has ended early")
	}
	return strings.TrimSpace(line), err
}

func (q *pair) kill() {
	for _, cmd := range []*exec.Cmd{q.driver, q.server} {
		if cmd != nil {
			cmd.Process.Kill()
		}
	}
}

// calibrate finds out how many operations a slice has.
func (q *pair) calibrate(slice time.Duration) error {
	enough := float64(slice) / 4
	for n := 1; ; {
		took, err := q.do(n)
		if err != nil {
			return err
		}
		perOp := max(took, 1) / float64(n)
		if took >= enough {
			q.ops = max(1, q.peer.least, int(float64(slice)/perOp))
			return nil
		}
		// The first operations are the slowest: go on in steps.
		n = min(int(1.2*enough/perOp)+1, 30*n)
	}
}

// stop ends both processes and adds up their CPU time.
func (q *pair) stop() error {
	timer := time.AfterFunc(patience, q.kill)
	defer timer.Stop()
	q.in.Close()
	wait := func(role string, cmd *exec.Cmd) error {
		if cmd == nil {
			return nil
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
		q.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		return nil
	}
	derr, serr := wait("driver", q.driver), wait("server", q.server)
	return cmp.Or(derr, serr)
}
