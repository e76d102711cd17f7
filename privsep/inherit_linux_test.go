package privsep

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var meshDaemon = register(Daemon{Name: "mesh", User: "nobody", Env: []string{"PRIVSEP_TEST_WANTED", "PRIVSEP_TEST_UNSET"}, Roles: []Role{
	{Name: "hub", Run: witness, Peers: []string{"leaf", "alone"}},
	{Name: "leaf", Run: witness, Instances: 3, Peers: []string{"hub"}}, // declared on both sides
	{Name: "alone", Run: witness, Chroot: EmptyDir},
}})

// A descriptor is what fstat says of one.
type descriptor struct {
	FD       int
	Dev, Ino uint64
	Socket   bool
	Cloexec  bool
}

func init() {
	acts["descriptors"] = func(*testimony, []string, *os.File) (any, error) { return descriptors(), nil }
	acts["collect"] = func(*testimony, []string, *os.File) (any, error) {
		for range 3 {
			runtime.GC()
		}
		return nil, nil
	}
	acts["processors"] = func(*testimony, []string, *os.File) (any, error) {
		had := runtime.GOMAXPROCS(0)
		runtime.SetDefaultGOMAXPROCS()
		return [2]int{had, runtime.GOMAXPROCS(0)}, nil
	}
}

func descriptors() []descriptor {
	var list []descriptor
	for fd := range 1024 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		list = append(list, descriptor{fd, st.Dev, st.Ino, st.Mode&unix.S_IFMT == unix.S_IFSOCK, flags&unix.FD_CLOEXEC != 0})
	}
	return list
}

// TestDescriptors: a child has its channels and nothing else of its parent's or
// its siblings', whatever the parent had open; so nobody can speak for another.
func TestDescriptors(t *testing.T) {
	var decoys []unix.Stat_t
	for range 3 { // as the program may have inherited them
		path := filepath.Join(t.TempDir(), "decoy")
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		decoys = append(decoys, st)
	}
	r := up(t, meshDaemon)
	owner := make(map[uint64]string) // of a socket
	for _, d := range descriptors() {
		if d.Socket && d.FD > 2 {
			owner[d.Ino] = Parent
		}
		if d.FD > 2 && !d.Cloexec {
			t.Errorf("the parent's descriptor %d is not close-on-exec", d.FD)
		}
	}
	for role, channels := range map[string]int{"hub": 2 + 3 + 1, "leaf": 2 + 1, "alone": 2 + 1} {
		for i, q := range r.Peers(role) {
			who := fmt.Sprintf("%s[%d]", role, i)
			sockets := 0
			for _, d := range ask[[]descriptor](t, q, "descriptors") {
				if d.FD <= 2 {
					continue
				}
				if !d.Cloexec {
					t.Errorf("%s: descriptor %d is not close-on-exec", who, d.FD)
				}
				if slices.ContainsFunc(decoys, func(st unix.Stat_t) bool { return st.Dev == d.Dev && st.Ino == d.Ino }) {
					t.Errorf("%s: descriptor %d is the parent's", who, d.FD)
				}
				if !d.Socket {
					continue
				}
				sockets++
				if other := owner[d.Ino]; other != "" {
					t.Errorf("%s: descriptor %d is a socket of %s", who, d.FD, other)
				}
				owner[d.Ino] = who
			}
			if sockets != channels {
				t.Errorf("%s: %d sockets instead of %d", who, sockets, channels)
			}
			null, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", r.status(role, i).PID))
			if isRoot() && null != os.DevNull {
				t.Errorf("%s: standard input is %q, %v", who, null, err)
			}
		}
	}
}

// TestChannelsAreKept: the program need not keep what the Proc has.
func TestChannelsAreKept(t *testing.T) {
	r := up(t, meshDaemon)
	for _, q := range append(r.Peers("leaf"), r.Peer("hub"), r.Peer("alone")) {
		ask[any](t, q, "collect")
	}
	ask[any](t, r.Peer("hub"), "relay", "alone", "0", "collect")
	for i := range r.Peers("leaf") {
		if got := ask[peerName](t, r.Peer("hub"), "relay", "leaf", fmt.Sprint(i), "hello"); got != (peerName{"leaf", i}) {
			t.Errorf("leaf %d says it is %v", i, got)
		}
		if got := ask[peerName](t, r.Peers("leaf")[i], "relay", "hub", "0", "hello"); got.Role != "hub" {
			t.Errorf("the hub of leaf %d says it is %v", i, got)
		}
	}
}

