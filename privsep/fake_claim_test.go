package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"example.org/imsg/privsep/sandbox"
)

// claimDaemon has children that say more of themselves than is true.
var claimDaemon = &Daemon{Name: "claim", Grace: time.Second, Roles: []Role{
	fakeRole("claims a root", func(c *fakeChild) {
		c.greet()
		fakeDrop(c, []int{c.hello.GID})
		s := c.status()
		s.Chroot = c.hello.Chroot
		c.send(ctlReady, marshal(s))
		c.hang()
	}),
	fakeRole("has no sandbox", func(c *fakeChild) {
		c.greet()
		c.send(ctlReady, marshal(c.status()))
		c.hang()
	}),
	fakeRole("claims all", func(c *fakeChild) {
		c.greet()
		c.send(ctlReady, marshal(Status{
			Role: "parent", Instance: 3, PID: 1, UID: 4242, GID: 4243, Groups: []int{4244}, Chroot: "/x\n\x1b[2J", Threads: 99,
			Sandbox: sandbox.Status{System: "\x1b[2J\n", States: []sandbox.State{{Detail: "\n\u009b"}}},
			Missing: []string{"nothing\n"},
		}))
		c.linger()
	}),
	fakeRole("dies when all is well", func(c *fakeChild) {
		c.greet()
		if c.hello.Root && (c.root.Chdir() != nil || syscall.Chroot(".") != nil || syscall.Chdir("/") != nil) {
			os.Exit(108)
		}
		fakeDrop(c, []int{c.hello.GID})
		s := c.status()
		s.Chroot = c.hello.Chroot
		c.send(ctlReady, marshal(s))
		os.Exit(8)
	}),
	fakeRole("claims an origin", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlLog, []byte(`{"level":"INFO","msg":"to be read","role":"parent","instance":9,"pid":1}`))
		c.send(ctlDone, marshal(failure{}))
	}),
	fakeRole("accuses one that is not", func(c *fakeChild) {
		c.readyGo()
		c.accuse("accused", 1)
		c.hang()
	}),
	fakeRole("accuses in vain", func(c *fakeChild) {
		c.readyGo()
		c.accuse("accused", 0)
		for m, err := range c.ctl.All(context.Background()) {
			if err != nil || m.Type() == ctlStop {
				return
			}
			if m.Type() == ctlPeer {
				c.send(ctlLog, []byte(`{"level":"INFO","msg":"a channel again"}`))
			}
			m.Close()
		}
	}),
	fakeRole("accused", func(c *fakeChild) { c.readyGo(); c.linger() }),
	fakeRole("logs and ends", func(c *fakeChild) {
		c.readyGo()
		c.send(ctlLog, []byte(`{"level":"INFO","msg":"to be lost"}`))
		c.send(ctlDone, marshal(failure{}))
	}),
}}

var _ = registerFake("claim", fakeMain)

