package privsep

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"example.org/imsg/privsep/sandbox"
)

var limitsDaemon = register(Daemon{Name: "limits", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "few", Run: witness, Sandbox: sandbox.Policy{Limits: sandbox.Limits{FileSize: new(uint64(0)), OpenFiles: new(uint64(20))}}},
	{Name: "none", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio", Limits: sandbox.Limits{FileSize: new(uint64(0)), OpenFiles: new(uint64(0))}}},
	{Name: "free", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio"}},
}})

func init() {
	acts["limits"] = func(*testimony, []string, *os.File) (any, error) {
		var v [3]unix.Rlimit
		for i, what := range []int{unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE, unix.RLIMIT_CORE} {
			if err := unix.Getrlimit(what, &v[i]); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
}

// TestLimits: limits are set, the strictest leave a child what it has, and none
// of them weakens its sandbox.
func TestLimits(t *testing.T) {
	r := up(t, limitsDaemon)
	for role, want := range map[string]uint64{"few": 20, "none": 0} {
		got := ask[[3]unix.Rlimit](t, r.Peer(role), "limits")
		for i, max := range []uint64{0, want, 0} {
			if got[i].Cur != max || got[i].Max != max {
				t.Errorf("%s: limits %v", role, got)
			}
		}
	}
	none, free := r.status("none", 0), r.status("free", 0)
	if none.Sandbox.InForce() != free.Sandbox.InForce() {
		t.Errorf("a child that may open no files: %v\none that may: %v", none, free)
	}
}
