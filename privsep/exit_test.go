package privsep

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
)

var pairDaemon = register(Daemon{Name: "pair", Roles: []Role{
	{Name: "a", Run: witness, Peers: []string{"b"}},
	{Name: "b", Run: witness},
}})

// TestUp: the children are there and answer, and nothing is left when ctx ends.
func TestUp(t *testing.T) {
	r := up(t, pairDaemon)
	for _, role := range []string{"a", "b"} {
		if got := ask[peerName](t, r.Peer(role), "hello"); got != (peerName{role, 0}) {
			t.Errorf("%s says it is %v", role, got)
		}
	}
	if got := ask[peerName](t, r.Peer("a"), "relay", "b", "0", "hello"); got.Role != "b" {
		t.Errorf("a's peer b says it is %v", got)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// TestChildEnds: the daemon ends when a child does, with its error.
func TestChildEnds(t *testing.T) {
	t.Setenv("GOTRACEBACK", "none") // for the panic
	for _, c := range []struct {
		name  string
		order []string
		want  string // "": no error
		is    error
	}{
		{"Run returns nil", []string{"return"}, "", nil},
		{"Run returns an error", []string{"return", "no more"}, "no more", nil},
		{"Run returns an errno", []string{"return", "disk", "28"}, "disk: no space left on device", syscall.ENOSPC},
		{"exit", []string{"exit", "3"}, "exit status 3", nil},
		{"exit 0", []string{"exit", "0"}, "", nil},
		{"killed", []string{"kill"}, "signal: killed", nil},
		{"panic", []string{"panic"}, "exit status 2", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := up(t, pairDaemon)
			tell(t, r.Peer("b"), c.order[0], c.order[1:]...)
			err := r.wait()
			if c.want == "" {
				if err != nil {
					t.Errorf("error %v", err)
				}
				return
			}
			var child *ChildError
			if !errors.As(err, &child) || child.Role != "b" || child.Instance != 0 || child.Step != "run" {
				t.Fatalf("error %v", err)
			}
			if got := child.Err.Error(); !strings.Contains(got, c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %q instead of %q", got, c.want)
			}
		})
	}
}

// TestIgnore: the others go on, and learn that the channel has ended.
func TestIgnore(t *testing.T) {
	r := up(t, restartDaemon, patient, func(d *Daemon) { d.Roles[0].OnExit = Ignore })
	q := r.Peer("mortal")
	tell(t, q, "kill")
	<-q.Done()
	if _, err := try[any](t.Context(), q, nil, "hello"); err == nil {
		t.Error("the dead answer")
	}
	if got := ask[string](t, r.Peer("steady"), "lost", "mortal"); got != "<nil>" {
		t.Errorf("steady has lost it by %s", got)
	}
	until(t, "end of the status", func() bool { return len(r.Status()) == 1+3 })
	ask[peerName](t, r.Peers("mortal")[1], "hello")
	if err := r.end(); err != nil {
		t.Error(err)
	}

	// When nobody is left the daemon ends.
	r = up(t, restartDaemon, patient, func(d *Daemon) {
		d.Parent = func(ctx context.Context, p *Proc) error { return nil }
		for i := range d.Roles {
			d.Roles[i].OnExit = Ignore
		}
	})
	if err := r.wait(); err != nil {
		t.Error(err)
	}
}
