package privsep

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.org/imsg/internal/unixmsg"
	"example.org/imsg/privsep/sandbox"
)

// prisonDaemon has a child that was taken over, and another one of the same user.
var prisonDaemon = register(Daemon{Name: "prison", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "prisoner", Run: witness, Setup: holdRoot},
	{Name: "sibling", Run: witness},
}})

// holdRoot keeps a directory of the root before, as a program may do that needs
// one, or forgets to close it.
func holdRoot(_ context.Context, p *Proc) error {
	f, err := os.Open("/")
	p.files["root"] = f
	return err
}

// A prison is what keeps a child in, and what the child tries.
type prison struct {
	name   string
	change func(r *Role, dir string) // of its declaration; dir is escapeDir's
	rows   []escapeRow
}

// An escapeRow says what has to become of an attempt.
type escapeRow struct {
	try  string // the attempt and its argument, if any: parent, sibling, PORT or a name
	want string // an errno, or escapeDeath
	user string // the same for an ordinary user, if it is not the same
}

const (
	escapeDeath = "death"
	escapeSkip  = "-" // it is what it may do
)

var prisons = []prison{
	// Ids and root alone. A directory that is held is a way out, by design.
	{"root and ids", func(*Role, string) {}, []escapeRow{
		{"setuid", "EPERM", ""}, {"setgid", "EPERM", ""}, {"setresuid", "EPERM", ""}, {"setresuid saved", "EPERM", ""},
		{"setresgid", "EPERM", ""}, {"setreuid", "EPERM", ""}, {"setgroups", "EPERM", ""}, {"setgroups none", "EPERM", ""},
		{"setuid, Go", "EPERM", ""}, {"setgroups, Go", "EPERM", ""}, {"capset", "EPERM", ""}, {"ambient capability", "EPERM", ""},
		{"chroot", "EPERM", ""}, {"chroot and up", "ENOENT", escapeSkip}, {"pivot_root", "EPERM", ""}, {"mount", "EPERM", ""},
		{"send a directory", "EISDIR", ""},
		{"read /etc/passwd", "ENOENT", escapeSkip}, {"list /proc", "ENOENT", escapeSkip}, {"create /new", "ENOENT", "EACCES"},
		{"read ../../../../etc/passwd", "ENOENT", escapeSkip},
		{"attach sibling", "EPERM", ""}, {"attach parent", "EPERM", escapeSkip}, {"seize parent", "EPERM", escapeSkip},
		{"take a descriptor sibling", "EPERM", ""}, {"take a descriptor parent", "EPERM", escapeSkip},
		{"read memory sibling", "EPERM", ""}, {"read memory parent", "EPERM", escapeSkip},
		{"open memory sibling", "ENOENT", "EACCES"}, {"kill parent", "EPERM", escapeSkip}, {"limit parent", "EPERM", escapeSkip},
		{"exec", "ENOENT", escapeSkip}, {"userns", "EPERM", escapeSkip},
		{"packet", "EPERM", ""}, {"reboot", "EPERM", ""},
	}},
	// Ids alone: what keeps processes apart that see each other.
	{"ids", func(r *Role, _ string) { r.Chroot = NoChroot }, []escapeRow{
		{"setuid", "EPERM", ""}, {"chroot", "EPERM", ""}, {"chroot and up", "EACCES", ""},
		{"attach sibling", "EPERM", ""}, {"seize sibling", "EPERM", ""}, {"attach parent", "EPERM", escapeSkip},
		{"take a descriptor sibling", "EPERM", ""}, {"take a descriptor parent", "EPERM", escapeSkip},
		{"read memory sibling", "EPERM", ""}, {"read memory parent", "EPERM", escapeSkip},
		{"open memory sibling", "EACCES", ""}, {"open memory parent", "EACCES", escapeSkip}, {"open own memory", "EACCES", ""},
		{"open its root sibling", "EACCES", ""}, {"open its root parent", "EACCES", escapeSkip},
		{"open its file sibling", "EACCES", ""}, {"open its file parent", "EACCES", escapeSkip},
		{"read /etc/shadow", "EACCES", ""}, {"write /etc/passwd", "EACCES", ""}, {"create /new", "EACCES", ""},
		{"kill parent", "EPERM", escapeSkip}, {"send a directory", "EISDIR", ""},
	}},
	{"stdio", func(r *Role, _ string) { r.Sandbox.Promises = "stdio" }, []escapeRow{
		{"setuid", "EPERM", ""}, {"setgid", "EPERM", ""}, {"setresuid", "EPERM", ""}, {"setgroups", "EPERM", ""},
		{"capset", "EPERM", ""}, {"ambient capability", "EPERM", ""}, {"dumpable", "EPERM", ""}, {"ptracer", "EPERM", ""},
		{"chroot", "EPERM", ""}, {"chroot and up", "EPERM", ""}, {"from a directory etc/passwd", "EPERM", ""},
		{"by a directory etc/passwd", "EPERM", ""}, {"send a directory", "EISDIR", ""}, {"attach a directory", "EPERM", ""}, {"send a file", "file passing is off (Config.AllowFDPass)", ""},
		{"pivot_root", escapeDeath, ""}, {"mount", escapeDeath, ""}, {"open_by_handle_at", escapeDeath, ""},
		{"read /etc/passwd", "EPERM", ""}, {"list /", "EPERM", ""}, {"create /new", "EPERM", ""}, {"unlink /etc/passwd", "EPERM", ""},
		{"rename /etc/passwd", "EPERM", ""}, {"link /etc/passwd", "EPERM", ""}, {"chmod /etc/passwd", "EPERM", ""}, {"temporary /tmp/x", "EPERM", ""},
		{"attach sibling", escapeDeath, ""}, {"attach parent", escapeDeath, ""}, {"seize parent", escapeDeath, ""},
		{"take a descriptor sibling", "EPERM", ""}, {"pidfd_getfd", escapeDeath, ""}, {"read memory sibling", escapeDeath, ""},
		{"read memory parent", escapeDeath, ""}, {"open memory parent", "EPERM", ""}, {"open own memory", "EPERM", ""},
		{"kill parent", "EPERM", ""}, {"kill sibling", "EPERM", ""}, {"kill all", "EPERM", ""}, {"kill group", "EPERM", ""}, {"tkill sibling", "EPERM", ""},
		{"sigqueue sibling", "EPERM", ""}, {"priority sibling", "EPERM", ""}, {"limit sibling", "EPERM", ""},
		{"exec", "EPERM", ""}, {"exec memory", "EPERM", ""}, {"fork", "EPERM", ""}, {"userns", "EPERM", ""}, {"clone3", "ENOSYS", ""},
		{"unshare", escapeDeath, ""}, {"setns", escapeDeath, ""},
		{"inet", "EPERM", ""}, {"inet6", "EPERM", ""}, {"unix", "EPERM", ""}, {"netlink", "EPERM", ""}, {"packet", "EPERM", ""},
		{"vsock", "EPERM", ""}, {"alg", "EPERM", ""},
		{"io_uring", escapeDeath, ""}, {"bpf", escapeDeath, ""}, {"keyctl", escapeDeath, ""}, {"userfaultfd", escapeDeath, ""},
		{"perf", escapeDeath, ""}, {"module", escapeDeath, ""}, {"reboot", escapeDeath, ""},
		{"shared memory", "EPERM", ""}, {"inotify", "EPERM", ""}, {"fanotify", "EPERM", ""}, {"kernel log", "EPERM", ""}, {"personality", "EPERM", ""},
		{"type input", "EPERM", ""}, {"code", "EPERM", ""}, {"no such call", "EPERM", ""},
		{"x32 getpid", escapeDeath, ""}, {"x32 ptrace", escapeDeath, ""}, {"x32 execve", escapeDeath, ""},
	}},
	// It sees all names, and may use none.
	{"stdio, root kept", func(r *Role, _ string) { r.Chroot, r.Sandbox.Promises = NoChroot, "stdio" }, []escapeRow{
		{"read DIR/file", "EPERM", ""}, {"name socket DIR/socket", "EPERM", ""}, {"open memory sibling", "EPERM", ""}, {"exec", "EPERM", ""},
	}},
	// It may ask name servers, and nobody else.
	{"one port", func(r *Role, _ string) { r.Sandbox = sandbox.Policy{Promises: "stdio dns", Paths: []sandbox.Path{}} }, []escapeRow{
		{"connect PORT", "EACCES", ""}, {"connect, IPv6 PORT", "EACCES", ""}, {"connect, MPTCP PORT", "EPERM", ""},
		{"fast open PORT", "EPERM", ""}, {"fast open by sendmsg PORT", "EPERM", ""},
		{"unix", "EPERM", ""}, {"packet", "EPERM", ""},
	}},
	// It may open files, but there are none.
	{"no paths", func(r *Role, _ string) {
		r.Sandbox = sandbox.Policy{Promises: "stdio rpath wpath cpath", Paths: []sandbox.Path{}}
	}, []escapeRow{
		{"from a directory etc/passwd", "EACCES", ""}, {"by a directory etc/passwd", "EACCES", ""},
		{"read /etc/passwd", "ENOENT", "EACCES"}, {"list /", "EACCES", ""}, {"chroot and up", "ENOENT", "EACCES"},
		{"open own memory", "ENOENT", "EACCES"}, {"inet", "EPERM", ""}, {"exec", "EPERM", ""},
	}},
	// It may read below one directory, which all may write to.
	{"one path", func(r *Role, dir string) {
		r.Chroot = NoChroot
		r.Sandbox = sandbox.Policy{Promises: "stdio rpath wpath cpath", Paths: []sandbox.Path{{Name: dir, Perm: "r"}}}
	}, []escapeRow{
		{"read DIR/file", "escaped", ""}, {"list DIR", "escaped", ""},
		{"write DIR/file", "EACCES", ""}, {"create DIR/new", "EACCES", ""}, {"rename DIR/file", "EACCES", ""}, {"unlink DIR/file", "EACCES", ""},
		{"temporary DIR/x", "EACCES", ""}, {"read DIR/../beside", "EACCES", ""}, {"read DIR/symlink", "EACCES", ""}, {"list DIR/..", "EACCES", ""},
		{"read /etc/passwd", "EACCES", ""}, {"list /", "EACCES", ""}, {"from a directory etc/passwd", "EACCES", ""},
		{"by a directory etc/passwd", "EACCES", ""}, {"open memory sibling", "EACCES", ""}, {"open memory parent", "EACCES", ""},
		{"open own memory", "EACCES", ""}, {"open its root sibling", "EACCES", ""}, {"chmod DIR/file", "EPERM", ""},
		{"inet", "EPERM", ""}, {"fork", "EPERM", ""}, {"attach sibling", escapeDeath, ""},
	}},
	// It may do nearly everything but what makes another process of it.
	{"most promises", func(r *Role, _ string) {
		r.Sandbox.Promises = "stdio rpath wpath cpath fattr flock inet unix dns sendfd recvfd id proc exec"
	}, []escapeRow{
		{"setuid", "EPERM", ""}, {"setgroups", "EPERM", ""}, {"chroot", "EPERM", ""}, {"mount", escapeDeath, ""},
		{"attach sibling", escapeDeath, ""}, {"pidfd_getfd", escapeDeath, ""}, {"read memory parent", escapeDeath, ""},
		{"send a directory", "EISDIR", ""}, {"netlink", "EPERM", ""}, {"packet", "EPERM", ""}, {"userns", "EPERM", ""},
		{"dumpable", "EPERM", ""}, {"x32 getpid", escapeDeath, ""}, {"bpf", escapeDeath, ""}, {"exec", "ENOENT", escapeSkip},
	}},
}

