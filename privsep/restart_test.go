package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.org/imsg/peer"
	"example.org/imsg/privsep/sandbox"
)

var restartDaemon = register(Daemon{Name: "restart", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "mortal", Run: witness, OnExit: Restart, Backoff: time.Millisecond, Instances: 2, Peers: []string{"steady", "caged"}},
	{Name: "steady", Run: witness},
	{Name: "caged", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio"}}, // has no right to files, but gets channels
}})

// fragile reads from its file whether it can start.
var fragileDaemon = register(Daemon{Name: "fragile", Roles: []Role{
	{Name: "fragile", Run: witness, OnExit: Restart, Backoff: time.Millisecond, Setup: func(_ context.Context, p *Proc) error {
		text, err := contents(p.File("state"))
		if err == nil && text != "good" {
			err = fmt.Errorf("the state is %s", text)
		}
		return err
	}},
}})

func init() {
	// next orders something of the process that follows that to which the
	// channel has ended: role, instance, act, arguments.
	acts["next"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return nil, err
		}
		q := w.p.Peers(args[0])[n]
		for {
			v, err := try[any](w.ctx, q, nil, args[2], args[3:]...)
			if remote := (*peer.RemoteError)(nil); err == nil || errors.As(err, &remote) {
				return v, err
			}
			if q, err = w.p.WaitPeer(w.ctx, args[0], n, q); err != nil {
				return nil, err
			}
		}
	}
	// own makes a request of the test's own table to the parent.
	acts["own"] = func(w *testimony, args []string, _ *os.File) (any, error) {
		m, err := w.p.Parent().Call(w.ctx, peer.Request{Type: reqOwn, Ends: []uint32{repOwn}})
		if err != nil {
			return nil, err
		}
		defer m.Close()
		return string(m.Bytes()), nil
	}
}

func ended(q *peer.Peer) bool {
	select {
	case <-q.Done():
		return true
	default:
		return false
	}
}

// replies is a table with one request.
func replies(p *Proc) {
	p.Handle("mortal", peer.Rule{Type: reqOwn, Once: true, Handle: func(_ context.Context, in *peer.Incoming) error {
		return in.Reply(repOwn, nil, []byte("as ever"))
	}})
}

// TestRestart: a child that is started again has all that the first had, and its
// peers have channels to it.
func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(file, []byte("a gift"), 0o600); err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	r := upWith(t, restartDaemon, replies, patient, func(d *Daemon) {
		d.Prepare = func(_ context.Context, p *Proc) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			p.AddFile("mortal", "gift", f)
			return p.Configure("mortal", []byte("the same"))
		}
	})
	old := r.Peers("mortal")[1]
	first, other := r.status("mortal", 1), r.status("mortal", 0)
	for _, way := range []string{"kill", "exit 0", "return", "return error", "kill"} {
		if got := ask[string](t, old, "own"); got != "as ever" {
			t.Errorf("before %s: the answer is %q", way, got)
		}
		kill(t, old, way)
		q := r.next("mortal", 1, old)
		if q == old || !ended(old) {
			t.Errorf("%s: Next returned the old channel", way)
		}
		if got := ask[peerName](t, q, "hello"); got != (peerName{"mortal", 1}) {
			t.Errorf("%s: it says it is %v", way, got)
		}
		if got := ask[string](t, q, "given", "gift"); got != "a gift" {
			t.Errorf("%s: it was given %q", way, got)
		}
		if got := ask[string](t, q, "config"); got != sum([]byte("the same")) {
			t.Errorf("%s: its configuration is %s", way, got)
		}
		for _, role := range []string{"steady", "caged"} {
			if got := ask[peerName](t, q, "relay", role, "0", "hello"); got.Role != role {
				t.Errorf("%s: %s says it is %v", way, role, got)
			}
			if got := ask[peerName](t, r.Peer(role), "next", "mortal", "1", "hello"); got != (peerName{"mortal", 1}) {
				t.Errorf("%s: to %s it says it is %v", way, role, got)
			}
		}
		if s := r.status("mortal", 1); s.PID == first.PID || s.UID != first.UID || (s.Chroot == "") != (first.Chroot == "") || s.Dumpable {
			t.Errorf("%s: status %v, first %v", way, s, first)
		}
		old = q
	}
	// What is given later is for those that are started later.
	if err := os.WriteFile(file+"2", []byte("another gift"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file + "2")
	if err != nil {
		t.Fatal(err)
	}
	r.AddFile("mortal", "gift", f)
	if err := r.Configure("mortal", []byte("another")); err != nil {
		t.Fatal(err)
	}
	kill(t, old, "kill")
	for q, want := range map[*peer.Peer][2]string{
		r.Peer("mortal"):         {"a gift", sum([]byte("the same"))},
		r.next("mortal", 1, old): {"another gift", sum([]byte("another"))},
	} {
		if got := [2]string{ask[string](t, q, "given", "gift"), ask[string](t, q, "config")}; got != want {
			t.Errorf("it has %q instead of %q", got, want)
		}
	}
	if s := r.status("mortal", 0); s.PID != other.PID {
		t.Errorf("status of the other %v, first %v", s, other)
	}
	if names, err := os.ReadDir(tmp); err != nil || len(names) > 0 {
		t.Errorf("empty directories are left: %v %v", names, err)
	}
}

