package main

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"example.org/imsg/internal/relay"
)

// What /proc of Linux tells. Elsewhere it has nothing, and neither have these.

// processOf returns what is known of a process.
func processOf(pid int) process {
	p := process{PID: pid, Name: "process"}
	if pid <= 0 {
		return p
	}
	proc := procDir(pid)
	end := relay.ProcessOf(pid)
	if filepath.IsAbs(end.Exe) {
		p.Exe = end.Exe
	}
	if end.Exe != "" {
		p.Name = filepath.Base(end.Exe)
	}
	link, _ := os.Readlink(filepath.Join(proc, "exe"))
	p.Replaced = strings.HasSuffix(link, " (deleted)")
	status := statusOf(pid)
	if uid, err := strconv.ParseUint(firstField(status["Uid"]), 10, 32); err == nil {
		p.uid, p.User = uint32(uid), userName(uint32(uid))
	}
	switch state := status["State"]; {
	case strings.HasPrefix(state, "T"):
		p.State = "stopped"
	case strings.HasPrefix(state, "t"):
		p.State = "stopped by a debugger"
	case strings.HasPrefix(state, "D"):
		p.State = "waits for a device"
	}
	return p
}

func procDir(pid int) string { return filepath.Join("/proc", strconv.Itoa(pid)) }

// statusOf reads /proc/PID/status.
func statusOf(pid int) map[string]string {
	text, _ := os.ReadFile(filepath.Join(procDir(pid), "status"))
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

func firstField(s string) string {
	if f := strings.Fields(s); len(f) > 0 {
		return f[0]
	}
	return ""
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// listeners returns the processes that have the socket open that listens at an
// address, as far as this user may see them.
func listeners(names ...string) (all []process) {
	const acceptsConnections = "00010000" // __SO_ACCEPTCON
	table, _ := os.ReadFile("/proc/net/unix")
	var links []string
	for line := range bytes.Lines(table) {
		f := strings.SplitN(strings.TrimSpace(string(line)), " ", 8)
		if f = slices.DeleteFunc(f, func(s string) bool { return s == "" }); len(f) < 7 || f[3] != acceptsConnections {
			continue
		}
		inode, path, _ := strings.Cut(strings.TrimSpace(strings.Join(f[6:], " ")), " ")
		if path != "" && slices.Contains(names, path) {
			links = append(links, "socket:["+inode+"]")
		}
	}
	if len(links) == 0 {
		return nil
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	seen := make(map[int]bool)
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !slices.Contains(links, link) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(fd, "/")[2]); err == nil && !seen[pid] {
			seen[pid] = true
			all = append(all, processOf(pid))
		}
	}
	return all
}

// namespaces tells in which the daemon is that this process is not in.
func (d *diagnosis) namespaces(pid int) {
	var other []string
	for _, kind := range []struct{ name, what string }{
		{"mnt", "files (a path that it tells may be another file here)"},
		{"net", "the network (abstract names are others there)"},
		{"user", "users"},
	} {
		mine, err := os.Readlink("/proc/self/ns/" + kind.name)
		theirs, terr := os.Readlink(filepath.Join(procDir(pid), "ns", kind.name))
		if err == nil && terr == nil && mine != theirs {
			other = append(other, kind.what)
		}
	}
	if len(other) > 0 {
		d.note("namespace", fmt.Sprintf("nsenter -t %d -a imsgctl ... runs it there", pid), "the daemon is in another namespace of %s", strings.Join(other, ", of "))
	}
}

// tracing tells whether imsgctl trace -p can be used, or why not.
func (d *diagnosis) tracing(pid int) {
	me, it := statusOf(os.Getpid()), statusOf(pid)
	if len(me) == 0 || len(it) == 0 {
		return
	}
	const sysPtrace = 19
	caps, _ := strconv.ParseUint(me["CapEff"], 16, 64)
	capable := caps>>sysPtrace&1 != 0
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	actions, _ := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	switch yama := strings.TrimSpace(string(scope)); {
	case it["TracerPid"] != "0":
		d.Trace = "no: process " + it["TracerPid"] + " traces it already, and there can be one only"
	case yama == "3":
		d.Trace = "no: kernel.yama.ptrace_scope is 3, until the machine is started again"
	case capable:
		d.Trace = "yes"
	case yama == "2":
		d.Trace = "as root only: kernel.yama.ptrace_scope is 2"
	case firstField(it["Uid"]) != strconv.Itoa(os.Geteuid()):
		d.Trace = "as root only: it is another user's"
	case yama == "1":
		d.Trace = "as root, or with trace -- COMMAND: kernel.yama.ptrace_scope is 1"
	default:
		d.Trace = "yes"
	}
	if len(actions) > 0 && !slices.Contains(strings.Fields(string(actions)), "trace") {
		d.Trace += "; slowly, as this kernel's seccomp has no trace action"
	}
}
