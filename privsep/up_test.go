package privsep

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/imsg/imsgtest"
)

// A running is a daemon whose parent is this process, past the barrier.
type running struct {
	*Proc  // the parent's
	t      testing.TB
	log    *records
	cancel context.CancelFunc
	done   chan error
	alone  func()
	once   sync.Once
}

// copyOf returns a copy of d for one test, changed by change. The children know
// d as it was declared.
func copyOf(d *Daemon, change []func(*Daemon)) *Daemon {
	c := *d
	c.Roles = slices.Clone(d.Roles)
	for _, f := range change {
		f(&c)
	}
	return &c
}

// up starts a daemon, and returns when Parent, which is replaced by Serve if there
// is none, is called. The daemon is ended with the test, which fails if Run does,
// unless it has called end or wait itself.
func up(t testing.TB, d *Daemon, change ...func(*Daemon)) *running {
	t.Helper()
	return upWith(t, d, func(*Proc) {}, change...)
}

// upWith is up, with what Parent does first: to call Handle before the test makes
// a Call, from which on requests are answered.
func upWith(t testing.TB, d *Daemon, first func(*Proc), change ...func(*Daemon)) *running {
	t.Helper()
	d = copyOf(d, change)
	r := &running{t: t, log: &records{}, done: make(chan error, 1), alone: leaveNothing(t)}
	if d.Logger == nil {
		d.Logger = r.log.logger(slog.LevelDebug)
	}
	parent, started := d.Parent, make(chan *Proc, 1)
	d.Parent = func(ctx context.Context, p *Proc) error {
		first(p)
		started <- p
		if parent != nil {
			return parent(ctx, p)
		}
		return p.Serve(ctx)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(t.Context())
	go func() { r.done <- d.Run(ctx) }()
	select {
	case r.Proc = <-started:
	case err := <-r.done:
		r.cancel()
		t.Fatalf("Run, before the daemon was up: %v\n%s", err, r.log)
	case <-time.After(limit):
		t.Fatalf("the daemon is not up after %v\n%s%s", limit, r.log, stacks())
	}
	t.Cleanup(func() {
		r.once.Do(func() {
			r.cancel()
			if err := r.result(); err != nil {
				t.Errorf("Run: %v\n%s", err, r.log)
			}
		})
	})
	return r
}

// end ends the daemon from outside and returns Run's error.
func (r *running) end() error {
	r.cancel()
	return r.wait()
}

// wait returns Run's error when the daemon has ended by itself.
func (r *running) wait() (err error) {
	r.t.Helper()
	r.once.Do(func() { err = r.result() })
	return err
}

func (r *running) result() error {
	r.t.Helper()
	defer r.cancel()
	select {
	case err := <-r.done:
		r.alone()
		return err
	case <-time.After(limit):
		r.t.Fatalf("Run has not returned after %v\n%s%s", limit, r.log, stacks())
		return nil
	}
}

// status returns that of a child.
func (r *running) status(role string, instance int) Status {
	r.t.Helper()
	for _, s := range r.Status() {
		if s.Role == role && s.Instance == instance {
			return s
		}
	}
	r.t.Fatalf("no status of %s[%d] among %v", role, instance, r.Status())
	return Status{}
}

// fails runs a daemon to its end and returns its error.
func fails(t testing.TB, d *Daemon, change ...func(*Daemon)) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return begin(t, ctx, d, change...)()
}

// begin runs a daemon, and returns a function that waits for its end and returns
// its error.
func begin(t testing.TB, ctx context.Context, d *Daemon, change ...func(*Daemon)) func() error {
	t.Helper()
	d = copyOf(d, change)
	alone := leaveNothing(t)
	log := new(records)
	if d.Logger == nil {
		d.Logger = log.logger(slog.LevelDebug)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() error {
		t.Helper()
		select {
		case err := <-done:
			alone()
			return err
		case <-time.After(limit):
			t.Fatalf("Run has not returned after %v\n%s%s", limit, log, stacks())
			return nil
		}
	}
}

// leaveNothing returns a function that fails the test if there are child processes,
// dead or alive, or descriptors that were not there when it was made.
func leaveNothing(t testing.TB) func() {
	pids, fds := children(), imsgtest.OpenFDs()
	return func() {
		t.Helper()
		for pid := range children() {
			if !pids[pid] {
				t.Errorf("child process %s is left", pid)
			}
		}
		if now := imsgtest.OpenFDs(); !maps.Equal(fds, now) {
			t.Errorf("descriptors before: %v\nand after: %v", fds, now)
		}
	}
}

// children returns the ids of this process's children, zombies included; nothing
// where the system does not tell.
func children() map[string]bool {
	pids := make(map[string]bool)
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		list, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for pid := range strings.FieldsSeq(string(list)) {
			pids[pid] = true
		}
	}
	return pids
}

// until waits for what no event tells.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(start) > limit {
			t.Fatalf("after %v there was no %s", limit, what)
		}
	}
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// records is a log to look at, in JSON.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func (r *records) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: level}))
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
