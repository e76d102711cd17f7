package privsep

import (
	"fmt"
	"os"

	"example.org/imsg/privsep/sandbox"
)

// verify looks at the child from outside, and believes the kernel. What only the
// child can know is its word.
func (p *process) verify() error {
	st, want := &p.status, wanted(p.plan.uid, p.plan.gid)
	if err := want.check(*st); err != nil {
		return err
	}
	st.Sandbox = printableStatus(st.Sandbox)
	if err := st.Sandbox.Satisfies(p.plan.role.Sandbox.Require); err != nil {
		return err
	}
	st.Role, st.Instance, st.PID, st.Groups = p.name.Role, p.name.Instance, p.os.Pid, want.groups
	st.Chroot, st.Missing = "", p.plan.miss
	states, err := readThreads(p.os.Pid)
	if err != nil {
		return err
	}
	st.Threads = 0
	force := st.Sandbox.InForce()
	for s, n := range states {
		if err := want.checkThread(s); err != nil {
			return err
		}
		if force&sandbox.NoNewPrivs != 0 && s.noNewPrivs != "1" || force&sandbox.Seccomp != 0 && s.seccomp != "2" {
			return fmt.Errorf("a thread has no_new_privs %s and seccomp %s, but the status is %v", s.noNewPrivs, s.seccomp, st.Sandbox)
		}
		st.Threads += n
	}
	if p.root == "" {
		return nil
	}
	if st.Chroot = p.root; p.empty != "" {
		st.Chroot = EmptyDir
	}
	if states == nil { // there is no /proc, or it is not for us
		return nil
	}
	is, err := rootOf(p.os.Pid)
	if err == nil && !os.SameFile(p.rootIs, is) {
		err = fmt.Errorf("its root is not %s", p.root)
	}
	return err
}
