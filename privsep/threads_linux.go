package privsep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// readThreads reads from the kernel what the threads of a process are: the
// different states, and how many threads have each. It returns nil where there
// is no /proc, or where it is not for ordinary users to look at.
func readThreads(pid int) (map[threadState]int, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat("/proc/self"); errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
			return nil, nil
		}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	states := make(map[threadState]int)
	for _, e := range list {
		status, err := os.ReadFile(dir + "/" + e.Name() + "/status")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		states[parseStatus(string(status))]++
	}
	if len(states) == 0 {
		return nil, fmt.Errorf("no threads: %w", fs.ErrNotExist)
	}
	return states, nil
}

func parseStatus(text string) (s threadState) {
	fields := map[string]*string{
		"Uid": &s.uid, "Gid": &s.gid, "Groups": &s.groups, "CapEff": &s.effective, "CapPrm": &s.permitted,
		"NoNewPrivs": &s.noNewPrivs, "Seccomp": &s.seccomp,
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		if field := fields[key]; field != nil {
			*field = strings.Join(strings.Fields(value), " ")
		}
	}
	return s
}

// rootOf identifies the root directory of a process, which only root may know.
func rootOf(pid int) (os.FileInfo, error) { return os.Stat(fmt.Sprintf("/proc/%d/root", pid)) }

// setUndumpable keeps processes of the same user from looking into this one:
// without it two roles of one user are one. (Changing ids does it too, but an
// ordinary user changes none.)
func setUndumpable() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

func dumpable() bool {
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err != nil || n != 0
}
