package privsep

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/privsep/sandbox"
)

var stopDaemon = register(Daemon{Name: "stop", Roles: []Role{
	{Name: "polite", Run: polite, Instances: 2},
	{Name: "caged", Run: polite, Sandbox: sandbox.Policy{Promises: "stdio"}},
}})

var deafDaemon = register(Daemon{Name: "deaf", Roles: []Role{
	{Name: "deaf", Run: func(context.Context, *Proc) error { select {} }},
	{Name: "polite", Run: polite},
}})

// polite is a Run that has something to do when it is told to end.
func polite(ctx context.Context, p *Proc) error {
	<-ctx.Done()
	if f := p.File("last words"); f != nil {
		if _, err := f.WriteString("x"); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// patient is a grace that the test does not survive: nobody may need it.
func patient(d *Daemon) { d.Grace = 4 * limit }

// TestStop: children are asked, do what they have to do, and are waited for.
func TestStop(t *testing.T) {
	log, pipes := &records{}, make(chan *os.File, 1)
	wait := begin(t, t.Context(), stopDaemon, patient, func(d *Daemon) {
		d.Logger = log.logger(0)
		d.Prepare = func(_ context.Context, p *Proc) error {
			words, end, err := os.Pipe()
			if err != nil {
				return err
			}
			p.AddFile("caged", "last words", copyFile(t, end)) // which has no right to receive files later
			p.AddFile("polite", "last words", end)
			pipes <- words
			return nil
		}
		d.Parent = func(context.Context, *Proc) error { return nil } // which ends the daemon
	})
	words := <-pipes
	words.SetDeadline(time.Now().Add(limit))
	got, err := io.ReadAll(words)
	if err != nil || string(got) != "xxx" {
		t.Errorf("last words %q, %v", got, err)
	}
	words.Close()
	if err := wait(); err != nil || log.String() != "" {
		t.Errorf("error %v\n%s", err, log)
	}
}

// TestStopBeforeStart: a child that is told to end together with all it is told
// at first does so.
func TestStopBeforeStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log := &records{}
	start := time.Now()
	err := begin(t, ctx, stopDaemon, func(d *Daemon) { d.Grace, d.Logger = 2*time.Second, log.logger(0) })()
	if err != nil {
		t.Errorf("after %v: %v\n%s", time.Since(start), err, log)
	}
}

// TestKill: a child that does not end when it is asked is killed, and named.
func TestKill(t *testing.T) {
	r := up(t, deafDaemon, func(d *Daemon) { d.Grace = 2 * time.Second }) // enough for the polite one
	err := r.end()
	var child *ChildError
	if !errors.As(err, &child) || child.Role != "deaf" || child.Step != "run" || !strings.Contains(err.Error(), "1.5s") {
		t.Errorf("error %v", err)
	}
}

// TestSignals: those for the parent, which go to all processes of a terminal, do
// not end children.
func TestSignals(t *testing.T) {
	r := up(t, pairDaemon)
	pid := r.status("a", 0).PID
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGPIPE} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		ask[peerName](t, r.Peer("a"), "hello")
	}
	if r.status("a", 0).PID != pid {
		t.Error("it is another process")
	}
}

// TestParent: what Parent returns is what Run returns.
func TestParent(t *testing.T) {
	own := errors.New("the parent's own")
	for _, c := range []struct {
		name   string
		parent func(context.Context) error
		want   error
	}{
		{"nil", func(context.Context) error { return nil }, nil},
		{"error", func(context.Context) error { return own }, own},
		{"an end that is not the daemon's", func(context.Context) error { return context.Canceled }, context.Canceled},
	} {
		err := fails(t, pairDaemon, patient, func(d *Daemon) { d.Parent = func(ctx context.Context, _ *Proc) error { return c.parent(ctx) } })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
	r := up(t, pairDaemon, patient, func(d *Daemon) {
		d.Parent = func(ctx context.Context, _ *Proc) error { <-ctx.Done(); return ctx.Err() }
	})
	if err := r.end(); err != nil {
		t.Errorf("ctx's own error: %v", err)
	}
}

// TestParentDoesNotEnd: Run does.
func TestParentDoesNotEnd(t *testing.T) {
	release, ended := make(chan struct{}), make(chan struct{})
	r := up(t, pairDaemon, func(d *Daemon) {
		d.Grace = 2 * time.Second // enough for the children, also beside a busy machine
		d.Parent = func(context.Context, *Proc) error { defer close(ended); <-release; return nil }
	})
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "own code has not ended within 2s") {
		t.Errorf("error %v", err)
	}
	close(release)
	<-ended
}
