package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"example.org/imsg/internal/capture"
	"golang.org/x/sys/unix"
)

// Describe tells what the open file fd of this process is.
func describe(fd int) capture.File {
	f := capture.File{From: -1, To: -1}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		f.Kind = capture.KindOf(st.Mode)
	}
	f.Path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil {
		f.Flags = openFlags(flags)
	}
	return f
}

// openFlags gives open(2)'s flags names.
func openFlags(flags int) string {
	names := []string{[...]string{"rdonly", "wronly", "rdwr", "access 3"}[flags&unix.O_ACCMODE]}
	for _, f := range []struct {
		bit  int
		name string
	}{{unix.O_APPEND, "append"}, {unix.O_NONBLOCK, "nonblock"}, {unix.O_DIRECTORY, "directory"}, {unix.O_PATH, "path"}} {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, "|")
}

// program returns the path of a process's program, or its short name if the
// path is not for us to see, or is that of the loader which runs it.
func program(pid int) string {
	if pid <= 0 {
		return ""
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err == nil && !strings.HasPrefix(filepath.Base(exe), "ld-") {
		return strings.TrimSuffix(exe, " (deleted)")
	}
	comm, _ := os.ReadFile(filepath.Join(proc, "comm"))
	name, _, _ := strings.Cut(strings.TrimSpace(string(comm)), ":") // tmux calls itself "tmux: server"
	return name
}
