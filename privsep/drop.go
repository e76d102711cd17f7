package privsep

import (
	"errors"
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
	if score := c.hello.OOMScore; score != 0 {
		c.miss("oom score", setOOMScore(score))
	}
	if c.role.Setup == nil {
		return nil
	}
	c.widen()
	if c.hello.Start > 0 {
		timer := time.AfterFunc(c.hello.Start, func() {
			c.send(ctlFail, newFailure("setup", fmt.Errorf("it has not ended within %v", c.hello.Start)))
			os.Exit(1)
		})
		defer timer.Stop()
	}
	return c.role.Setup(c.ctx, c.proc)
}

// change becomes what the role is to be. The sandbox has the paths already: they
// are there only now.
func (c *child) change() error {
	return runSteps(
		step{"chroot", c.chroot},
		step{"groups", c.groups},
		step{"ids", c.ids},
		step{"dumpable", setUndumpable},
		step{"parent", dieWithParent},
		step{"proof", c.checkPrivileges},
	)
}

func (c *child) chroot() error {
	if !c.hello.Root {
		return nil
	}
	if err := c.root.Chdir(); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	return os.Chdir("/")
}

func (c *child) groups() error {
	if c.hello.GID < 0 || !c.hello.Groups {
		return nil
	}
	groups := slices.Sorted(slices.Values(append(c.hello.Extra, c.hello.GID)))
	return os.NewSyscallError("setgroups", syscall.Setgroups(slices.Compact(groups)))
}

func (c *child) ids() error {
	if c.hello.GID >= 0 {
		if err := setGID(c.hello.GID); err != nil {
			return fmt.Errorf("gid %d: %w", c.hello.GID, err)
		}
	}
	if n := c.hello.Processes; n > 0 {
		if err := limitProcesses(uint64(n)); err != nil {
			return err
		}
	}
	if c.hello.UID >= 0 {
		if err := setUID(c.hello.UID); err != nil {
			return fmt.Errorf("uid %d: %w", c.hello.UID, err)
		}
	}
	return nil
}

// miss notes what could not be done and is not the end.
func (c *child) miss(what string, err error) {
	if err != nil {
		c.missing = append(c.missing, fmt.Sprintf("%s: %v", what, err))
	}
}

// confine gives up what can be given up without being root, and the rest in
// between.
func (c *child) confine() error {
	if n := c.hello.Memory; n > 0 {
		c.widen() // the threads that this takes count
		err := limitMemory(n)
		c.miss("memory limit", err)
		if err == nil {
			c.limited = n
		}
	}
	policy, root := c.hello.Sandbox, ""
	if c.hello.Root {
		if root = c.hello.Chroot; root == EmptyDir {
			raw, err := c.root.SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) { root = fmt.Sprintf("/proc/self/fd/%d", fd) })
			}
			if err != nil {
				return err
			}
		}
	} else {
		policy.Paths = slices.Clone(policy.Paths)
		for i := range policy.Paths {
			policy.Paths[i].Name = c.proc.Path(policy.Paths[i].Name)
		}
	}
	status, err := sandbox.EnterWith(policy, root, c.change)
	c.status.Sandbox = status
	return err
}

// checkPrivileges shows that the rights are gone and cannot be had back, and fills in the
// status: nothing is believed because a system call said that it worked. What
// the kernel says of every thread is for the parent to read, from outside.
func (c *child) checkPrivileges() error {
	h := &c.hello
	c.status = Status{UID: os.Getuid(), GID: os.Getgid(), Dumpable: dumpable(), Memory: c.limited, Missing: c.missing}
	c.status.Groups, _ = os.Getgroups()
	if c.root != nil {
		c.status.Chroot = h.Chroot
		root, err := c.root.Stat()
		if err != nil {
			return err
		}
		here, err := os.Stat("/")
		if err != nil {
			return err
		}
		if !os.SameFile(root, here) {
			return fmt.Errorf("/ is not %s", h.Chroot)
		}
		c.root.Close()
	}
	if err := h.wanted().check(c.status); err != nil {
		return err
	}
	if os.Geteuid() != os.Getuid() || os.Getegid() != os.Getgid() {
		return fmt.Errorf("effective ids %d, %d", os.Geteuid(), os.Getegid())
	}
	if h.UID > 0 && setUID(0) == nil {
		return errors.New("could become user 0 again")
	}
	if h.UID > 0 && h.GID > 0 && (setGID(0) == nil || syscall.Setgroups([]int{0}) == nil) {
		return errors.New("could join group 0 again")
	}
	return nil
}
