package privsep

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"example.org/imsg/privsep/sandbox"
)

// setup prepares what the role asks for, and what the standard library reads
// when it is first needed: there may be no file to read it from later.
func (c *child) setup() error {
	_ = time.Now().Local().String() // the time zone
	if c.role.Setup == nil {
		return nil
	}
	return c.role.Setup(c.ctx, c.proc)
}

// change becomes what the role is to be. The sandbox has the paths already: they
// are there only now.
func (c *child) change() error {
	return through(
		step{"chroot", c.chroot},
		step{"groups", c.groups},
		step{"ids", c.ids},
		step{"dumpable", setUndumpable},
		step{"proof", c.prove},
	)
}

func (c *child) chroot() error {
	if !c.hello.Root || c.hello.Chroot == "" {
		return nil
	}
	var err error
	if c.root, err = os.Stat(c.hello.Chroot); err != nil {
		return err
	}
	if err := syscall.Chroot(c.hello.Chroot); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	return os.Chdir("/")
}

func (c *child) groups() error {
	if c.hello.GID < 0 {
		return nil
	}
	return os.NewSyscallError("setgroups", syscall.Setgroups([]int{c.hello.GID}))
}

func (c *child) ids() error {
	if c.hello.GID >= 0 {
		if err := setGID(c.hello.GID); err != nil {
			return fmt.Errorf("gid %d: %w", c.hello.GID, err)
		}
	}
	if c.hello.UID >= 0 {
		if err := setUID(c.hello.UID); err != nil {
			return fmt.Errorf("uid %d: %w", c.hello.UID, err)
		}
	}
	return nil
}

// confine gives up what can be given up without being root, and the rest in
// between.
func (c *child) confine() error {
	policy, root := c.hello.Sandbox, c.hello.Chroot
	if !c.hello.Root { // and no change of root
		root = ""
		policy.Paths = slices.Clone(policy.Paths)
		for i := range policy.Paths {
			policy.Paths[i].Name = c.proc.Path(policy.Paths[i].Name)
		}
	}
	status, err := sandbox.EnterWith(policy, root, c.change)
	c.status.Sandbox = status
	return err
}
