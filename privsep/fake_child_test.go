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
	"unicode"

	"golang.org/x/sys/unix"

	"example.org/imsg"
)

// A fakeChild is a process that a parent has started as its child, and that
// follows a script instead of package privsep.
type fakeChild struct {
	ctl   *imsg.Conn
	hello hello
	root  *os.File
	files map[string]*os.File
}

var _ = registerFake("fake", fakeMain)

// fakeMain is the life of a fake child.
func fakeMain(script string, _ int) int {
	ctl, err := imsg.NewConn(controlFD, &imsg.Config{AllowFDPass: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 100
	}
	c := &fakeChild{ctl: ctl, files: make(map[string]*os.File)}
	fakeScripts[script](c)
	return 0
}

// expect receives a message of one type, with a file if it is to have one.
func expect(ctx context.Context, c *imsg.Conn, typ uint32, file bool) (imsg.Message, error) {
	m, err := c.Receive(ctx)
	if err == nil && (m.Type() != typ || m.HasFile() != file) {
		m.Close()
		return imsg.Message{}, fmt.Errorf("%w: message type %d, file %t", ErrProtocol, m.Type(), m.HasFile())
	}
	return m, err
}

// greet takes what a child gets before it is ready.
func (c *fakeChild) greet() {
	m, err := expect(context.Background(), c.ctl, ctlHello, false)
	if err != nil || unmarshal(m, &c.hello) != nil {
		os.Exit(101)
	}
	m.Close()
	if c.hello.Root {
		m, err := expect(context.Background(), c.ctl, ctlRoot, true)
		if err != nil {
			os.Exit(107)
		}
		c.root = m.TakeFile()
		m.Close()
	}
	for left := c.hello.channels() + c.hello.Files; left > 0; {
		m, err := c.ctl.Receive(context.Background())
		switch {
		case err != nil:
			os.Exit(102)
		case m.Type() == ctlFile:
			c.files[string(m.Bytes())] = m.TakeFile()
			left--
		case m.Type() == ctlPeer:
			left--
		}
		m.Close()
	}
}

// send says something. A parent that does not listen any more has decided.
func (c *fakeChild) send(typ uint32, data []byte) {
	_ = c.ctl.Send(context.Background(), imsg.Header{Type: typ}, nil, data)
}

func (c *fakeChild) sendFile(typ uint32, data []byte) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		os.Exit(103)
	}
	if err := c.ctl.Send(context.Background(), imsg.Header{Type: typ}, null, data); err != nil {
		c.raw(fakeFrame(typ, true, data)) // the kernel passes none to the parent
	}
}

// raw writes bytes past the Conn.
func (c *fakeChild) raw(data []byte) { _, _ = unix.Write(controlFD, data) }

// status is what a true child would say when it is ready.
func (c *fakeChild) status() Status {
	s := Status{UID: os.Getuid(), GID: os.Getgid()}
	s.Groups, _ = os.Getgroups()
	if c.hello.UID >= 0 {
		s.UID = c.hello.UID
	}
	if c.hello.GID >= 0 {
		s.GID, s.Groups = c.hello.GID, []int{c.hello.GID}
	}
	return s
}

func (c *fakeChild) ready() {
	c.greet()
	c.send(ctlReady, marshal(c.status()))
}

// readyGo also waits until the parent says go.
func (c *fakeChild) readyGo() {
	c.ready()
	m, err := expect(context.Background(), c.ctl, ctlGo, false)
	if err != nil {
		os.Exit(104)
	}
	m.Close()
}

// accuse says that a peer has broken its rules.
func (c *fakeChild) accuse(role string, instance int) {
	c.send(ctlReplace, marshal(replace{peerName{role, instance}, "so it is\x1b[2J", false}))
}

// linger ends when the parent says so, or is gone.
func (c *fakeChild) linger() {
	for m, err := range c.ctl.All(context.Background()) {
		if err != nil || m.Type() == ctlStop {
			return
		}
		m.Close()
	}
}

// hang is a process that does not end: not before the test has failed.
func (c *fakeChild) hang() {
	time.Sleep(3 * limit)
	os.Exit(105)
}

// fakeSuicide ends this process as nothing can be said against.
func fakeSuicide() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// fakeRecord is a log record of so many bytes.
func fakeRecord(size int) []byte {
	const head, tail = `{"level":"INFO","msg":"`, `"}`
	return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
}

// fakeScripts are what fake children do, by the name of their role. One that
// returns exits with status 0.
var fakeScripts = map[string]func(c *fakeChild){}

// fakeRole declares a role whose children follow a script.
func fakeRole(name string, script func(c *fakeChild)) Role {
	fakeScripts[name] = script
	return Role{Name: name, Run: witness}
}

// fakeDrop gives up the rights, but for these groups.
func fakeDrop(c *fakeChild, groups []int) {
	if syscall.Setgroups(groups) != nil || setGID(c.hello.GID) != nil || setUID(c.hello.UID) != nil {
		os.Exit(106)
	}
}

var fakeDaemon = func() *Daemon {
	d := Daemon{Name: "fake", Grace: time.Second, Env: []string{"GORACE"}}
	for _, r := range fakeRows {
		role := fakeRole(r.name, r.script)
		if r.root {
			role.User = "nobody"
		}
		d.Roles = append(d.Roles, role)
	}
	return &d
}()

// fakeOnly leaves a daemon this role alone.
func fakeOnly(role string) func(*Daemon) {
	return func(d *Daemon) { d.Roles = []Role{*d.role(role)} }
}

// TestFakeChild: whatever a child says or fails to say, the daemon ends with an
// error that names it, and with nothing left behind.
func TestFakeChild(t *testing.T) {
	for _, r := range fakeRows {
		t.Run(r.name, func(t *testing.T) {
			if r.root && !isRoot() {
				t.Skip("needs root, which has rights to keep")
			}
			err := fails(t, fakeDaemon, fakeOnly(r.name))
			var child *ChildError
			if !errors.As(err, &child) || child.Role != r.name {
				t.Fatalf("error %v is not that of the child", err)
			}
			if r.step != "*" && child.Step != r.step || r.is != nil && !errors.Is(err, r.is) || !strings.Contains(err.Error(), r.text) {
				t.Errorf("step %q, error %v; want step %q, %v, %q", child.Step, err, r.step, r.is, r.text)
			}
			if i := strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("error %q has something at byte %d that cannot be printed", err, i)
			}
		})
	}
}