// TestEnvironment: it is made of nothing and of what is declared.
func TestEnvironment(t *testing.T) {
	t.Setenv("PRIVSEP_TEST_SECRET", "secret")
	t.Setenv("PRIVSEP_TEST_WANTED", "a=b")
	t.Setenv("GOTRACEBACK", "single")
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("GOCOVERDIR", os.Getenv("GOCOVERDIR"))
	r := up(t, meshDaemon)
	want := []string{"GOCOVERDIR=" + os.Getenv("GOCOVERDIR"), "GORACE=" + os.Getenv("GORACE"), "GOTRACEBACK=single", "PRIVSEP_TEST_WANTED=a=b"}
	for _, role := range []string{"hub", "alone"} {
		got := ask[[]string](t, r.Peer(role), "env")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %q instead of %q", role, got, want)
		}
	}
}

// TestProcessors: a child that runs has as many as there are, or as its daemon says.
func TestProcessors(t *testing.T) {
	r := up(t, meshDaemon)
	if got := ask[[2]int](t, r.Peer("hub"), "processors"); got[0] != got[1] {
		t.Errorf("%d of %d", got[0], got[1])
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	t.Setenv(envProcessors, "3")
	r = up(t, meshDaemon, func(d *Daemon) { d.Env = []string{"GORACE", envProcessors} })
	if got := ask[[2]int](t, r.Peer("hub"), "processors"); got[0] != 3 {
		t.Errorf("%d instead of 3", got[0])
	}
}

// TestTitle: children are told apart from outside.
func TestTitle(t *testing.T) {
	r := up(t, meshDaemon)
	for _, c := range []struct {
		role     string
		instance int
		title    string
	}{{"hub", 0, "mesh: hub"}, {"leaf", 0, "mesh: leaf 0"}, {"leaf", 2, "mesh: leaf 2"}} {
		pid := r.status(c.role, c.instance).PID
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if got := strings.TrimRight(string(line), "\x00"); err != nil || got != c.title {
			t.Errorf("command line %q, %v", got, err)
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if got := strings.TrimSpace(string(comm)); err != nil || got != c.role {
			t.Errorf("name %q, %v", got, err)
		}
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			t.Errorf("session %d of %d, %v", sid, pid, err)
		}
		if n := ask[peerName](t, r.Peers(c.role)[c.instance], "hello").Instance; n != c.instance {
			t.Errorf("instance %d says it is %d", c.instance, n)
		}
	}
}

// TestGiven: what Prepare gives is there, by name, and is nobody else's.
func TestGiven(t *testing.T) {
	file := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(file, []byte("a gift"), 0o600); err != nil {
		t.Fatal(err)
	}
	configs := map[string][]byte{"hub": make([]byte, maxConfig), "leaf": []byte("short")}
	for i := range configs["hub"] {
		configs["hub"][i] = byte(i * i >> 3)
	}
	r := up(t, meshDaemon, func(d *Daemon) {
		d.Prepare = func(_ context.Context, p *Proc) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			p.AddFile("leaf", "gift", f)
			for role, data := range configs {
				if err := p.Configure(role, data); err != nil {
					return err
				}
			}
			if err := p.Configure("alone", make([]byte, maxConfig+1)); err == nil {
				t.Error("a configuration that is too long")
			}
			return nil
		}
	})
	for i, q := range r.Peers("leaf") {
		if got := ask[string](t, q, "given", "gift"); got != "a gift" {
			t.Errorf("leaf %d was given %q", i, got)
		}
		if _, err := try[string](t.Context(), q, nil, "given", "nothing"); !refused(err, os.ErrNotExist) {
			t.Errorf("what was not given: %v", err)
		}
	}
	if _, err := try[string](t.Context(), r.Peer("hub"), nil, "given", "gift"); !refused(err, os.ErrNotExist) {
		t.Errorf("what was given to another: %v", err)
	}
	for _, role := range []string{"hub", "leaf", "alone"} {
		if got := ask[string](t, r.Peer(role), "config"); got != sum(configs[role]) {
			t.Errorf("%s: a configuration of the sum %s instead of %s", role, got, sum(configs[role]))
		}
	}
	for name, f := range map[string]func(){
		"Give":      func() { r.AddFile("nobody", "gift", nil) },
		"Configure": func() { r.Configure("nobody", nil) },
		"Peer":      func() { r.Peer("nobody") },
		"Handle":    func() { r.Handle("nobody") },
	} {
		if !panics(f) {
			t.Errorf("%s did not panic", name)
		}
	}
}
