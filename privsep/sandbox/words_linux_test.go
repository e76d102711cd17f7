package sandbox

import (
	"errors"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"
)

const goarch = runtime.GOARCH

func asErrno(err error, errno *syscall.Errno) bool { return errors.As(err, errno) }

// TestWords: each promise opens something that is shut without it.
func TestWords(t *testing.T) {
	needFilter(t)
	for _, row := range []struct {
		word  string // what is promised besides stdio
		probe string
		want  string // with it; the default is "ok"
		extra string // promised with it and without it
	}{
		{word: "rpath", probe: "read"},
		{word: "rpath", probe: "stat"},
		{word: "wpath", probe: "write"},
		{word: "wpath", probe: "truncate by open", extra: "rpath"},
		{word: "cpath", probe: "mkdir"},
		{word: "cpath", probe: "create", extra: "wpath"},
		{word: "dpath", probe: "mkfifo"},
		{word: "tmppath", probe: "tmp"},
		{word: "inet", probe: "listen"},
		{word: "inet", probe: "inet socket"},
		{word: "mcast", probe: "multicast", extra: "inet"},
		{word: "fattr", probe: "chmod"},
		{word: "chown", probe: "chown"},
		{word: "flock", probe: "flock"},
		{word: "flock", probe: "lock"},
		{word: "unix", probe: "unix socket"},
		{word: "unix", probe: "listen unix"},
		{word: "dns", probe: "hosts"},
		{word: "dns", probe: "udp to 53"},
		{word: "getpw", probe: "passwd"},
		{word: "tty", probe: "window size", want: "ENOTTY"},
		{word: "proc", probe: "kill parent"},
		{word: "proc", probe: "own"},
		{word: "proc", probe: "limit"},
		{word: "proc", probe: "run", extra: "rpath exec"},
		{word: "exec", probe: "run", extra: "rpath proc"},
		{word: "exec", probe: "exec", want: "", extra: "rpath"},
		{word: "prot_exec", probe: "map code"},
		{word: "prot_exec", probe: "turn to code"},
		{word: "settime", probe: "set clock", want: "EINVAL"},
		{word: "ps", probe: "own stat"},
		{word: "vminfo", probe: "meminfo"},
		{word: "id", probe: "setresuid"},
		{word: "route", probe: "netlink route"},
		{word: "wroute", probe: "netlink route"},
	} {
		if row.want == "" && row.probe != "exec" {
			row.want = "ok"
		}
		t.Run(row.word+" "+row.probe, func(t *testing.T) {
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				if row.probe == "kill parent" && cred != nil {
					t.Skip("another user may not signal the parent in any case")
				}
				promises := "stdio " + row.extra
				out, err := run(t, "probe", Policy{Promises: promises + " " + row.word}, cred, tempDir(t), row.probe)
				if out != row.want || err != nil {
					t.Errorf("%s with %q: %q, %v; want %q", row.probe, row.word, out, err, row.want)
				}
				out, err = run(t, "probe", Policy{Promises: promises}, cred, tempDir(t), row.probe)
				if out != "EPERM" || err != nil {
					t.Errorf("%s without %q: %q, %v; want EPERM", row.probe, row.word, out, err)
				}
			})
		})
	}
}

// TestWordsWithoutMeaning: these change nothing on Linux, and the table in doc.go says so.
func TestWordsWithoutMeaning(t *testing.T) {
	for word := range strings.FieldsSeq("sendfd recvfd pf bpf unveil error disklabel") {
		plain, err := compile(words{"stdio": true}, "amd64", 1, retKill)
		testutil.Must(t, err)
		f, err := compile(words{"stdio": true, word: true}, "amd64", 1, retKill)
		testutil.Must(t, err)
		if len(f.program) != len(plain.program) {
			t.Errorf("%s changes the filter: %d instructions, %d without", word, len(f.program), len(plain.program))
		}
	}
}

// needFilter skips where there are no filters.
func needFilter(t *testing.T) {
	t.Helper()
	if numbersFor(goarch) == nil {
		t.Skip("needs a list of system calls for " + goarch)
	}
	if err := seccompError(); err != nil {
		t.Skip("needs seccomp filters: ", err)
	}
}
