package privsep

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// threads are those of a process, to be read from the kernel.
type threads struct{ dir *os.Root }

// openThreads returns nil where there is no /proc, or where it is not for
// ordinary users to look at.
func openThreads(pid int) (*threads, error) {
	dir, err := os.OpenRoot(fmt.Sprintf("/proc/%d/task", pid))
	switch {
	case err == nil:
		return &threads{dir}, nil
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat("/proc/self"); errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
			return nil, nil
		}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return nil, nil
	}
	return nil, err
}

// read returns the different states, and how many threads have each.
func (t *threads) read() (map[threadState]int, error) {
	if t == nil {
		return nil, nil
	}
	list, err := fs.ReadDir(t.dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	states := make(map[threadState]int)
	for _, e := range list {
		s, err := t.thread(e.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		states[s]++
	}
	if len(states) == 0 {
		return nil, fmt.Errorf("no threads: %w", fs.ErrNotExist)
	}
	return states, nil
}

func (t *threads) thread(id string) (threadState, error) {
	var s threadState
	f, err := t.dir.Open(path.Join(id, "status"))
	if err != nil {
		return s, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.Join(strings.Fields(value), " ")
		switch key {
		case "Uid":
			s.uid = value
		case "Gid":
			s.gid = value
		case "Groups":
			s.groups = value
		case "CapEff":
			s.effective = value
		case "CapPrm":
			s.permitted = value
		case "NoNewPrivs":
			s.noNewPrivs = value
		case "Seccomp":
			s.seccomp = value
		}
	}
	return s, lines.Err()
}

func (t *threads) close() {
	if t != nil {
		t.dir.Close()
	}
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
