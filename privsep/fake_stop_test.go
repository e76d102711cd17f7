package privsep

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
)

// stubbornDaemon has children that do not end when they are asked to. They write
// a byte to the file "events" when they begin not to, and hold "alive" open.
var stubbornDaemon = &Daemon{Name: "stubborn", Grace: 600 * time.Millisecond, Env: []string{"GORACE"}, Roles: []Role{
	fakeRole("does not get ready", func(c *fakeChild) { c.greet(); c.event(); c.hang() }),
	fakeRole("does not say that it is done", func(c *fakeChild) { c.readyGo(); c.event(); c.hang() }),
	fakeRole("does not end", func(c *fakeChild) { c.readyGo(); c.hang() }),
	fakeRole("breaks the rules", func(c *fakeChild) { c.readyGo(); c.send(99, nil); c.hang() }),
	fakeRole("does not read", func(c *fakeChild) { c.hang() }),
	fakeRole("is stopped at the start", func(c *fakeChild) { c.greet(); c.event(); c.freeze() }),
	fakeRole("is stopped when it runs", func(c *fakeChild) { c.readyGo(); c.event(); c.freeze() }),
	fakeRole("only logs", func(c *fakeChild) {
		c.readyGo()
		c.event()
		c.flood()
	}),
	fakeRole("logs without reading", func(c *fakeChild) {
		c.flood()
	}),
	fakeRole("keeps a grandchild", func(c *fakeChild) { c.readyGo(); c.breed(); c.event(); c.hang() }),
	fakeRole("leaves a grandchild", func(c *fakeChild) {
		c.readyGo()
		c.breed()
		os.Exit(12)
	}),
}}

var _ = registerFake("stubborn", fakeMain)

// A grandchild has the channel of its parent, and does nothing with it.
var _ = registerMiddle("grandchild", func() int {
	unix.SetNonblock(controlFD, false)
	io.Copy(io.Discard, os.NewFile(controlFD, ""))
	return 0
})

func (c *fakeChild) event() {
	if _, err := c.files["events"].Write([]byte{'x'}); err != nil {
		os.Exit(110)
	}
}

// breed starts a process that has the control channel, and "alive" if there is one.
func (c *fakeChild) breed() {
	files := []uintptr{0, 1, 2, controlFD}
	if f := c.files["alive"]; f != nil {
		files = append(files, f.Fd())
	}
	_, err := syscall.ForkExec(self, []string{"grandchild"}, &syscall.ProcAttr{
		Env: []string{envMiddle + "=grandchild", "GORACE=" + os.Getenv("GORACE")}, Files: files,
	})
	if err != nil {
		os.Exit(109)
	}
}

// flood logs as long as anybody listens.
func (c *fakeChild) flood() {
	for c.ctl.Send(context.Background(), imsg.Header{Type: ctlLog}, nil, fakeRecord(1000)) == nil {
	}
	c.hang()
}

// freeze stops this process, sooner or later: the thread that says so may go on
// for a moment.
func (c *fakeChild) freeze() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	c.hang()
}

// TestStubborn: a child that does not end is killed when the grace is nearly
// over, and named.
func TestStubborn(t *testing.T) {
	for _, r := range stubbornDaemon.Roles {
		switch r.Name {
		case "leaves a grandchild", "does not end", "breaks the rules": // have tests of their own
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			alone := leaveNothing(t)
			out, in := deathPipe(t)
			d := copyOf(stubbornDaemon, []func(*Daemon){fakeOnly(r.Name)})
			d.Logger = new(records).logger(0)
			deathGive(d, map[string]*os.File{"events": in})
			give := d.Prepare
			d.Prepare = func(ctx context.Context, p *Proc) error {
				return errors.Join(give(ctx, p), p.Configure(r.Name, bytes.Repeat([]byte{1}, maxConfig)))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			if !strings.HasSuffix(r.Name, "read") && !strings.HasSuffix(r.Name, "reading") {
				if _, err := out.Read(make([]byte, 1)); err != nil {
					t.Errorf("the child has not come so far: %v", err)
				}
			}
			cancel()
			select {
			case err := <-done:
				var child *ChildError
				if !errors.As(err, &child) || child.Role != r.Name || !strings.Contains(err.Error(), "has not ended within") {
					t.Errorf("error %v", err)
				}
			case <-time.After(limit):
				t.Fatalf("Run has not returned after %v\n%s", limit, stacks())
			}
			out.Close()
			in.Close()
			alone()
		})
	}
}

// TestGrandchild: a process of a child's own that has its channel does not hide
// its death, and sees the end of the channel.
func TestGrandchild(t *testing.T) {
	alive, held := deathPipe(t)
	err := fails(t, stubbornDaemon, fakeOnly("leaves a grandchild"), func(d *Daemon) {
		deathGive(d, map[string]*os.File{"alive": held})
	})
	deathCheck(t, err, "leaves a grandchild", "run", "exit status 12")
	held.Close()
	if _, err := io.Copy(io.Discard, alive); err != nil {
		t.Errorf("the grandchild lives: %v", err)
	}
}
