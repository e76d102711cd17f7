package privsep

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"example.org/imsg/privsep/sandbox"
)

// placedDaemon is what people run: one role with a user, an empty root and a sandbox.
var placedDaemon = register(Daemon{Name: "placed", User: "65534", Chroot: EmptyDir, Roles: []Role{
	{Name: "a", Run: witness, Sandbox: sandbox.Policy{Promises: "stdio"}},
}})

var _ = registerMiddle("placed", func() int {
	if text := os.Getenv("CLOSE_RANGE"); text != "" {
		var errno uint32
		fmt.Sscan(text, &errno)
		if err := refuseCall(unix.SYS_CLOSE_RANGE, errno); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	d := copyOf(placedDaemon, nil)
	d.Privileged = os.Getenv("PRIVILEGED") != ""
	d.Parent = func(_ context.Context, p *Proc) error {
		s := p.Status()[1]
		fmt.Printf("it runs: uid %d, chroot %q, no_new_privs and seccomp %t, missing %q\n", s.UID, s.Chroot,
			s.Sandbox.InForce()&(sandbox.NoNewPrivs|sandbox.Seccomp) == sandbox.NoNewPrivs|sandbox.Seccomp, s.Missing)
		return nil
	}
	if err := d.Run(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
})

// refuseCall makes a system call fail, on every thread and in every child.
func refuseCall(number, errno uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
	}
	return loadFilter(filter)
}

// loadFilter puts a seccomp filter on every thread.
func loadFilter(filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return nil
}

// TestEnvironments: the daemon starts where people run daemons, and says what is
// missing there.
func TestEnvironments(t *testing.T) {
	if !isRoot() {
		t.Skip("needs root, to build the environments")
	}
	const docker = "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"
	const nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups "
	const all = `uid 65534, chroot "empty:", no_new_privs and seccomp true, missing []`
	const readOnly = "unshare -m sh -c 'for d in /tmp /run /dev/shm /var/tmp; do mount -t tmpfs -o ro none $d || exit 77; done; exec /proc/self/fd/3'"
	for _, c := range []struct{ name, command, env, want string }{
		{"plain", "exec", "", all},
		{"docker's capabilities", "setpriv --inh-caps=-all " + docker, "", all},
		{"no capability", "setpriv --inh-caps=-all --bounding-set=-all", "", `uid 0, chroot "", no_new_privs and seccomp true, missing ["ids: root without CAP_SETUID" "chroot: root without CAP_SYS_CHROOT"]`},
		{"no capability, required", "setpriv --inh-caps=-all --bounding-set=-all", "PRIVILEGED=1", ErrUnprivileged.Error() + ": ids: root without CAP_SETUID; chroot: root without CAP_SYS_CHROOT"},
		{"no CAP_SYS_CHROOT", "setpriv --inh-caps=-all --bounding-set=-sys_chroot", "", `uid 65534, chroot "", no_new_privs and seccomp true, missing ["chroot: root without CAP_SYS_CHROOT"]`},
		{"ambient capabilities", nobody + "--inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service", "", `uid 65534, chroot "", no_new_privs and seccomp true, missing ["ids: user 65534 is not root" "chroot: user 65534 is not root"]`},
		{"file capabilities", nobody + "--inh-caps=-all", "SETCAP=1", `uid 65534, chroot "", no_new_privs and seccomp true, missing ["ids: user 65534 is not root" "chroot: user 65534 is not root"]`},
		{"a user namespace of one", nobody + "unshare -r", "", `uid 0, chroot "empty:", no_new_privs and seccomp true, missing ["ids: user 65534 is not in this user namespace"]`},
		{"nothing to write to", readOnly, "", all},
		{"hidden processes", "unshare -m sh -c 'mount -t proc -o hidepid=2 proc /proc || exit 77; exec setpriv --inh-caps=-all " + docker + " /proc/self/fd/3'", "", all},
		{"no users", "unshare -m sh -c 'mount --bind /dev/null /etc/passwd && mount --bind /dev/null /etc/group || exit 77; exec /proc/self/fd/3'", "", all},
		{"no close_range", "exec", "CLOSE_RANGE=38", all},
		{"close_range without flags", "exec", "CLOSE_RANGE=22", all},
		{"close_range forbidden", "exec", "CLOSE_RANGE=1", all},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := self
			if c.env == "SETCAP=1" {
				name = withCapability(t)
			}
			program, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer program.Close()
			line := c.command
			if !strings.HasSuffix(line, "'") {
				line += " /proc/self/fd/3"
			}
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", line)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "GORACE=" + os.Getenv("GORACE"), envMiddle + "=placed", c.env}
			cmd.ExtraFiles = []*os.File{program}
			cmd.SysProcAttr = &syscall.SysProcAttr{}
			out, err := cmd.CombinedOutput()
			if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" { // no list of system calls
				c.want = strings.Replace(c.want, "seccomp true", "seccomp false", 1)
			}
			switch code := cmd.ProcessState.ExitCode(); {
			case code == 77 || code == 126 || code == 127 || strings.Contains(string(out), "unshare failed") || strings.Contains(string(out), "BusyBox"):
				t.Skipf("needs what makes the environment: %v, %s", err, out)
			case !strings.Contains(string(out), c.want):
				t.Errorf("%v, printed\n%swant\n%s", err, out, c.want)
			}
		})
	}
}

// withCapability makes a copy of this program with CAP_NET_BIND_SERVICE.
func withCapability(t *testing.T) string {
	t.Helper()
	name := withMode(t, 0o755)
	const revision2, effective = 0x02000000, 1
	var caps []byte
	for _, word := range []uint32{revision2 | effective, 1 << unix.CAP_NET_BIND_SERVICE, 0, 0, 0} {
		caps = binary.LittleEndian.AppendUint32(caps, word)
	}
	if err := unix.Setxattr(name, "security.capability", caps, 0); err != nil {
		t.Skip("needs file capabilities: ", err)
	}
	return name
}
