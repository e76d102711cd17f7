package privsep

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// prove shows that the rights are gone and cannot be had back, and fills in the
// status: nothing is believed because a system call said that it worked. What
// the kernel says of every thread is for the parent to read, from outside.
func (c *child) prove() error {
	h := &c.hello
	c.status = Status{UID: os.Getuid(), GID: os.Getgid(), Dumpable: dumpable()}
	c.status.Groups, _ = os.Getgroups()
	if c.root != nil {
		c.status.Chroot = h.Chroot
		if here, err := os.Stat("/"); err != nil || !os.SameFile(c.root, here) {
			return fmt.Errorf("/ is not %s: %v", h.Chroot, err)
		}
	}
	if err := wanted(h.UID, h.GID).check(c.status); err != nil {
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

// credentials are what a child must have.
type credentials struct {
	uid, gid int
	groups   []int
}

// wanted are the credentials of a child of this process, or of this one, with
// ids that are changed unless they are -1.
func wanted(uid, gid int) credentials {
	w := credentials{uid: os.Getuid(), gid: gid, groups: []int{gid}}
	if uid >= 0 {
		w.uid = uid
	}
	if gid < 0 {
		w.gid = os.Getgid()
		w.groups, _ = os.Getgroups()
	}
	slices.Sort(w.groups)
	return w
}

func (w credentials) check(s Status) error {
	groups := slices.Sorted(slices.Values(s.Groups))
	if s.UID != w.uid || s.GID != w.gid || !slices.Equal(groups, w.groups) {
		return fmt.Errorf("uid %d, gid %d, groups %v instead of uid %d, gid %d, groups %v", s.UID, s.GID, groups, w.uid, w.gid, w.groups)
	}
	return nil
}

// A threadState is what the kernel says of a thread, as it says it.
type threadState struct {
	uid, gid, groups, effective, permitted, noNewPrivs, seccomp string
}

func (w credentials) checkThread(s threadState) error {
	all := func(id int) string { return strings.TrimPrefix(strings.Repeat(fmt.Sprint(" ", id), 4), " ") }
	groups := strings.Trim(fmt.Sprint(w.groups), "[]")
	if s.uid != all(w.uid) || s.gid != all(w.gid) || s.groups != groups {
		return fmt.Errorf("a thread has the user ids %s, group ids %s and groups %s instead of uid %d, gid %d, groups %s", s.uid, s.gid, s.groups, w.uid, w.gid, groups)
	}
	if none := "0000000000000000"; w.uid > 0 && (s.effective != none || s.permitted != none) {
		return fmt.Errorf("a thread has the capabilities %s, %s", s.effective, s.permitted)
	}
	return nil
}
