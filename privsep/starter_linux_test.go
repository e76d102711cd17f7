package privsep

import (
	"context"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/imsgtest"
	"example.org/imsg/privsep/sandbox"
)

// startStarter starts a true starter whose parent is the test, and tells it of a
// role.
func startStarter(t *testing.T, seats ...seat) *fakeParent {
	t.Helper()
	p := fakeAdopt(t, "")
	for _, s := range seats {
		p.send(starterSeat, nil, s)
	}
	return p
}

func openSeat() seat {
	s := seat{Role: "open", Most: 1, Rights: rights{UID: -1, GID: -1, Sandbox: sandbox.Policy{Promises: "stdio"}}}
	if isRoot() {
		s.Rights.UID, s.Rights.GID, s.Rights.Groups = 65534, 65534, true
		s.Rights.Root, s.Rights.Chroot = true, EmptyDir
	}
	return s
}

// TestStarterRefuses: who has taken over the parent gets nothing from the starter
// but what was declared: it ends.
func TestStarterRefuses(t *testing.T) {
	other := openSeat()
	other.Rights = rights{UID: -1, GID: -1}
	for _, r := range []struct {
		name string
		say  func(*fakeParent)
	}{
		{"another role", func(p *fakeParent) { p.send(starterStart, p.null(), peerName{Role: "closed"}) }},
		{"no role", func(p *fakeParent) { p.send(starterStart, p.null(), peerName{}) }},
		{"too many", func(p *fakeParent) { p.send(starterStart, p.null(), peerName{"open", 1}) }},
		{"a negative instance", func(p *fakeParent) { p.send(starterStart, p.null(), peerName{"open", -1}) }},
		{"no channel", func(p *fakeParent) { p.send(starterStart, nil, peerName{"open", 0}) }},
		{"no JSON", func(p *fakeParent) { p.send(starterStart, p.null(), []byte("open")) }},
		{"another message", func(p *fakeParent) { p.send(starterStarted, nil, started{}) }},
		{"other rights, later", func(p *fakeParent) {
			p.send(starterStart, p.null(), peerName{"open", 0})
			p.send(starterSeat, nil, other)
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			defer leaveNothing(t)()
			p := startStarter(t, openSeat())
			r.say(p)
			for m, err := range p.ctl.All(t.Context()) {
				if err != nil {
					break
				}
				var s started
				if unmarshal(m, &s) == nil && s.PID > 0 { // with no channel that it would take
					unix.Wait4(s.PID, nil, 0, nil)
				}
				m.Close()
			}
			if status := p.exit(); status != 1 {
				t.Errorf("exit status %d\n%s", status, p.err)
			}
		})
	}
}

// TestStarterRights: what the parent says of a child's rights is not what counts.
func TestStarterRights(t *testing.T) {
	defer leaveNothing(t)()
	p := startStarter(t, openSeat())
	near, far := imsgtest.Pair(t, nil)
	end, err := far.File()
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	p.send(starterStart, end, peerName{"open", 0})
	end.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	m, err := p.ctl.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var s started
	if err := unmarshal(m, &s); err != nil || s.PID == 0 || !m.HasFile() {
		t.Fatalf("answer %q, file %t, %v", m.Bytes(), m.HasFile(), err)
	}
	m.Close()
	child := &fakeParent{t: t, ctl: near, cmd: p.cmd, err: p.err}
	near.SetDeadline(time.Now().Add(limit))
	child.send(ctlHello, nil, child.hello("open")) // which leaves it all rights
	child.connect()
	var status Status
	child.expect(ctlReady, &status)
	want, known := openSeat().Rights, runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
	if isRoot() && (status.UID != want.UID || status.GID != want.GID || status.Chroot != EmptyDir) || known && status.Sandbox.InForce()&sandbox.Seccomp == 0 {
		t.Errorf("the child is %v", status)
	}
	for _, c := range child.held {
		c.Close()
	}
	near.Close()
	if _, err := unix.Wait4(s.PID, nil, 0, nil); err != nil { // it is a child of who takes the parent's part
		t.Error(err)
	}
	p.ctl.Close() // the parent's end
	if code := p.exit(); code != 0 {
		t.Errorf("the starter's exit status %d\n%s", code, p.err)
	}
}
