package privsep

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/unixmsg"
)

// mortalDaemon has children that report on the file "events", as lines of a word
// and a process id, and hold the file "alive" open as long as they live.
var mortalDaemon = register(Daemon{Name: "mortal", Grace: 300 * time.Millisecond, Roles: []Role{
	{Name: "quick", Run: deathRun, Setup: func(_ context.Context, p *Proc) error { return deathSay(p, "setup") }},
	{Name: "waiting", Run: deathRun, Setup: func(ctx context.Context, p *Proc) error {
		if err := deathSay(p, "setup"); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}},
	{Name: "deaf", Run: deathRun, Setup: func(_ context.Context, p *Proc) error {
		if err := deathSay(p, "setup"); err != nil {
			return err
		}
		select {}
	}},
	{Name: "suicide", Run: deathRun, Setup: func(_ context.Context, p *Proc) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}},
	{Name: "exits", Run: deathRun, Setup: func(_ context.Context, p *Proc) error { os.Exit(11); return nil }},
	{Name: "panics", Run: deathRun, Setup: func(_ context.Context, p *Proc) error { panic("the test wants it") }},
	{Name: "many", Instances: 3, Run: deathRun},
}})

func deathSay(p *Proc, word string) error {
	_, err := fmt.Fprintf(p.File("events"), "%s %s %d\n", p.Role(), word, os.Getpid())
	return err
}

func deathRun(ctx context.Context, p *Proc) error {
	if err := deathSay(p, "run"); err != nil {
		return err
	}
	return p.Serve(ctx)
}

// deathOnly leaves a daemon these roles.
func deathOnly(roles ...string) func(*Daemon) {
	return func(d *Daemon) {
		all := *d
		d.Roles = nil
		for _, name := range roles {
			d.Roles = append(d.Roles, *all.role(name))
		}
	}
}

// deathGive gives every role copies of these files.
func deathGive(d *Daemon, files map[string]*os.File) {
	d.Prepare = func(_ context.Context, p *Proc) error {
		for i := range d.Roles {
			for name, f := range files {
				fd, err := unixmsg.DupFile(f)
				if err != nil {
					return err
				}
				p.AddFile(d.Roles[i].Name, name, os.NewFile(uintptr(fd), name))
			}
		}
		return nil
	}
}

// deathPipe is closed with the test.
func deathPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	r.SetDeadline(time.Now().Add(limit))
	return r, w
}

// deathAwait reads events until everyone has said the word, and returns their
// process ids.
func deathAwait(events *bufio.Reader, word string, roles ...string) (map[string]int, error) {
	pids := make(map[string]int)
	for len(pids) < len(roles) {
		line, err := events.ReadString('\n')
		if err != nil {
			return nil, err
		}
		f := strings.Fields(line)
		for _, role := range roles {
			if f[0] == role && f[1] == word {
				pids[role], _ = strconv.Atoi(f[2])
			}
		}
	}
	return pids, nil
}

// TestDeathAtStart: a child that dies before all are ready is the daemon's end.
func TestDeathAtStart(t *testing.T) {
	t.Setenv("GOTRACEBACK", "none")
	for _, r := range []struct {
		role, text string
	}{
		{"suicide", "signal: killed"},
		{"exits", "exit status 11"},
		{"panics", "exit status 2"},
	} {
		t.Run(r.role, func(t *testing.T) {
			for _, roles := range [][]string{{r.role}, {"waiting", r.role}, {r.role, "deaf"}} {
				_, events := deathPipe(t)
				err := fails(t, mortalDaemon, deathOnly(roles...), func(d *Daemon) {
					deathGive(d, map[string]*os.File{"events": events})
				})
				deathCheck(t, err, r.role, "start", r.text)
			}
		})
	}
}