// TestClaimsRefused: the parent looks at what it can see from outside.
func TestClaimsRefused(t *testing.T) {
	for _, r := range []struct {
		role   string
		change func(*Role)
		text   string
		root   bool
	}{
		{"claims a root", func(r *Role) { r.User, r.Chroot = "nobody", EmptyDir }, "root", true},
		{"has no sandbox", func(r *Role) { r.Sandbox = sandbox.Policy{Promises: "stdio", Require: sandbox.Native()} }, "sandbox", false},
	} {
		t.Run(r.role, func(t *testing.T) {
			if r.root && !isRoot() {
				t.Skip("needs root, which has rights to keep")
			}
			err := fails(t, claimDaemon, fakeOnly(r.role), func(d *Daemon) {
				r.change(&d.Roles[0])
				d.Parent = func(context.Context, *Proc) error { return errors.New("it was believed") }
			})
			var child *ChildError
			if !errors.As(err, &child) || child.Role != r.role || child.Step != "start" || !strings.Contains(err.Error(), r.text) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestDeadClaim: one that is ready and dies at once has died, whether or not the
// parent could still look at it.
func TestDeadClaim(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, which can change root and ids")
	}
	for range 20 {
		err := fails(t, claimDaemon, fakeOnly("dies when all is well"), func(d *Daemon) { d.User, d.Chroot = "nobody", EmptyDir })
		if err == nil || !strings.Contains(err.Error(), "exit status 8") {
			t.Fatalf("error %v", err)
		}
	}
}

// TestClaimsCorrected: what a child says of itself does not become its Status
// where the kernel says otherwise, nor what cannot be printed.
func TestClaimsCorrected(t *testing.T) {
	err := fails(t, claimDaemon, fakeOnly("claims all"), func(d *Daemon) {
		d.Parent = func(_ context.Context, p *Proc) error {
			s := p.Status()[1]
			if s.Role != "claims all" || s.Instance != 0 || s.PID <= 1 || s.Threads < 1 || s.Threads == 99 {
				t.Errorf("it is %v", s)
			}
			if s.UID != os.Getuid() || s.GID != os.Getgid() || len(s.Groups) == 1 && s.Groups[0] == 4244 {
				t.Errorf("it has the ids %d, %d, %v", s.UID, s.GID, s.Groups)
			}
			if s.Chroot != "" || len(s.Missing) > 0 {
				t.Errorf("its root is %q, and it misses %q", s.Chroot, s.Missing)
			}
			if i := strings.IndexFunc(s.String(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("status %q has something at byte %d that cannot be printed", s.String(), i)
			}
			return nil
		}
	})
	var child *ChildError
	if err != nil && !errors.As(err, &child) { // it may as well be refused
		t.Error(err)
	}
}

// TestAccusations: a child that accuses who is no peer of its has lied.
func TestAccusations(t *testing.T) {
	err := fails(t, claimDaemon, deathOnly("accuses one that is not", "accused"), func(d *Daemon) { d.Roles[0].Peers = []string{"accused"} })
	deathCheck(t, err, "accuses one that is not", "run", ErrProtocol.Error())
}

// TestAccusedInVain: what a child says of a peer replaces the channel between them, and
// does nothing else to the peer, whatever their roles' policies are.
func TestAccusedInVain(t *testing.T) {
	for _, policy := range []ExitPolicy{EndAll, Restart, Ignore} {
		r := up(t, claimDaemon, deathOnly("accuses in vain", "accused"), func(d *Daemon) {
			d.Roles[0].Peers = []string{"accused"}
			d.Roles[0].OnExit, d.Roles[1].OnExit = policy, policy
		})
		pid := r.status("accused", 0).PID
		until(t, "channel made again", func() bool { return strings.Contains(r.log.String(), "a channel again") })
		if now := r.status("accused", 0).PID; now != pid || strings.Contains(r.log.String(), "has ended") {
			t.Errorf("the accused was process %d, and is %d\n%s", pid, now, r.log)
		}
		if text := r.log.String(); !strings.Contains(text, "so it is [2J") {
			t.Errorf("the log does not say what of:\n%s", text)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	}
}

// TestClaimedOrigin: a record's origin is what the parent knows, also for those
// who read the last of two equal keys.
func TestClaimedOrigin(t *testing.T) {
	log := new(records)
	if err := fails(t, claimDaemon, fakeOnly("claims an origin"), func(d *Daemon) { d.Logger = log.logger(slog.LevelInfo) }); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "to be read") {
			continue
		}
		var rec struct {
			Role          string
			Instance, PID int
		}
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatal(err)
		}
		if rec.Role != "claims an origin" || rec.Instance != 0 || rec.PID <= 1 {
			t.Errorf("%s is read as %+v", line, rec)
		}
		return
	}
	t.Errorf("no record in %s", log)
}

// fullDisk is a handler as of a log that cannot be written.
type fullDisk struct{ slog.Handler }

func (fullDisk) Handle(context.Context, slog.Record) error { return errors.New("no space") }

// TestLogFails: that the parent cannot write its log is not the child's fault.
func TestLogFails(t *testing.T) {
	err := fails(t, claimDaemon, fakeOnly("logs and ends"), func(d *Daemon) {
		d.Logger = slog.New(fullDisk{slog.NewTextHandler(io.Discard, nil)})
	})
	if err != nil {
		t.Error(err)
	}
}
