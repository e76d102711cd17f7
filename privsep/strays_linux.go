package privsep

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeReaper makes this process the parent of what its children leave behind.
func becomeReaper(on bool) {
	n := uintptr(0)
	if on {
		n = 1
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, n, 0, 0, 0)
}

// endStrays reaps the children of this process that it has not started itself:
// orphans of the daemon's children, or what these made with CLONE_PARENT. It kills
// those whose child is gone; and at the end all that it can tell. It returns how
// many may be left.
//
// A stray is known by its session, which is that of the child it comes from, or, if
// it has made another one, by a user that the parent has not; and at the end by
// no_new_privs, which all children have and cannot be rid of, if the parent itself
// does not have it.
func (s *supervisor) endStrays() (left int) {
	own, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	marked := err == nil && own == 0 && s.last
	running := make(map[int]bool)
	if s.starter != nil {
		running[s.starter.os.Pid] = true
	}
	for _, p := range s.children {
		running[p.os.Pid] = true
	}
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		list, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for text := range bytes.FieldsSeq(list) {
			pid, err := strconv.Atoi(string(text))
			if err != nil || running[pid] {
				continue
			}
			session, status, zombie, err := lookAt(pid)
			if err != nil {
				continue
			}
			uid, _ := strconv.Atoi(strings.Fields(status.uid)[0])
			if !s.sessions[session] && (uid == os.Geteuid() || !s.users[uid]) && (!marked || zombie || status.noNewPrivs != "1") && !s.strays[pid] {
				continue
			}
			if !zombie && (running[session] || !s.ending && !s.sessions[session]) {
				continue // the child it comes from may need it
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			s.strays[pid] = true
			if done, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); done != pid {
				left++
			}
		}
	}
	return left
}

// lookAt reads the session and the status of a process, which has a user.
func lookAt(pid int) (session int, s threadState, zombie bool, err error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, s, false, err
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // state, parent, group, session
	if len(f) < 4 {
		return 0, s, false, fmt.Errorf("%s/stat is %q", dir, stat)
	}
	if session, err = strconv.Atoi(f[3]); err != nil {
		return 0, s, false, err
	}
	status, err := os.ReadFile(dir + "/status")
	if s = parseStatus(string(status)); err == nil && s.uid == "" {
		err = fmt.Errorf("%s/status has no user", dir)
	}
	return session, s, f[0] == "Z", err
}