// TestEscape: what a child that was taken over tries is refused.
func TestEscape(t *testing.T) {
	dir := escapeDir(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, p := range prisons {
		t.Run(p.name, func(t *testing.T) {
			for _, row := range p.rows {
				want := row.want
				if !isRoot() && row.user != "" {
					want = row.user
				}
				if want == escapeSkip || strings.HasPrefix(row.try, "x32") && runtime.GOARCH != "amd64" {
					continue
				}
				t.Run(row.try, func(t *testing.T) { escape(t, p, dir, strings.Replace(row.try, "PORT", port, 1), want) })
			}
		})
	}
}

// escape lets one child try one thing.
func escape(t *testing.T, p prison, dir, what, want string) {
	r := up(t, prisonDaemon, func(d *Daemon) {
		p.change(&d.Roles[0], dir)
		if !strings.HasSuffix(what, " sibling") {
			d.Roles = d.Roles[:1]
		}
	})
	for _, st := range r.status("prisoner", 0).Sandbox.States {
		missing := st.Asked && !st.InForce || strings.HasPrefix(what, "connect") && slices.Contains(st.Gaps, "tcp")
		if missing && (st.Mechanism != sandbox.Landlock || want == "EACCES") { // others do the rest
			t.Skipf("this kernel has not all of %v", st)
		}
	}
	if what == "attach a directory" && !refusesFiles(t) {
		t.Skip("this kernel has no SO_PASSRIGHTS (Linux 6.16)")
	}
	got, err := try[string](t.Context(), r.Peer("prisoner"), nil, "escape", escapeArgs(r, dir, what)...)
	if strings.HasSuffix(got, "EAFNOSUPPORT") && strings.Contains(what, "IPv6") {
		t.Skip("this kernel has no IPv6")
	}
	if strings.HasSuffix(got, "ENOENT") && want == "EACCES" && hidesProcesses() {
		got = want // what is hidden is not refused, but not there
	}
	if want != escapeDeath {
		if err != nil || got != want && !strings.HasSuffix(got, want) {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil {
		t.Fatalf("%s; want its death", got)
	}
	var child *ChildError
	if err := r.wait(); !errors.As(err, &child) || child.Role != "prisoner" || !strings.Contains(err.Error(), "bad system call") {
		t.Errorf("the daemon has ended with %v", err)
	}
}

// refusesFiles says whether the kernel can keep files from being sent.
func refusesFiles(t *testing.T) bool {
	fd, far, err := unixmsg.Pair(true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer unix.Close(far)
	return unixmsg.SetPassRights(fd, false) == nil
}

// hidesProcesses says whether /proc shows others' processes to nobody else.
func hidesProcesses() bool {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	return strings.Contains(string(mounts), "hidepid=")
}

// escapeArgs splits an attempt and its argument: a name or a process.
func escapeArgs(r *running, dir, what string) []string {
	if attempts[what] != nil {
		return []string{what}
	}
	i := strings.LastIndexByte(what, ' ')
	name, arg := what[:i], what[i+1:]
	switch {
	case arg == "parent":
		arg = strconv.Itoa(os.Getpid())
	case arg == "sibling":
		arg = strconv.Itoa(r.status("sibling", 0).PID)
	case strings.HasPrefix(arg, "DIR"):
		arg = dir + strings.TrimPrefix(arg, "DIR") // not cleaned
	}
	return []string{name, arg}
}

// escapeDir makes a directory to which everybody may write, with a file, a link
// out of it, and a file beside it.
func escapeDir(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "escape-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "dir")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(base, "socket"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, err := range []error{
		os.Chmod(base, 0o755),
		os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777),
		os.Rename(filepath.Join(base, "socket"), filepath.Join(dir, "socket")), os.Chmod(filepath.Join(dir, "socket"), 0o777),
		os.WriteFile(filepath.Join(base, "beside"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o666), os.Chmod(filepath.Join(dir, "file"), 0o666),
		os.Symlink("/etc/passwd", filepath.Join(dir, "symlink")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
