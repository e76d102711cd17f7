package privsep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg/imsgtest"
)

// greedyDaemon needs descriptors at every step of its start.
var greedyDaemon = register(Daemon{Name: "greedy", Grace: time.Second, Chroot: EmptyDir, Roles: []Role{
	{Name: "a", Run: witness, Peers: []string{"b"}, Instances: 2},
	{Name: "b", Run: witness},
}})

// greedy runs the daemon with ever more descriptors until it has enough.
var _ = registerMiddle("greedy", func() int {
	var limits unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limits); err != nil {
		fmt.Println(err)
		return 1
	}
	fds, pids := imsgtest.OpenFDs(), children()
	d := copyOf(greedyDaemon, nil)
	d.Logger = new(records).logger(0)
	for limits.Cur = uint64(len(fds)); limits.Cur < 100; limits.Cur++ {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limits); err != nil {
			fmt.Println(err)
			return 1
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		d.Parent = func(_ context.Context, p *Proc) error {
			for _, s := range p.Status()[1:] {
				if s.Threads == 0 {
					return fmt.Errorf("nobody has looked at %v", s)
				}
			}
			return nil
		}
		err := d.Run(ctx)
		if ctx.Err() != nil {
			err = errors.New("it took too long")
		}
		cancel()
		bad := err != nil && !errors.Is(err, syscall.EMFILE)
		now := imsgtest.OpenFDs()
		if bad || !maps.Equal(fds, now) || !maps.Equal(pids, children()) {
			fmt.Printf("at %d descriptors: error %v, open before %v and after %v, children %v\n", limits.Cur, err, fds, now, children())
			return 1
		}
		if err == nil {
			fmt.Println("enough:", limits.Cur)
			return 0
		}
	}
	fmt.Println("never enough")
	return 1
})

// TestDescriptorLimit: a parent that may not have enough descriptors says so, at
// whichever step it is, and loses none.
func TestDescriptorLimit(t *testing.T) {
	defer leaveNothing(t)()
	cmd := middle(t, "greedy", "TMPDIR="+t.TempDir())
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "enough: ") {
		t.Fatalf("%v: %s", err, out)
	}
	if left, err := os.ReadDir(cmd.Env[len(cmd.Env)-1][len("TMPDIR="):]); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// blind verifies a child, which it is itself, without a descriptor to look at it.
var _ = registerMiddle("blind", func() int {
	p := fakeProcess()
	st := Status{UID: os.Getuid(), GID: os.Getgid()}
	st.Groups, _ = os.Getgroups()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{}); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("verified:", p.verify(&st))
	return 0
})

// TestBlindParent: a parent that cannot look at a child does not believe it.
func TestBlindParent(t *testing.T) {
	cmd := middle(t, "blind")
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "too many open files") {
		t.Errorf("%v: %s", err, out)
	}
}

// starvingDaemon has children who may have only so many descriptors.
var starvingDaemon = Daemon{Name: "starving", Grace: time.Second, Env: []string{"STARVING"}, Roles: []Role{{Name: "child", Run: witness}}}

var _ = registerFake("starving", func(role string, n int) int {
	most, err := strconv.ParseUint(os.Getenv("STARVING"), 10, 64)
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 100
	}
	os.Setenv(envRole, fmt.Sprintf("starving/%s/%d", role, n))
	starvingDaemon.RunChild()
	return 101
})

// TestStarvingChild: a child that cannot take all that it is given says so.
func TestStarvingChild(t *testing.T) {
	t.Setenv("GOTRACEBACK", "none")
	const files = 10
	lost := 0
	for most := 8; most < 40; most++ { // the Go runtime dies with fewer
		t.Setenv("STARVING", strconv.Itoa(most))
		started := false
		err := fails(t, &starvingDaemon, func(d *Daemon) {
			d.Prepare = func(_ context.Context, p *Proc) error {
				for i := range files {
					f, err := os.Open(os.DevNull)
					if err != nil {
						return err
					}
					p.AddFile("child", strconv.Itoa(i), f)
				}
				return nil
			}
			d.Parent = func(_ context.Context, p *Proc) error {
				started = true
				if s := p.Status()[1]; s.Threads == 0 {
					return fmt.Errorf("nobody has looked at %v", s)
				}
				return nil
			}
		})
		var child *ChildError
		switch {
		case err == nil && started:
			if lost == 0 {
				t.Errorf("with %d descriptors it started, and with fewer no file was ever lost", most)
			}
			return
		case !errors.As(err, &child):
			t.Fatalf("at %d descriptors: error %v", most, err)
		case child.Step == "peers":
			lost++
			if !strings.Contains(err.Error(), "lost") && !errors.Is(err, syscall.EMFILE) {
				t.Errorf("at %d descriptors: error %v does not say what happened", most, err)
			}
		}
	}
	t.Error("it never started")
}

// TestManyFiles: more files than one system call can pass.
func TestManyFiles(t *testing.T) {
	const files = 300
	r := up(t, pairDaemon, func(d *Daemon) {
		d.Prepare = func(_ context.Context, p *Proc) error {
			for i := range files {
				f, err := os.Open("/proc/self/stat")
				if err != nil {
					return err
				}
				p.AddFile([]string{"a", "b"}[i%2], strconv.Itoa(i), f)
			}
			return nil
		}
	})
	for _, i := range []int{0, 1, files/2 + 1, files - 2, files - 1} {
		if got := ask[string](t, r.Peer([]string{"a", "b"}[i%2]), "given", strconv.Itoa(i)); got == "" {
			t.Errorf("file %d is empty", i)
		}
	}
}
