package privsep

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/privsep/sandbox"
)

// What confines a parent cannot be in the process of the tests.
var (
	confinedDaemon = register(Daemon{Name: "confined", User: "nobody", Chroot: EmptyDir, Roles: []Role{
		{Name: "a", Run: witness, Backoff: time.Millisecond, Sandbox: sandbox.Policy{Promises: "stdio"}},
		{Name: "session", Run: witness, OnDemand: true, Chroot: NoChroot, Sandbox: sandbox.Policy{Promises: "stdio rpath"}},
	}, ParentSandbox: sandbox.Policy{Promises: "stdio proc"}})

	_ = registerMiddle("confined parent", func() int { return report(confined(1), tryOut) })
	_ = registerMiddle("confined restart", func() int {
		d := confined(2)
		d.Roles[0].OnExit = Restart
		d.ParentCapabilities = []string{}
		d.ParentSandbox.Promises = "stdio proc sendfd recvfd"
		return report(d, startAgain)
	})
	_ = registerMiddle("confined without sendfd", func() int {
		d := confined(2)
		return report(d, startAgain)
	})
	_ = registerMiddle("capable", func() int {
		d := confined(2)
		d.ParentCapabilities = []string{"CAP_NET_BIND_SERVICE"}
		d.ParentSandbox = sandbox.Policy{}
		return report(d, func(ctx context.Context, p *Proc) error {
			if err := onlyBind(p); err != nil {
				return err
			}
			return startSession(ctx, p)
		})
	})
	_ = registerMiddle("starter dies", func() int {
		d := confined(2)
		d.ParentCapabilities = []string{"CAP_NET_BIND_SERVICE"}
		d.ParentSandbox = sandbox.Policy{}
		return report(d, func(ctx context.Context, p *Proc) error {
			if err := startSession(ctx, p); err != nil {
				return err
			}
			fmt.Println("starter", childNamed(starterName))
			<-ctx.Done()
			return ctx.Err()
		})
	})
)

// confined is a copy of the daemon with so many of its roles.
func confined(roles int) *Daemon {
	d := copyOf(confinedDaemon, nil)
	d.Roles = d.Roles[:roles]
	return d
}

