package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/privsep/sandbox"
)

var scriptDaemon = register(Daemon{Name: "script", Chroot: EmptyDir, User: "nobody", Roles: []Role{
	{Name: "calm", Run: witness, Peers: []string{"script"}},
	{Name: "script", Run: witness, Setup: script, Instances: 2},
}})

// script is a Setup whose second instance does what its configuration says.
func script(ctx context.Context, p *Proc) error {
	if p.Instance() != 1 {
		return nil
	}
	word, text, _ := strings.Cut(string(p.Config()), " ")
	switch word {
	case "error":
		return errors.New(text)
	case "errno":
		return fmt.Errorf("%s: %w", text, syscall.ENOSPC)
	case "remove":
		return os.Remove(text)
	case "panic":
		panic(text)
	case "exit":
		os.Exit(len(text))
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "wait":
		p.Logger().Info(text)
		<-ctx.Done()
		return ctx.Err()
	case "hang":
		p.Logger().Info(text)
		select {}
	}
	return nil
}

func configured(text string) func(*Daemon) {
	return func(d *Daemon) {
		d.Prepare = func(_ context.Context, p *Proc) error { return p.Configure("script", []byte(text)) }
	}
}

// TestFailingSetup: the first child that fails before all are ready ends the
// daemon, whatever it fails with, and the error is its own.
func TestFailingSetup(t *testing.T) {
	t.Setenv("GOTRACEBACK", "none")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, c := range []struct {
		script, step, want string
		is                 error
	}{
		{"error no way", "setup", "no way", nil},
		{"error ", "setup", "*errors.errorString", nil},
		{"error two\nlines\x1b[2J\xff", "setup", "two lines [2J\ufffd", nil},
		{"error " + strings.Repeat("x", 3*maxText), "setup", strings.Repeat("x", maxText), nil},
		{"errno disk", "setup", "disk: no space left on device", syscall.ENOSPC},
		{"panic now", "start", "exit status 2", nil},
		{"exit ", "start", "exit status 0", nil},
		{"exit xxx", "start", "exit status 3", nil},
		{"kill", "start", "signal: killed", nil},
	} {
		for _, policy := range []ExitPolicy{EndAll, Restart, Ignore} {
			err := fails(t, scriptDaemon, configured(c.script), func(d *Daemon) { d.Roles[1].OnExit = policy })
			var child *ChildError
			if !errors.As(err, &child) || child.Role != "script" || child.Instance != 1 || child.Step != c.step || child.Err.Error() != c.want {
				t.Errorf("%.20q: error %v", c.script, err)
			} else if c.is != nil && !errors.Is(err, c.is) || !strings.HasPrefix(err.Error(), "privsep: script[1]: "+c.step+": ") {
				t.Errorf("%.20q: error %v", c.script, err)
			}
		}
	}
	if names, err := os.ReadDir(tmp); err != nil || len(names) > 0 {
		t.Errorf("empty directories are left: %v %v", names, err)
	}
}

// TestEndInSetup: the daemon can be ended while it starts, at once if Setup heeds
// its context.
func TestEndInSetup(t *testing.T) {
	for script, want := range map[string]string{"wait inside": "", "hang inside": "has not ended within 1.5s"} {
		ctx, cancel := context.WithCancel(t.Context())
		log := make(lines, 10)
		wait := begin(t, ctx, scriptDaemon, configured(script), func(d *Daemon) {
			d.Logger, d.Grace = log.logger(), 2*time.Second // enough for the other instance
			if want == "" {
				patient(d)
			}
		})
		log.wait(t, "inside")
		cancel()
		err := wait()
		var child *ChildError
		if want == "" && err != nil || want != "" && (!errors.As(err, &child) || child.Instance != 1 || child.Step != "start" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v", script, err)
		}
	}
}

var requireDaemon = register(Daemon{Name: "require", Roles: []Role{
	{Name: "impossible", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio", Require: sandbox.Pledge | sandbox.Seccomp | sandbox.Capsicum}},
}})

// TestFailingSteps: the other steps.
func TestFailingSteps(t *testing.T) {
	check := func(err error, role, step, text string, is error) {
		t.Helper()
		var child *ChildError
		if !errors.As(err, &child) || child.Role != role || child.Step != step || !strings.Contains(child.Err.Error(), text) || is != nil && !errors.Is(err, is) {
			t.Errorf("error %v instead of %s: %s: %s, %v", err, role, step, text, is)
		}
	}
	check(fails(t, requireDaemon), "impossible", "sandbox", "pledge", nil)

	stop := errors.New("stop")
	if err := fails(t, pairDaemon, func(d *Daemon) { d.Prepare = func(context.Context, *Proc) error { return stop } }); !errors.Is(err, stop) || !strings.Contains(err.Error(), "prepare") {
		t.Errorf("Prepare: error %v", err)
	}
	check(fails(t, pairDaemon, func(d *Daemon) {
		d.Prepare = func(_ context.Context, p *Proc) error {
			f, err := os.Open(os.DevNull)
			f.Close()
			p.AddFile("b", "closed", f)
			return err
		}
	}), "b", "start", "file closed: ", nil)
	check(fails(t, pairDaemon, func(d *Daemon) {
		d.ParentSandbox.Promises, d.ParentSandbox.Require = "stdio proc", sandbox.Pledge|sandbox.Capsicum
	}),
		Parent, "sandbox", "pledge", nil)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := begin(t, ctx, pairDaemon)(); err != nil {
		t.Errorf("a context that has ended: %v", err)
	}
}
