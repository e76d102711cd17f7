package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// TestOlderKernels: what is asked of Landlock, what each kernel lacks of it, and
// what nothing else makes up for. Preparing restricts nothing, so kernels can be made up.
func TestOlderKernels(t *testing.T) {
	everything := "moves between directories (always forbidden)|truncate|tcp|device ioctl|abstract sockets|signals|unix connect|udp"
	paths := []Path{{"/", "rwxc"}}
	for _, row := range []struct {
		abi, errata   int
		promises      string
		paths         []Path
		arch          string
		missing, gaps string
	}{
		{10, 7, "stdio", nil, "amd64", "", ""},
		{9, 7, "stdio", nil, "amd64", "udp", ""},
		{8, 0, "stdio", nil, "amd64", "unix connect|udp", ""},
		{7, 7, "stdio", nil, "amd64", "unix connect|udp", ""},
		{7, 1, "stdio", nil, "amd64", "signals|unix connect|udp", ""},
		{7, 7, "stdio inet unix proc", nil, "amd64", "unix connect", ""},
		{7, 7, "stdio unix", paths, "amd64", "unix connect|udp", "unix connect"},
		{7, 7, "stdio dns", nil, "amd64", "unix connect|udp", "udp"},
		{3, 7, "stdio dns", nil, "amd64", "tcp|device ioctl|abstract sockets|signals|unix connect|udp", "tcp|udp"},
		{2, 0, "stdio rpath wpath", paths, "amd64", "truncate|tcp|device ioctl|abstract sockets|signals|unix connect|udp", "truncate"},
		{4, 0, "stdio tty rpath", paths, "amd64", "device ioctl|abstract sockets|signals|unix connect|udp", "device ioctl"},
		{1, 0, "stdio", nil, "amd64", everything, ""},
		{1, 0, "stdio", nil, "riscv64", everything + "|chmod and chown",
			"truncate|tcp|device ioctl|abstract sockets|signals|unix connect|udp|chmod and chown"},
		{7, 7, "", paths, "amd64", "unix connect|chmod and chown", "unix connect|chmod and chown"},
		{10, 7, "", paths, "amd64", "chmod and chown", "chmod and chown"},
		{10, 7, "stdio rpath", paths, "amd64", "", ""},
		{10, 7, "stdio chown", paths, "amd64", "chmod and chown", "chmod and chown"},
		{10, 7, "stdio chown", nil, "amd64", "", ""},
		{0, 0, "stdio", nil, "amd64", "paths", ""},
		{0, 0, "stdio rpath", nil, "amd64", "paths", ""},
		{0, 0, "stdio rpath", paths, "amd64", "paths", "paths"},
		{0, 0, "stdio getpw", nil, "amd64", "paths", "paths"},
		{0, 0, "stdio", nil, "riscv64", "paths", "paths"},
	} {
		name := fmt.Sprintf("ABI %d errata %d %s %q", row.abi, row.errata, row.arch, row.promises)
		k := kernel{goarch: row.arch, landlock: landlockKernel{abi: row.abi, errata: row.errata, why: "made up"}}
		w, err := parse(row.promises)
		testutil.Must(t, err)
		plan, err := k.prepare(Policy{Promises: row.promises, Paths: row.paths}, w, "")
		testutil.Must(t, err)
		st := plan.states[2]
		if got := strings.Join(st.Missing, "|"); got != row.missing {
			t.Errorf("%s: missing %q, want %q", name, got, row.missing)
		}
		if got := strings.Join(st.Gaps, "|"); got != row.gaps {
			t.Errorf("%s: left open %q, want %q", name, got, row.gaps)
		}
		if st.Mechanism != Landlock || !st.Asked || st.InForce != (row.abi > 0) {
			t.Errorf("%s: %+v", name, st)
		}
		status := Status{System: "made up", States: plan.states}
		if err := status.Satisfies(Landlock); (err == nil) != (row.abi > 0 && row.gaps == "") {
			t.Errorf("%s: required: %v", name, err)
		}
		filtered := row.arch == "amd64" && row.promises != ""
		if got := status.InForce()&Seccomp != 0; got != filtered {
			t.Errorf("%s: seccomp %v, want %v", name, got, filtered)
		}
	}
}

// TestKernelWithout: a kernel without filters and without Landlock.
func TestKernelWithout(t *testing.T) {
	k := kernel{goarch: "amd64", seccomp: "made up", landlock: landlockKernel{why: "made up"}}
	status, err := enter(Policy{Promises: "stdio", Require: Native()}, "", nil, k.prepare)
	if err == nil || !reflect.DeepEqual(status, Status{}) {
		t.Fatalf("required what is not there: %v, %v", status, err)
	}
	for _, name := range []string{"no_new_privs: none", "seccomp: none", "landlock: none", "made up"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("no %q in %v", name, err)
		}
	}
}

// kernelChild enters with the ABI in its first argument, as far as this kernel
// goes, and shows what is in force and what it can still open.
func kernelChild(p Policy) error {
	k := thisKernel()
	var abi int
	if _, err := fmt.Sscan(os.Args[1], &abi); err != nil {
		return err
	}
	k.landlock = landlockKernel{abi: min(abi, k.landlock.abi), errata: k.landlock.errata, why: "made up"}
	status, err := enter(p, "", nil, k.prepare)
	if err != nil {
		fmt.Println(err)
	} else {
		fmt.Println(status)
	}
	_, err = os.ReadFile("/etc/passwd")
	fmt.Println(describe(err))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	unix.Close(fd)
	fmt.Println(describe(err))
	return nil
}