// report runs a daemon with this Parent, and says what came of it.
func report(d *Daemon, parent func(context.Context, *Proc) error) int {
	d.Parent = parent
	err := d.Run(context.Background())
	var child *ChildError
	if errors.As(err, &child) && child.Step == "plan" {
		fmt.Println("refused:", err)
		return 2
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// tryOut finds out whether the parent is confined, and whether it can do what a
// parent does.
func tryOut(ctx context.Context, p *Proc) error {
	if _, err := syscall.Open("/etc/passwd", syscall.O_RDONLY, 0); err != syscall.EPERM && err != syscall.EACCES {
		return fmt.Errorf("open without rpath: %v", err)
	}
	known := runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
	if s := p.Status()[0]; s.Role != Parent || known != (s.Sandbox.InForce()&sandbox.Seccomp != 0) {
		return fmt.Errorf("status %v", s)
	}
	_, err := try[peerName](ctx, p.Peer("a"), nil, "hello")
	return err
}

// startAgain finds out whether a confined parent can have children started, with
// the rights that were declared, and none of its own.
func startAgain(ctx context.Context, p *Proc) error {
	if err := tryOut(ctx, p); err != nil {
		return err
	}
	first := p.Status()[1]
	q := p.Peer("a")
	q.Send(ctx, reqTell, nil, marshal(order{"kill", nil}))
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		var err error
		if q, err = p.WaitPeer(wait, "a", 0, q); err != nil {
			return err
		}
		if _, err = try[peerName](ctx, q, nil, "hello"); err == nil {
			break
		}
	}
	again := p.Status()[1]
	if again.PID == first.PID || again.UID != first.UID || again.GID != first.GID || again.Chroot != first.Chroot || again.Sandbox.InForce() != first.Sandbox.InForce() {
		return fmt.Errorf("first %v, then %v", first, again)
	}
	return startSession(ctx, p)
}

// startSession starts a process that may read files, as the parent may not.
func startSession(ctx context.Context, p *Proc) error {
	pipe, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer pipe.Close()
	c, err := p.Start(ctx, "session", Given{Config: []byte("its own"), Files: map[string]*os.File{"end": end}})
	end.Close()
	if err != nil {
		return err
	}
	if got, err := try[string](ctx, c.Peer(), nil, "config"); err != nil || got != sum([]byte("its own")) {
		return fmt.Errorf("configuration %q, %v", got, err)
	}
	if got, err := try[string](ctx, c.Peer(), nil, "open", "/etc/passwd"); err != nil || got == "" {
		return fmt.Errorf("it read %q, %v", got, err)
	}
	if s := c.Status(); isRoot() && s.UID != 65534 {
		return fmt.Errorf("status %v", s)
	}
	c.Stop()
	return c.Wait(ctx)
}

// onlyBind looks at the capabilities of every thread.
func onlyBind(p *Proc) error {
	states, err := readThreads(os.Getpid())
	if err != nil {
		return err
	}
	want := fmt.Sprintf("%016x", 1<<unix.CAP_NET_BIND_SERVICE|1<<unix.CAP_KILL)
	if !isRoot() {
		want = "0000000000000000"
	}
	for s := range states {
		if s.effective != want || s.permitted != want || s.noNewPrivs != "1" {
			return fmt.Errorf("a thread is %+v", s)
		}
	}
	if got := p.Status()[0].Capabilities; isRoot() && !slices.Equal(got, []string{"CAP_KILL", "CAP_NET_BIND_SERVICE"}) {
		return fmt.Errorf("the status has %v", got)
	}
	return nil
}

// childNamed finds a child of this process by its name.
func childNamed(name string) string {
	for pid := range children() {
		if text, _ := os.ReadFile("/proc/" + pid + "/comm"); strings.TrimSpace(string(text)) == name {
			return pid
		}
	}
	return ""
}

// TestParentSandbox: the parent gives up its rights too, and can still talk to its
// children, end them, and, with a starter, start them with the rights that they
// had at first.
func TestParentSandbox(t *testing.T) {
	for _, name := range []string{"confined parent", "confined restart", "capable"} {
		t.Run(name, func(t *testing.T) {
			cmd := middle(t, name)
			cmd.Stdout, cmd.Stderr = nil, nil
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestParentPromises: a parent that could not do what it is there for says so
// before anything is started.
func TestParentPromises(t *testing.T) {
	cmd := middle(t, "confined without sendfd")
	cmd.Stdout, cmd.Stderr = nil, nil
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), `"sendfd"`) {
		t.Errorf("%v\n%s", err, out)
	}
	for _, change := range []func(*Daemon){
		func(d *Daemon) { d.ParentSandbox.Promises = "stdio" },
		func(d *Daemon) { d.ParentCapabilities = []string{"KILL"} },
		func(d *Daemon) { d.ParentCapabilities = []string{"CAP_"} },
	} {
		var child *ChildError
		if err := fails(t, confinedDaemon, change); !errors.As(err, &child) || child.Role != Parent || child.Step != "plan" {
			t.Errorf("error %v", err)
		}
	}
}

// TestStarterDies: that is the daemon's end; and the starter does not outlive the parent.
func TestStarterDies(t *testing.T) {
	for _, victim := range []string{"starter", "parent"} {
		t.Run(victim, func(t *testing.T) {
			cmd := middle(t, "starter dies")
			out, in := deathPipe(t)
			cmd.Stdout, cmd.Stderr = in, nil
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			in.Close()
			lines := bufio.NewReader(out)
			line, err := lines.ReadString('\n')
			pid := 0
			if _, serr := fmt.Sscanf(line, "starter %d", &pid); err != nil || serr != nil {
				t.Fatalf("%q, %v, %v", line, err, serr)
			}
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			if victim == "parent" {
				cmd.Process.Kill()
			} else if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			n, err := 0, error(unix.EINTR)
			for err == unix.EINTR {
				n, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(limit/time.Millisecond))
			}
			if n != 1 {
				t.Errorf("the starter lives: %v", err)
			}
			text, _ := io.ReadAll(lines)
			if err := cmd.Wait(); err == nil || victim == "starter" && !strings.Contains(string(text), "starter: run: signal: killed") {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}
