package privsep

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

var boundedDaemon = register(Daemon{Name: "bounded", Roles: []Role{
	{Name: "bounded", Run: witness, OnExit: Restart, Backoff: time.Millisecond, Memory: 32 << 20, OOMScore: 900, Sandbox: sandbox.Policy{Promises: "stdio"},
		Setup: func(_ context.Context, p *Proc) (err error) {
			boundedScore, err = os.ReadFile("/proc/self/oom_score_adj")
			return err
		}},
	{Name: "plain", Run: witness},
}})

var (
	boundedScore []byte // of a child
	eaten        [][]byte
)

func init() {
	acts["score"] = func(*testimony, []string, *os.File) (any, error) { return strings.TrimSpace(string(boundedScore)), nil }
	// eat uses so many MiB, and keeps them if there is another argument.
	acts["eat"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		n, err := strconv.Atoi(args[0])
		for range n {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 1 << 12 {
				b[i] = 1
			}
			if len(args) > 1 {
				eaten = append(eaten, b)
			}
		}
		return n, err
	}
}

// TestMemory: a process can use what its role may, again and again, and ends alone
// if it needs more.
func TestMemory(t *testing.T) {
	t.Setenv("GOTRACEBACK", "none")
	r := up(t, boundedDaemon, patient)
	s := r.status("bounded", 0)
	if s.Memory != 32<<20 || len(s.Missing) > 0 || !strings.Contains(s.String(), "memory 32768 KiB") {
		t.Errorf("status %v", s)
	}
	if score := ask[string](t, r.Peer("bounded"), "score"); score != "900" {
		t.Errorf("oom_score_adj is %s", score)
	}
	q := r.Peer("bounded")
	ask[int](t, q, "eat", "4", "keep")
	if _, err := try[int](t.Context(), q, nil, "eat", "64"); err != nil {
		t.Fatalf("64 MiB one after the other: %v\n%s", err, r.log)
	}
	if _, err := try[int](t.Context(), q, nil, "eat", "256", "keep"); err == nil {
		t.Error("it keeps 256 MiB")
	}
	ask[any](t, r.next("bounded", 0, q), "hello")
	ask[int](t, r.Peer("plain"), "eat", "40", "keep")
}

var groupsDaemon = register(Daemon{Name: "groups", User: "65534", Chroot: EmptyDir, Roles: []Role{
	{Name: "member", Run: witness, Groups: []string{"12345", "0", "12345"}},
	{Name: "plain", Run: witness},
}})

// TestGroups: a role has the groups that it declares, and no others.
func TestGroups(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to change groups")
	}
	r := up(t, groupsDaemon)
	for role, want := range map[string][]int{"member": {0, 12345, 65534}, "plain": {65534}} {
		s := r.status(role, 0)
		if slices.Sort(s.Groups); !slices.Equal(s.Groups, want) || s.Threads == 0 {
			t.Errorf("%v; want the groups %v", s, want)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Role){
		func(r *Role) { r.Groups = []string{"no such group"} },
		func(r *Role) { r.User = NoUser },
		func(r *Role) { r.Memory = -1 },
		func(r *Role) { r.OOMScore = 1001 },
	} {
		var child *ChildError
		err := fails(t, groupsDaemon, func(d *Daemon) { change(&d.Roles[0]) })
		if !errors.As(err, &child) || child.Role != "member" || child.Step != "plan" {
			t.Errorf("error %v", err)
		}
	}
}
