package privsep

import (
	"os"
	"path/filepath"
	"testing"

	"example.org/imsg/privsep/sandbox"
)

var siblingsDaemon = register(Daemon{Name: "siblings", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "a", Run: witness, OnExit: Ignore, Peers: []string{"b"}, Sandbox: sandbox.Policy{Promises: "stdio sendfd recvfd"}},
	{Name: "b", Run: witness, OnExit: Ignore, Sandbox: sandbox.Policy{Promises: "stdio recvfd"}},
	{Name: "stranger", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio"}},
}})

// TestSiblings: a file goes from the parent to a child and from there to its
// sibling; and when one is dead the other's channel ends, because nobody else has
// an end of it.
func TestSiblings(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("what is in it"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r := up(t, siblingsDaemon)
	for range 3 {
		if got, err := try[string](t.Context(), r.Peer("a"), f, "take"); err != nil || got != "what is in it" {
			t.Errorf("a has %q, %v", got, err)
		}
		if got, err := try[string](t.Context(), r.Peer("a"), f, "relay", "b", "0", "take"); err != nil || got != "what is in it" {
			t.Errorf("b has %q, %v", got, err)
		}
	}
	if _, err := try[any](t.Context(), r.Peer("stranger"), f, "take"); err == nil {
		t.Error("a child that may not receive files was sent one")
	}
	ask[peerName](t, r.Peer("stranger"), "hello")
	answer := make(chan string, 1)
	go func() {
		v, err := try[string](t.Context(), r.Peer("b"), nil, "lost", "a")
		answer <- v + errText(err)
	}()
	tell(t, r.Peer("a"), "kill")
	if got := <-answer; got != "<nil>" {
		t.Errorf("b has lost a by %q", got)
	}
	ask[peerName](t, r.Peer("b"), "hello")
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestInstances: each has a channel to each of its peers.
func TestInstances(t *testing.T) {
	r := up(t, restartDaemon, patient)
	list := r.Peers("mortal")
	if len(list) != 2 || list[0] == list[1] || list[0] != r.Peer("mortal") {
		t.Fatalf("channels to two instances: %v", list)
	}
	pids := make(map[int]bool)
	for _, s := range r.Status() {
		pids[s.PID] = true
	}
	if len(pids) != 1+4 {
		t.Errorf("%d processes", len(pids))
	}
	if r.Parent() != nil {
		t.Error("the parent has a parent")
	}
	for i := range list {
		if got := ask[peerName](t, r.Peer("steady"), "relay", "mortal", string(rune('0'+i)), "hello"); got.Instance != i {
			t.Errorf("instance %d says it is %v", i, got)
		}
	}
}
