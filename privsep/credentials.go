package privsep

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// credentials are what a child must have.
type credentials struct {
	uid, gid int
	groups   []int
}

// wanted are the credentials of a child of this process, or of this one, with
// ids that are changed unless they are -1.
func (r *rights) wanted() credentials {
	w := credentials{uid: os.Getuid(), gid: r.GID, groups: append([]int{r.GID}, r.Extra...)}
	if r.UID >= 0 {
		w.uid = r.UID
	}
	if r.GID < 0 {
		w.gid = os.Getgid()
	}
	if r.GID < 0 || !r.Groups {
		w.groups, _ = os.Getgroups()
	}
	slices.Sort(w.groups)
	w.groups = slices.Compact(w.groups)
	return w
}

func (w credentials) check(s Status) error {
	groups := slices.Compact(slices.Sorted(slices.Values(s.Groups)))
	if s.UID != w.uid || s.GID != w.gid || !slices.Equal(groups, w.groups) {
		return fmt.Errorf("uid %d, gid %d, groups %v instead of uid %d, gid %d, groups %v", s.UID, s.GID, groups, w.uid, w.gid, w.groups)
	}
	return nil
}

// A threadState is what the kernel says of a thread, as it says it.
type threadState struct {
	uid, gid, groups, effective, permitted, inheritable, ambient, noNewPrivs, seccomp string
}

func (w credentials) checkThread(s threadState) error {
	all := func(id int) string { return strings.TrimPrefix(strings.Repeat(fmt.Sprint(" ", id), 4), " ") }
	groups := strings.Trim(fmt.Sprint(w.groups), "[]")
	if s.uid != all(w.uid) || s.gid != all(w.gid) || s.groups != groups {
		return fmt.Errorf("a thread has the user ids %s, group ids %s and groups %s instead of uid %d, gid %d, groups %s", s.uid, s.gid, s.groups, w.uid, w.gid, groups)
	}
	const none = "0000000000000000"
	if w.uid > 0 && (s.effective != none || s.permitted != none) || s.inheritable != none || s.ambient != none {
		return fmt.Errorf("a thread has the capabilities %s, %s, %s, %s", s.effective, s.permitted, s.inheritable, s.ambient)
	}
	return nil
}

// capabilityNames are those of capabilities(7), by number.
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable " +
	"net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace " +
	"sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control " +
	"setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
