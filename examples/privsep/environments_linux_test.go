package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuseEnv has "call errno": a system call that fails, as in an old kernel or under
// somebody else's filter.
const refuseEnv = "EXAMPLE_REFUSE"

// refuse makes it fail, for this process and its children.
func refuse(text string) error {
	var call, errno uint32
	if _, err := fmt.Sscan(text, &call, &errno); err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	return nil
}

// TestEnvironments runs the program where people run daemons, and prints what is in
// force in its worker:
//
//	go test -v -run Environments ./examples/privsep
func TestEnvironments(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to build the environments")
	}
	const (
		docker = "setpriv --inh-caps=-all --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap "
		nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups "
	)
	mounted := func(mounts string) string { return "unshare -m sh -c '" + mounts + " || exit 77; exec \"$0\" \"$@\"' " }
	refused := func(call, errno uint32) string { return fmt.Sprintf("%s=%d %[3]d", refuseEnv, call, errno) }
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "environment\tstarts\tuid\troot\tseccomp\tLandlock\tmissing")
	for _, c := range []struct{ name, command, env string }{
		{"root", "exec ", ""},
		{"docker's capabilities", docker, ""},
		{"docker --cap-drop=ALL", "setpriv --inh-caps=-all --bounding-set=-all ", ""},
		{"root without CAP_SYS_CHROOT", "setpriv --inh-caps=-all --bounding-set=-sys_chroot ", ""},
		{"root without CAP_SETGID", "setpriv --inh-caps=-all --bounding-set=-setgid ", ""},
		{"an ordinary user", nobody, ""},
		{"User= with AmbientCapabilities=", nobody + "--inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service ", ""},
		{"NoNewPrivileges=", "setpriv --no-new-privs ", ""},
		{"rootless: a user namespace of one", nobody + "unshare -r ", ""},
		{"read-only /tmp, /run, /dev/shm, /var/tmp", mounted("for d in /tmp /run /dev/shm /var/tmp; do mount -t tmpfs -o ro none $d || exit 77; done"), ""},
		{"hidepid=2, docker's capabilities", mounted("mount -t proc -o hidepid=2 proc /proc") + docker, ""},
		{"NOTIFY_SOCKET of nobody", "exec ", "NOTIFY_SOCKET=@nobody"},
		{"close_range ENOSYS", "exec ", refused(unix.SYS_CLOSE_RANGE, uint32(unix.ENOSYS))},
		{"close_range EPERM", "exec ", refused(unix.SYS_CLOSE_RANGE, uint32(unix.EPERM))},
		{"seccomp EPERM", "exec ", refused(unix.SYS_SECCOMP, uint32(unix.EPERM))},
		{"landlock ENOSYS", "exec ", refused(unix.SYS_LANDLOCK_CREATE_RULESET, uint32(unix.ENOSYS))},
	} {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", c.command+"/proc/self/fd/3")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "GORACE=atexit_sleep_ms=0", programEnv + "=1", c.env}
		program, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = []*os.File{program}
		out, err := cmd.CombinedOutput()
		program.Close()
		m := regexp.MustCompile(`(?m)^worker: pid \d+, uid (\d+), gid \d+, groups [^]]*\](, in an empty directory)?.*seccomp: ([^;\n]*); landlock: ([^;\n]*)(.*)$`).FindStringSubmatch(string(out))
		switch code := cmd.ProcessState.ExitCode(); {
		case code == 77 || code == 126 || code == 127 || strings.Contains(string(out), "unshare failed") || strings.Contains(string(out), "BusyBox"):
			fmt.Fprintf(w, "%s\tcannot be built here\n", c.name)
		case err != nil || m == nil:
			t.Errorf("%s: %v, printed\n%s", c.name, err, out)
			fmt.Fprintf(w, "%s\tNO: %v\n", c.name, err)
		default:
			root := "kept"
			if m[2] != "" {
				root = "empty"
			}
			fmt.Fprintf(w, "%s\tyes\t%s\t%s\t%s\t%s\t%s\n", c.name, m[1], root, m[3], m[4], strings.TrimPrefix(strings.ReplaceAll(m[5], "; missing ", "; "), "; "))
		}
	}
	w.Flush()
	t.Logf("\n%s", table.String())
}
