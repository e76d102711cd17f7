//go:build amd64 || arm64

package ptrace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// attach gets hold of every thread of the processes and of their descendants.
// A child that must not be traced is left out with a warning.
func (e *engine) attach(pids []int) error {
	for _, pid := range pids {
		if pid == e.self {
			return fmt.Errorf("process %d is this one, which cannot trace itself", pid)
		}
		if tgid := threadGroup(pid); tgid != pid && pathExists("/proc/"+strconv.Itoa(pid)) {
			return fmt.Errorf("%d is a thread of process %d: name the process", pid, tgid)
		}
		if err := e.seizeAll(pid); err != nil {
			return err
		}
	}
	// Children that were started since are traced from their beginning if their
	// parent was seized; look until nobody new is found.
	known := slices.Clone(pids)
	for {
		found := 0
		for _, pid := range children(known) {
			if pid == e.self || slices.Contains(known, pid) {
				continue
			}
			found++
			known = append(known, pid)
			if err := e.seizeAll(pid); err != nil && !errors.Is(err, unix.ESRCH) {
				e.warn("%v; it is left out", err)
			}
		}
		if found == 0 {
			return nil
		}
	}
}

// seizeAll gets hold of a process's threads, and stops each once so that it
// reports its calls from then on.
func (e *engine) seizeAll(pid int) error {
	for {
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("process %d: %w", pid, unix.ESRCH)
		} else if err != nil {
			return err
		}
		found := 0
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || e.threads[tid] != nil {
				continue
			}
			switch errno := ptrace(unix.PTRACE_SEIZE, tid, 0, options); {
			case errno == 0:
				found++
				e.newThread(tid)
				ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0)
			case errno == unix.ESRCH:
			case readStatus(tid)["TracerPid"] == strconv.Itoa(unix.Gettid()):
				// Made by one that is seized already: it will report itself.
			default:
				return refused(pid, errno)
			}
		}
		if found == 0 {
			return nil
		}
	}
}

// refused explains why a process may not be traced.
func refused(pid int, errno unix.Errno) error {
	if errno == unix.ESRCH {
		return fmt.Errorf("process %d: %w", pid, errno)
	}
	err := &PermissionError{PID: pid, Err: errno}
	if tracer := tracerOf(pid); tracer != 0 {
		err.Tracer, err.Name = tracer, readStatus(tracer)["Name"]
		err.Cure = "end that one first"
		return err
	}
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	switch status := readStatus(pid); {
	case strings.TrimSpace(string(scope)) == "3":
		err.Cure = "kernel.yama.ptrace_scope is 3: nobody can trace until the next boot"
	case readStatus(os.Getpid())["Seccomp"] == "2":
		err.Cure = "a seccomp filter, of a container perhaps, may forbid it: run on the host as root, or give the container CAP_SYS_PTRACE"
	case os.Geteuid() == 0:
		err.Cure = "root without CAP_SYS_PTRACE, as in a container: run on the host, or give the container that capability"
	case strings.TrimSpace(string(scope)) == "1" && status["Uid"] == readStatus(os.Getpid())["Uid"]:
		err.Cure = "kernel.yama.ptrace_scope is 1: run as root, or start the program with imsgctl trace -- COMMAND"
	default:
		err.Cure = "it belongs to another user, or protects itself: run as root"
	}
	return err
}

// children returns the processes whose parent is one of pids.
func children(pids []int) []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// PID (NAME) STATE PPID, where a name may have anything in it
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		if ppid, err := strconv.Atoi(fields[1]); err == nil && slices.Contains(pids, ppid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			found = append(found, pid)
		}
	}
	return found
}

// readStatus returns /proc/PID/status by its names; of a process that is gone
// it is empty.
func readStatus(pid int) map[string]string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// threadGroup returns the process that a thread belongs to; the thread's own
// number if that cannot be told.
func threadGroup(tid int) int {
	pid, err := strconv.Atoi(readStatus(tid)["Tgid"])
	if err != nil {
		return tid
	}
	return pid
}

// tracerOf returns the process that traces a thread, or 0.
func tracerOf(tid int) int {
	tracer, _ := strconv.Atoi(readStatus(tid)["TracerPid"])
	if tracer == 0 {
		return 0
	}
	return threadGroup(tracer) // the kernel names the thread
}

func pathExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