// TestKilledAtStart: the same with a child that is killed while it waits, for
// what its Setup waits for, or for others to be ready.
func TestKilledAtStart(t *testing.T) {
	for _, r := range []struct {
		name   string
		roles  []string
		victim string
		step   string // "": start or run, because nobody knows how far it was
	}{
		{"in Setup", []string{"waiting"}, "waiting", "start"},
		{"in Setup, another ready", []string{"quick", "waiting"}, "waiting", "start"},
		{"in Setup, another too", []string{"deaf", "waiting"}, "waiting", "start"},
		{"waiting for go", []string{"quick", "waiting"}, "quick", ""},
		{"waiting for go of one that does not end", []string{"quick", "deaf"}, "quick", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			out, in := deathPipe(t)
			type result struct {
				pids map[string]int
				err  error
			}
			killed := make(chan result, 1)
			go func() {
				pids, err := deathAwait(bufio.NewReader(out), "setup", r.roles...)
				if err == nil {
					err = syscall.Kill(pids[r.victim], syscall.SIGKILL)
				}
				killed <- result{pids, err}
			}()
			err := fails(t, mortalDaemon, deathOnly(r.roles...), func(d *Daemon) {
				deathGive(d, map[string]*os.File{"events": in})
			})
			if k := <-killed; k.err != nil {
				t.Fatal(k.err)
			}
			deathCheck(t, err, r.victim, r.step, "signal: killed")
		})
	}
}

func deathCheck(t *testing.T, err error, role, step, text string) {
	t.Helper()
	var child *ChildError
	if !errors.As(err, &child) || child.Role != role {
		t.Fatalf("error %v is not that of %s", err, role)
	}
	if step != "" && child.Step != step || !strings.Contains(err.Error(), text) {
		t.Errorf("step %q, error %v; want step %q, %q", child.Step, err, step, text)
	}
}

// deathMiddle runs the daemon with the roles of its environment. Its standard
// input is where the children's reports go, its standard output what they hold
// open.
var _ = registerMiddle("mortal", func() int {
	d := copyOf(mortalDaemon, []func(*Daemon){deathOnly(strings.Split(os.Getenv("ROLES"), ",")...)})
	deathGive(d, map[string]*os.File{"events": os.Stdin, "alive": os.Stdout})
	if os.Getenv("ROLES") == "quick,many" { // the parent's own code keeps it busy
		d.Parent = func(context.Context, *Proc) error { select {} }
	}
	if err := d.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
})

// TestMiddle: a parent that is killed, at whatever moment, leaves no child: the
// pipe that all hold open ends.
func TestMiddle(t *testing.T) {
	for _, r := range []struct {
		name  string
		roles []string
		word  string
		from  []string
	}{
		{"one in Setup", []string{"waiting"}, "setup", []string{"waiting"}},
		{"one in a Setup that does not look", []string{"deaf"}, "setup", []string{"deaf"}},
		{"some ready, one in Setup", []string{"quick", "many", "waiting"}, "setup", []string{"quick", "waiting"}},
		{"as soon as one is in Setup", []string{"quick", "many", "waiting"}, "setup", []string{"quick"}},
		{"all run", []string{"quick"}, "run", []string{"quick"}},
		{"many run", []string{"quick", "many"}, "run", []string{"quick", "many"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			defer leaveNothing(t)()
			events, said := deathPipe(t)
			alive, held := deathPipe(t)
			cmd := middle(t, "mortal", "ROLES="+strings.Join(r.roles, ","))
			cmd.Stdin, cmd.Stdout, cmd.Stderr = said, held, nil // they complain that nobody is there
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said.Close()
			held.Close()
			_, err := deathAwait(bufio.NewReader(events), r.word, r.from...)
			if err != nil {
				t.Errorf("waiting for %v: %v", r.from, err)
			}
			cmd.Process.Kill()
			if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Errorf("the parent's end: %v", err)
			}
			if _, err := io.Copy(io.Discard, alive); err != nil {
				t.Errorf("a child lives: %v", err)
			}
			events.Close()
			alive.Close()
		})
	}
}