// TestRequire: without Landlock, Enter says so and goes on, or fails before it
// has restricted anything.
func TestRequire(t *testing.T) {
	needFilter(t)
	asUsers(t, func(t *testing.T, cred *syscall.Credential) {
		dir := tempDir(t)
		p := Policy{Promises: "stdio rpath", Paths: []Path{{dir, "r"}}}
		out, err := run(t, "kernel", p, cred, dir, "0")
		lines := strings.Split(out, "\n")
		if err != nil || len(lines) != 3 || !strings.Contains(lines[0], "landlock: none, made up") ||
			!strings.Contains(lines[0], "left open: paths") || lines[1] != "ok" || lines[2] != "EPERM" {
			t.Errorf("not required: %v: %s", err, out)
		}
		p.Require = Landlock
		out, err = run(t, "kernel", p, cred, dir, "0")
		lines = strings.Split(out, "\n")
		if err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "sandbox: required landlock: none, made up") ||
			lines[1] != "ok" || lines[2] != "ok" {
			t.Errorf("required: %v: %s", err, out)
		}
		needLandlock(t, 1)
		out, err = run(t, "kernel", p, cred, dir, "1")
		lines = strings.Split(out, "\n")
		if err != nil || len(lines) != 3 || !strings.Contains(lines[0], "landlock: ABI 1, 1 rules, not known here: ") ||
			lines[1] != "EACCES" || lines[2] != "EPERM" {
			t.Errorf("ABI 1: %v: %s", err, out)
		}
	})
}

// TestStatusIsHonest: all of Native is required and reported, and a second
// Enter fails rather than report a sandbox that it did not make.
func TestStatusIsHonest(t *testing.T) {
	needFilter(t)
	needLandlock(t, 7)
	asUsers(t, func(t *testing.T, cred *syscall.Credential) {
		p := Policy{Promises: "stdio", Require: Native()}
		out, err := run(t, "enter", p, cred, "/")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var status Status
		testutil.Must(t, json.Unmarshal([]byte(out), &status))
		if status.InForce() != Native() || status.System != "linux/"+goarch {
			t.Errorf("%v", status)
		}
		t.Log(status)
		if out, err := run(t, "probe", p, cred, tempDir(t), "enter again"); !strings.HasPrefix(out, "sandbox: required seccomp: none, operation not permitted") || err != nil {
			t.Errorf("second Enter: %q, %v; want one that says what is missing", out, err)
		}
	})
}

// TestMissingPath: a path that is not there is an error before anything happens.
func TestMissingPath(t *testing.T) {
	needLandlock(t, 1)
	name := tempDir(t) + "/none"
	_, err := Enter(Policy{Promises: "stdio rpath", Paths: []Path{{name, "r"}}})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("%v", err)
	}
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); mode != 0 || err != nil {
		t.Errorf("seccomp mode %d, %v", mode, err)
	}
}

// chrootChild enters where there is no /proc.
func chrootChild(p Policy) error {
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return enterChild(p)
}

// TestChroot: without /proc, only a C program on a kernel that has no call for all
// threads goes without Landlock, and says so.
func TestChroot(t *testing.T) {
	needFilter(t)
	needLandlock(t, 1)
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := tempDir(t)
	out, err := run(t, "chroot", Policy{Promises: "stdio rpath", Paths: []Path{{"/", "r"}}}, nil, dir)
	var status Status
	if err := errors.Join(err, json.Unmarshal([]byte(out), &status)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := Native()
	if withCgo && thisLandlock().abi < 8 {
		want = Native() &^ Landlock
		if !strings.Contains(status.String(), "needs /proc in a cgo program") || !strings.Contains(status.String(), "left open: paths") {
			t.Error(status)
		}
	}
	if status.InForce() != want {
		t.Error(status)
	}
}

// limitsChild shows that descriptors and files stay usable, but none is added.
func limitsChild(p Policy) error {
	f, err := os.Create("file")
	if err != nil {
		return err
	}
	status, err := Enter(p)
	if err != nil {
		return err
	}
	_, err = f.WriteString("text")
	fmt.Println("write", describe(err))
	_, err = os.Open("file")
	fmt.Println("open", describe(err))
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE} {
		var r unix.Rlimit
		if err := unix.Getrlimit(resource, &r); err != nil {
			return err
		}
		fmt.Println(r.Cur == 0, r.Max == 0)
	}
	fmt.Println(status.InForce())
	return nil
}

// TestLimits: zero is a limit, nil is none, and a limit of zero descriptors does
// not keep Landlock from being set up.
func TestLimits(t *testing.T) {
	needFilter(t)
	needLandlock(t, 1)
	zero := new(uint64(0))
	for _, row := range []struct {
		name   string
		policy Policy
		want   string
	}{
		{"both", Policy{Promises: "stdio rpath", Paths: []Path{{"/", "r"}}, Limits: Limits{FileSize: zero, OpenFiles: zero}},
			"write EFBIG\nopen EMFILE\ntrue true\ntrue true\ntrue true\nseccomp|landlock|no_new_privs"},
		{"neither", Policy{Promises: "stdio rpath"},
			"write ok\nopen ok\ntrue true\nfalse false\nfalse false\nseccomp|landlock|no_new_privs"},
		{"alone", Policy{Limits: Limits{FileSize: zero}},
			"write EFBIG\nopen ok\ntrue true\ntrue true\nfalse false\nnone"},
	} {
		t.Run(row.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				out, err := run(t, "limits", row.policy, cred, tempDir(t))
				if out != row.want || err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		})
	}
}
