package privsep

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

var twinsDaemon = register(Daemon{Name: "twins", User: "nobody", Roles: []Role{
	{Name: "twin", Run: witness, Instances: 2},
	{Name: "other", Run: witness}, // a role of its own, but of the same user
}})

func init() {
	// look tries to look into another process, and returns what each try came to.
	acts["look"] = func(_ *testimony, args []string, _ *os.File) (any, error) {
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return nil, err
		}
		got := make(map[string]string)
		for name, flags := range map[string]int{"mem": unix.O_RDWR, "environ": unix.O_RDONLY, "maps": unix.O_RDONLY, "fd/3": unix.O_RDONLY, "fd": unix.O_RDONLY} {
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", pid, name), flags|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			got[name] = fmt.Sprint(err)
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(pidfd)
		fd, err := unix.PidfdGetfd(pidfd, controlFD, 0)
		if err == nil {
			unix.Close(fd)
		}
		got["pidfd_getfd"] = fmt.Sprint(err)
		var b [1]byte
		local := []unix.Iovec{{Base: &b[0], Len: 1}}
		_, err = unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0, Len: 1}}, 0)
		got["process_vm_readv"] = fmt.Sprint(err)
		return got, nil
	}
}

// TestNotDumpable: children of one user cannot look into each other, though
// nothing but that keeps them from it.
func TestNotDumpable(t *testing.T) {
	r := up(t, twinsDaemon)
	victim := r.status("twin", 0)
	if victim.Dumpable {
		t.Errorf("status %v", victim)
	}
	for _, q := range []struct {
		role     string
		instance int
	}{{"twin", 1}, {"other", 0}} {
		looker := r.status(q.role, q.instance)
		if looker.UID != victim.UID {
			t.Fatalf("users %d and %d", looker.UID, victim.UID)
		}
		for what, got := range ask[map[string]string](t, r.Peers(q.role)[q.instance], "look", strconv.Itoa(victim.PID)) {
			if got != unix.EACCES.Error() && got != unix.EPERM.Error() && !(hidesProcesses() && got == unix.ENOENT.Error()) {
				t.Errorf("%s: %s: %s", q.role, what, got)
			}
		}
	}
}
