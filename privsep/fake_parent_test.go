package privsep

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/privsep/sandbox"
)

// fosteredDaemon has children that tests bring up themselves.
var fosteredDaemon = register(Daemon{Name: "fostered", Roles: []Role{
	{Name: "open", Run: witness},
	{Name: "closed", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio"}},
	{Name: "patient", Run: witness, Setup: func(ctx context.Context, _ *Proc) error {
		<-ctx.Done()
		return ctx.Err()
	}},
	{Name: "stuck", Run: witness, Setup: func(_ context.Context, p *Proc) error {
		_, err := p.File("gate").Read(make([]byte, 1))
		return err
	}},
}})

var _ = registerMiddle("fostered", func() int { fosteredDaemon.Main(); return 0 })

// A fakeParent has started a true child, or what believes that it is one.
type fakeParent struct {
	t    *testing.T
	cmd  *exec.Cmd
	ctl  *imsg.Conn // nil without a channel
	err  *bytes.Buffer
	held []io.Closer // closed when the child has ended
}

// foster starts a child with f, which it closes, as descriptor 3, unless f is nil.
func foster(t *testing.T, f *os.File, env ...string) *fakeParent {
	t.Helper()
	p := &fakeParent{t: t, cmd: again(t, env...), err: new(bytes.Buffer)}
	p.cmd.Stdout, p.cmd.Stderr = nil, p.err
	if f != nil {
		p.cmd.ExtraFiles = []*os.File{f}
		defer f.Close()
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// fakeAdopt starts a child of the daemon "fostered" with a channel.
func fakeAdopt(t *testing.T, role string) *fakeParent {
	t.Helper()
	near, far := imsgtest.Pair(t, nil)
	f, err := far.File()
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	p := foster(t, f, envRole+"=fostered/"+role+"/0")
	p.ctl, p.held = near, []io.Closer{near}
	near.SetDeadline(time.Now().Add(limit))
	return p
}

// hello is the right one.
func (p *fakeParent) hello(role string) hello {
	p.t.Helper()
	build, err := fingerprint()
	if err != nil {
		p.t.Fatal(err)
	}
	return hello{Protocol: protocol, Build: build, Role: role, rights: rights{UID: -1, GID: -1}, Grace: time.Second}
}

func (p *fakeParent) send(typ uint32, f *os.File, v any) {
	p.t.Helper()
	data, ok := v.([]byte)
	if !ok {
		data = marshal(v)
	}
	if err := p.ctl.Send(p.t.Context(), imsg.Header{Type: typ}, f, data); err != nil {
		p.t.Fatal(err)
	}
}

// connect gives the child its channel to the parent.
func (p *fakeParent) connect() {
	p.t.Helper()
	near, far := imsgtest.Pair(p.t, nil)
	f, err := far.File()
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	far.Close()
	p.send(ctlPeer, f, peerName{Role: Parent})
	p.held = append(p.held, near)
}

// expect receives a message of this type, past records of the log.
func (p *fakeParent) expect(typ uint32, v any) {
	p.t.Helper()
	for {
		m, err := p.ctl.Receive(p.t.Context())
		if err != nil {
			p.t.Fatalf("waiting for message type %d: %v\n%s", typ, err, p.err)
		}
		defer m.Close()
		if m.Type() == ctlLog {
			continue
		}
		if m.Type() != typ || m.HasFile() {
			p.t.Fatalf("message type %d, file %t, %q instead of type %d", m.Type(), m.HasFile(), m.Bytes(), typ)
		}
		if err := unmarshal(m, v); err != nil {
			p.t.Fatal(err)
		}
		return
	}
}

// exit waits for the child's, and returns its status.
func (p *fakeParent) exit() int {
	p.t.Helper()
	timer := time.AfterFunc(limit, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	err := p.cmd.Wait()
	for _, c := range p.held {
		c.Close()
	}
	if !timer.Stop() {
		p.t.Errorf("the child has not ended within %v and was killed", limit)
	}
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// null returns a file to send.
func (p *fakeParent) null() *os.File {
	p.t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		p.t.Fatal(err)
	}
	p.held = append(p.held, f)
	return f
}

// raw writes bytes past the Conn.
func (p *fakeParent) raw(data []byte) {
	p.t.Helper()
	f, err := p.ctl.File()
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		p.t.Fatal(err)
	}
}

// ready brings a child up to the barrier.
func (p *fakeParent) ready(role string) {
	p.t.Helper()
	p.send(ctlHello, nil, p.hello(role))
	p.connect()
	var s Status
	p.expect(ctlReady, &s)
}

// eof waits until the child has closed the channel by itself.
func (p *fakeParent) eof() {
	p.t.Helper()
	for m, err := range p.ctl.All(p.t.Context()) {
		if err != nil {
			p.t.Errorf("the child has not ended: %v\n%s", err, p.err)
			p.ctl.Close()
			return
		}
		m.Close()
	}
}