// next returns the channel to the process that follows.
func (r *running) next(role string, instance int, old *peer.Peer) *peer.Peer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	q, err := r.WaitPeer(ctx, role, instance, old)
	if err != nil {
		r.t.Fatalf("after %v %s[%d] was not started again: %v\n%s", limit, role, instance, err, r.log)
	}
	return q
}

// kill ends the witness at the other end of q.
func kill(t *testing.T, q *peer.Peer, way string) {
	t.Helper()
	switch way {
	case "exit 0":
		tell(t, q, "exit", "0")
	case "return error":
		tell(t, q, "return", "an error")
	default:
		tell(t, q, way)
	}
}

// TestRestartFails: a child that could not be started again is tried again.
func TestRestartFails(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	set := func(text string) {
		if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("good")
	log := make(lines, 1000)
	r := up(t, fragileDaemon, patient, func(d *Daemon) {
		d.Logger = log.logger()
		d.Prepare = func(_ context.Context, p *Proc) error {
			f, err := os.Open(state)
			p.AddFile("fragile", "state", f)
			return err
		}
	})
	q := r.Peer("fragile")
	set("evil")
	tell(t, q, "kill")
	for range 3 {
		log.wait(t, "fragile: setup: the state is evil")
	}
	set("good")
	for { // until one answers
		q = r.next("fragile", 0, q)
		if _, err := try[peerName](t.Context(), q, nil, "hello"); err == nil {
			break
		}
	}
	until(t, "status", func() bool { return len(r.Status()) == 2 })
}

// TestRestartBoth: two that die at once find each other again.
func TestRestartBoth(t *testing.T) {
	r := up(t, restartDaemon, patient, func(d *Daemon) { d.Roles[1].OnExit, d.Roles[1].Backoff = Restart, time.Millisecond })
	for range 3 {
		m, s := r.Peer("mortal"), r.Peer("steady")
		tell(t, m, "kill")
		tell(t, s, "kill")
		m, s = r.next("mortal", 0, m), r.next("steady", 0, s)
		if got := ask[peerName](t, m, "next", "steady", "0", "hello"); got.Role != "steady" {
			t.Errorf("%v instead of steady", got)
		}
		if got := ask[peerName](t, s, "next", "mortal", "0", "hello"); got.Role != "mortal" {
			t.Errorf("%v instead of mortal", got)
		}
	}
}

// TestRestartAtEnd: nothing is started when the daemon ends.
func TestRestartAtEnd(t *testing.T) {
	r := up(t, restartDaemon, patient)
	for _, q := range r.Peers("mortal") {
		tell(t, q, "kill")
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	// While it waits for the time of the next start, which is far.
	r = up(t, restartDaemon, patient, func(d *Daemon) { d.Roles[0].Backoff = time.Hour })
	q := r.Peer("mortal")
	tell(t, q, "kill")
	<-q.Done()
	if err := r.end(); err != nil {
		t.Error(err)
	}
	// Next waits no longer than its context.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.WaitPeer(ctx, "mortal", 0, q); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v", err)
	}
}

// TestBackoff: a child that fails is started again ever later, up to a limit; the
// first time counts again for one that has lasted, or that ended well.
func TestBackoff(t *testing.T) {
	for _, first := range []time.Duration{0, time.Second, maxBackoff} {
		want := first
		if first == 0 {
			want = defaultBackoff
		}
		var b backoff
		for _, again := range []struct {
			lasted time.Duration
			failed bool
		}{{maxBackoff + 1, true}, {0, false}} {
			start := want
			for range 20 {
				if b = b.next(first, 0, true); time.Duration(b) != start {
					t.Errorf("the first was %v: %v instead of %v", first, time.Duration(b), start)
				}
				start = min(2*start, maxBackoff)
			}
			if b = b.next(first, again.lasted, again.failed); time.Duration(b) != want {
				t.Errorf("the first was %v: %v after %+v", first, time.Duration(b), again)
			}
			b = 0
		}
	}
}

// TestLateViolation: what a process is found to have done does not count for the one
// in its place.
func TestLateViolation(t *testing.T) {
	log := make(lines, 1000)
	r := up(t, restartDaemon, patient, func(d *Daemon) { d.Logger = log.logger() })
	old := r.Peer("mortal")
	tell(t, old, "kill")
	q := r.next("mortal", 0, old)
	r.report(peerName{"mortal", 0}, old, errors.New("found late")) // as Serve does
	ask[any](t, q, "hello")
	r.report(peerName{"mortal", 0}, q, errors.New("found in time"))
	for line := ""; !strings.Contains(line, "found in time"); {
		if line = log.wait(t, "broke the rules"); strings.Contains(line, "found late") {
			t.Error(line)
		}
	}
	ask[any](t, r.next("mortal", 0, q), "hello")

	// The same, whoever is first.
	for range 6 { // the pause before a restart doubles
		q = r.Peer("mortal")
		tell(t, q, "request", Parent, "99")
		_ = q.Send(t.Context(), reqTell, nil, marshal(order{Do: "kill"})) // unless the parent has closed it
		q = r.next("mortal", 0, q)
		ask[any](t, q, "hello")
	}
}
