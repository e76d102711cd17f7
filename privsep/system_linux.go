package privsep

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// self is the file that this process runs, even if another one has its name now.
const self = "/proc/self/exe"

// setTitle names the process for ps(1) and the like, which would say "exe".
func setTitle(name string) {
	_ = os.WriteFile("/proc/self/comm", []byte(name[:min(len(name), 15)]), 0)
}

// keepFiles makes every descriptor above 2 close-on-exec: what the parent has
// inherited is not for the children. (To close them here would take the Go
// runtime's own.)
func keepFiles() error {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	return eachFile(syscall.CloseOnExec) // before Linux 5.11, or forbidden
}

// isFirstThread says whether this thread is the one that the process began with.
func isFirstThread() bool { return unix.Gettid() == unix.Getpid() }

// setGID and setUID change the real, effective and saved id of every thread,
// which package syscall sees to on Linux.
func setGID(gid int) error { return syscall.Setresgid(gid, gid, gid) }
func setUID(uid int) error { return syscall.Setresuid(uid, uid, uid) }

// monotonic is the time by which a service manager orders reloads, in microseconds.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano() / 1000
}

// restrictThread takes from this thread what no child needs, and so from those
// that it starts, whether or not they have a sandbox. It returns what could not
// be done.
func restrictThread() (missing []string) {
	failed := func(what string, err error) {
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", what, err))
		}
	}
	// No program that a child executes gives it more rights than it has.
	failed("no_new_privs", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	// Root keeps what its children need to give up their rights. What an ordinary
	// user was given for this program is the parent's alone.
	failed("capabilities", dropCapabilities(os.Geteuid() != 0))
	failed("session keyring", newKeyring())
	return missing
}

// newKeyring gives this thread, and the child that it starts next, a session keyring:
// the keys of who started the daemon are in the one before, or those of a child.
func newKeyring() error {
	_, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	if errno == 0 || errno == unix.ENOSYS || errno == unix.EPERM { // there is no access to keys at all
		return nil
	}
	return os.NewSyscallError("keyctl", errno)
}

// dropCapabilities empties the inheritable and the ambient capabilities of this
// thread, and the permitted and effective ones if all is set.
func dropCapabilities(all bool) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for i := range data {
		data[i].Inheritable = 0 // and with it the ambient ones
		if all {
			data[i].Permitted, data[i].Effective = 0, 0
		}
	}
	return os.NewSyscallError("capset", unix.Capset(&header, &data[0]))
}

// siblings makes what this process starts its parent's children.
func siblings() *syscall.SysProcAttr { return &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT} }

// capabilityBits are the capabilities of these names, such as "CAP_KILL".
func capabilityBits(names []string) (bits uint64, err error) {
	known := strings.Fields(capabilityNames)
	for _, name := range names {
		low, ok := strings.CutPrefix(name, "CAP_")
		i := slices.Index(known, strings.ToLower(low))
		if !ok || i < 0 {
			return 0, fmt.Errorf("there is no capability %q", name)
		}
		bits |= 1 << i
	}
	return bits, nil
}

// capabilities are the names of those that this thread has.
func capabilities() (names []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	_ = unix.Capget(&header, &data[0])
	for i, name := range strings.Fields(capabilityNames) {
		if data[i/32].Permitted&(1<<(i%32)) != 0 {
			names = append(names, "CAP_"+strings.ToUpper(name))
		}
	}
	return names
}

// keepCapabilities takes from every thread all capabilities but these, for good:
// what it executes gets no more.
func keepCapabilities(bits uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for i := range data {
		data[i].Permitted &= uint32(bits >> (32 * i))
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0
	}
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if errno != 0 {
		return os.NewSyscallError("capset", errno)
	}
	return nil
}

// killWithParent is for the process, but a thread asks for it, and must live: all of
// them ask, the first of which never ends; in a cgo program, one that is made for it.
func killWithParent() error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	if errno == 0 {
		return nil
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
		select {}
	}()
	return os.NewSyscallError("prctl", <-done)
}

// limitProcesses is for a user that only one role has.
func limitProcesses(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	limit.Cur, limit.Max = min(limit.Cur, n), min(limit.Max, n)
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_NPROC, &limit))
}

// setOOMScore sets when the kernel ends this process if it is out of memory.
func setOOMScore(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", fmt.Append(nil, score), 0)
}

// limitMemory lets this process have so many bytes more than now: what the Go
// runtime has mapped counts, whether it is used or not.
func limitMemory(n int64) error {
	makeThreads(runtime.GOMAXPROCS(0) + spareThreads) // C's stacks, 8 MiB each, count
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "\nVmData:")
	var now uint64
	if _, err := fmt.Sscanf(rest, "%d kB", &now); err != nil {
		return fmt.Errorf("VmData: %w", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	most := now<<10 + uint64(n)
	limit.Cur, limit.Max = min(limit.Cur, most), min(limit.Max, most)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return os.NewSyscallError("setrlimit", err)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	debug.SetMemoryLimit(int64(mem.Sys-mem.HeapReleased) + n/2)
	return nil
}

// isHarmless says whether this program, which its file would give more rights than
// its starter has, has none of them: it could not get any.
func isHarmless() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	none, nerr := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && data[0].Permitted|data[1].Permitted == 0 && nerr == nil && none == 1 &&
		os.Getuid() == os.Geteuid() && os.Getgid() == os.Getegid()
}

// without says which of these capabilities this process has not.
func without(names ...string) string {
	bits := map[string]uint{"CAP_KILL": unix.CAP_KILL, "CAP_SETGID": unix.CAP_SETGID, "CAP_SETUID": unix.CAP_SETUID, "CAP_SYS_CHROOT": unix.CAP_SYS_CHROOT}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if os.Geteuid() != 0 {
		return fmt.Sprintf("user %d is not root", os.Geteuid())
	}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err.Error()
	}
	for _, name := range names {
		if data[0].Effective&(1<<bits[name]) == 0 {
			return "root without " + name
		}
	}
	return ""
}

func cannotChroot() string { return without("CAP_SYS_CHROOT") }
func cannotKill() string   { return without("CAP_KILL") }

func cannotChangeIDs(uid, gid int) string {
	if why := without("CAP_SETUID", "CAP_SETGID"); why != "" {
		return why
	}
	if !isMapped("uid", uid) {
		return fmt.Sprintf("user %d is not in this user namespace", uid)
	}
	if !isMapped("gid", gid) {
		return fmt.Sprintf("group %d is not in this user namespace", gid)
	}
	return ""
}

func cannotChangeGroups() string {
	if text, _ := os.ReadFile("/proc/self/setgroups"); strings.TrimSpace(string(text)) == "deny" {
		return "not allowed in this user namespace"
	}
	return ""
}

// isMapped says whether there is a user or group in this user namespace.
func isMapped(kind string, id int) bool {
	text, err := os.ReadFile("/proc/self/" + kind + "_map")
	if err != nil || id < 0 {
		return true
	}
	for line := range strings.Lines(string(text)) {
		var first, outside, n int64
		if _, err := fmt.Sscan(line, &first, &outside, &n); err == nil && int64(id) >= first && int64(id)-first < n {
			return true
		}
	}
	return false
}

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
		"Uid": &s.uid, "Gid": &s.gid, "Groups": &s.groups, "CapEff": &s.effective, "CapPrm": &s.permitted, "CapInh": &s.inheritable, "CapAmb": &s.ambient,
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

// detachedRoot is the root of an empty file system, which has no name and cannot be
// written to. It takes CAP_SYS_ADMIN.
func detachedRoot() (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(root), "tmpfs"), nil
}
