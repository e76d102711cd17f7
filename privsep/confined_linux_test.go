package privsep

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/privsep/sandbox"
)

// What confines a parent cannot be in the process of the tests.
var (
	confinedDaemon = register(Daemon{Name: "confined", User: "nobody", Roles: []Role{
		{Name: "a", Run: witness, Backoff: time.Millisecond, Sandbox: sandbox.Policy{Promises: "stdio"}},
	}, ParentSandbox: sandbox.Policy{Promises: "stdio proc"}})

	_ = registerMiddle("confined parent", func() int { return report(copyOf(confinedDaemon, nil), tryOut) })
	_ = registerMiddle("confined restart", func() int {
		d := copyOf(confinedDaemon, nil)
		d.Roles[0].OnExit = Restart
		d.ParentSandbox.Promises = "stdio rpath wpath cpath proc exec id sendfd recvfd unix"
		return report(d, startAgain)
	})
)

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

func startAgain(ctx context.Context, p *Proc) error {
	q := p.Peer("a")
	q.Send(ctx, reqTell, nil, marshal(order{"kill", nil}))
	ctx, cancel := context.WithTimeout(ctx, limit/2)
	defer cancel()
	for {
		var err error
		if q, err = p.WaitPeer(ctx, "a", 0, q); err != nil {
			return err
		}
		if _, err = try[peerName](ctx, q, nil, "hello"); err == nil {
			return nil
		}
	}
}

// TestParentSandbox: the parent gives up its rights too, and can still talk to its
// children and end them.
func TestParentSandbox(t *testing.T) {
	cmd := middle(t, "confined parent")
	cmd.Stdout, cmd.Stderr = nil, nil
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestConfinedRestart: a parent that cannot start a child again with its rights,
// because what confines it would confine the child, says so before it starts any.
func TestConfinedRestart(t *testing.T) {
	cmd := middle(t, "confined restart")
	cmd.Stdout, cmd.Stderr = nil, nil
	out, err := cmd.CombinedOutput()
	if status := cmd.ProcessState.ExitCode(); status != 0 && status != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}
