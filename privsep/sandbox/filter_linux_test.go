package sandbox

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ask runs a filter in the interpreter of x/net/bpf for one call.
func ask(t *testing.T, vm *bpf.VM, arch, number uint32, args ...uint64) uint32 {
	t.Helper()
	// struct seccomp_data on a little-endian machine, but each word of 32 bits
	// turned round, because this interpreter reads packets.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offNumber:], number)
	binary.BigEndian.PutUint32(data[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[16+8*i+4:], uint32(a>>32))
	}
	answer, err := vm.Run(data)
	testutil.Must(t, err)
	return uint32(answer)
}

func makeVM(t *testing.T, promises, arch string) *bpf.VM {
	t.Helper()
	w, err := parse(promises)
	testutil.Must(t, err)
	f, err := compile(w, arch, testPid, denied)
	testutil.Must(t, err)
	return newVM(t, f)
}

// newVM refuses what jumps out of the program.
func newVM(t *testing.T, f filter) *bpf.VM {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(f.program))
	for i, ins := range f.program {
		raw[i] = bpf.RawInstruction{Op: ins.Code, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	program, known := bpf.Disassemble(raw)
	if !known {
		t.Fatalf("instructions that are none: %v", program)
	}
	vm, err := bpf.NewVM(program)
	testutil.Must(t, err)
	return vm
}

const (
	testPid = 4711
	denied  = retErrno | uint32(unix.EPERM)
)

var audit = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// TestFilterNumbers asks about every number up to 600: the listed ones are
// allowed, whatever their arguments unless there are rules, and no other is.
func TestFilterNumbers(t *testing.T) {
	all := strings.Fields(vocabulary)
	lists := []string{"stdio", strings.Join(all, " ")}
	for _, word := range all[1:] {
		lists = append(lists, "stdio "+word)
	}
	for arch, token := range audit {
		number := numbersFor(arch)
		for _, promises := range lists {
			vm := makeVM(t, promises, arch)
			want := map[uint32]uint32{}
			w, _ := parse(promises)
			skip := map[uint32]bool{}
			for _, r := range argRules(w, testPid) {
				if n, ok := number[r.call]; ok && len(r.all) == 0 {
					want[n] = retAllow
				} else if ok {
					skip[n] = true // TestFilterArguments
				}
			}
			for word := range w {
				for name := range strings.FieldsSeq(plainCalls(word)) {
					if n, ok := number[name]; ok {
						want[n] = retAllow
					}
				}
			}
			for name := range strings.FieldsSeq(fatalCalls) {
				if n, ok := number[name]; ok {
					want[n] = retKill
				}
			}
			for name := range strings.FieldsSeq(absentCalls) {
				want[number[name]] = retErrno | uint32(unix.ENOSYS)
			}
			for n := range uint32(600) {
				expect, listed := want[n]
				if !listed {
					expect = denied
					if skip[n] {
						continue
					}
				}
				if got := ask(t, vm, token, n, 1<<40, 1<<40, 1<<40, 1<<40, 1<<40, 1<<40); got != expect {
					t.Errorf("%s %q: call %d: %#x, want %#x", arch, promises, n, got, expect)
				}
				if got := ask(t, vm, token+1, n); got != retKill {
					t.Errorf("%s %q: call %d of another architecture: %#x", arch, promises, n, got)
				}
				if got := ask(t, vm, token, n|0x40000000); arch == "amd64" && got != retKill {
					t.Errorf("%s %q: x32 call %d: %#x", arch, promises, n, got)
				}
			}
		}
	}
}

// TestFilterArguments: the rules, from both sides.
func TestFilterArguments(t *testing.T) {
	const rdonly, wronly, rdwr, mode3 = unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, 3
	thread := uint64(0xd0f00) // what the Go runtime passes
	for _, row := range []struct {
		promises, call string
		args           []uint64
		allow          bool
	}{
		{"stdio", "openat", []uint64{0, 0, rdonly}, false},
		{"stdio rpath", "openat", []uint64{0, 0, rdonly | unix.O_CLOEXEC}, true},
		{"stdio rpath", "openat", []uint64{0, 0, rdonly | unix.O_PATH}, true},
		{"stdio rpath", "openat", []uint64{0, 0, wronly}, false},
		{"stdio rpath", "openat", []uint64{0, 0, rdwr}, false},
		{"stdio rpath", "openat", []uint64{0, 0, mode3}, false},
		{"stdio rpath", "openat", []uint64{0, 0, rdonly | unix.O_CREAT}, false},
		{"stdio rpath", "openat", []uint64{0, 0, rdonly | unix.O_TRUNC}, false},
		{"stdio rpath wpath", "openat", []uint64{0, 0, rdonly | unix.O_TRUNC}, true},
		{"stdio rpath wpath", "openat", []uint64{0, 0, rdwr}, true},
		{"stdio rpath wpath", "openat", []uint64{0, 0, mode3}, false},
		{"stdio rpath wpath", "openat", []uint64{0, 0, rdwr | unix.O_CREAT}, false},
		{"stdio rpath wpath", "openat", []uint64{0, 0, rdwr | unix.O_TMPFILE}, false},
		{"stdio rpath wpath cpath", "openat", []uint64{0, 0, rdwr | unix.O_CREAT}, true},
		{"stdio wpath", "openat", []uint64{0, 0, wronly}, true},
		{"stdio wpath", "openat", []uint64{0, 0, rdwr}, false},
		{"stdio wpath", "openat", []uint64{0, 0, rdonly}, false},
		{"stdio cpath", "openat", []uint64{0, 0, wronly | unix.O_CREAT}, false},
		{"stdio rpath cpath", "openat", []uint64{0, 0, rdonly | unix.O_CREAT}, true},

		{"stdio", "clone", []uint64{thread}, true},
		{"stdio", "clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | 17}, false},
		{"stdio", "clone", []uint64{thread | unix.CLONE_NEWUSER}, false},
		{"stdio proc", "clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | 17}, true},
		{"stdio proc", "clone", []uint64{unix.CLONE_NEWNET | 17}, false},
		{"stdio", "clone", []uint64{thread | unix.CLONE_PARENT}, false},
		{"stdio proc", "clone", []uint64{unix.CLONE_PARENT | 17}, false},

		{"stdio", "memfd_create", []uint64{9, unix.MFD_CLOEXEC}, true},
		{"stdio exec", "memfd_create", []uint64{9, unix.MFD_CLOEXEC}, false},
		{"stdio exec", "memfd_create", []uint64{9, unix.MFD_EXEC}, false},
		{"stdio exec", "memfd_create", []uint64{9, unix.MFD_NOEXEC_SEAL}, true},
		{"stdio exec", "execveat", []uint64{3, 9, 9, 9, 0}, true},
		{"stdio exec", "execveat", []uint64{3, 9, 9, 9, unix.AT_EMPTY_PATH}, false},
		{"stdio inet", "setsockopt", []uint64{3, unix.IPPROTO_TCP, unix.TCP_MD5SIG}, true},
		{"stdio inet", "setsockopt", []uint64{3, unix.IPPROTO_IP, unix.IP_MINTTL}, true},
		{"stdio inet", "setsockopt", []uint64{3, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT}, true},

		{"stdio", "kill", []uint64{testPid, 15}, true},
		{"stdio", "kill", []uint64{1, 15}, false},
		{"stdio", "kill", []uint64{0, 15}, false},
		{"stdio", "kill", []uint64{^uint64(0), 15}, false},
		{"stdio", "tgkill", []uint64{testPid, 1, 15}, true},
		{"stdio", "tgkill", []uint64{1, 1, 15}, false},
		{"stdio proc", "kill", []uint64{1, 15}, true},

		{"stdio", "sendto", []uint64{3, 9, 9, 0, 0, 0}, true},
		{"stdio", "sendto", []uint64{3, 9, 9, 0, 9, 16}, false},
		{"stdio", "sendto", []uint64{3, 9, 9, 0, 1 << 32, 16}, false},
		{"stdio inet", "sendto", []uint64{3, 9, 9, 0, 9, 16}, true},

		{"stdio", "mmap", []uint64{0, 4096, unix.PROT_READ}, true},
		{"stdio", "mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, false},
		{"stdio", "mprotect", []uint64{0, 4096, unix.PROT_EXEC}, false},
		{"stdio exec", "mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, true},

		{"stdio", "fcntl", []uint64{3, unix.F_SETFL}, true},
		{"stdio", "fcntl", []uint64{3, unix.F_SETOWN}, false},
		{"stdio", "fcntl", []uint64{3, unix.F_SETLEASE}, false},
		{"stdio", "fcntl", []uint64{3, unix.F_SETLK}, false},
		{"stdio flock", "fcntl", []uint64{3, unix.F_SETLK}, true},

		{"stdio", "ioctl", []uint64{3, unix.TCGETS}, true},
		{"stdio", "ioctl", []uint64{3, unix.TIOCSTI}, false},
		{"stdio tty", "ioctl", []uint64{3, unix.TIOCSTI}, false},
		{"stdio tty", "ioctl", []uint64{3, unix.TCSETS}, true},
		{"stdio tty", "ioctl", []uint64{3, unix.TCSETS | 1<<32}, true}, // the kernel drops the upper half
		{"stdio tty", "ioctl", []uint64{3, unix.TIOCSTI | 1<<32}, false},

		{"stdio", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, true},
		{"stdio", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET}, true},
		{"stdio", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, false},
		{"stdio unix", "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, true},
		{"stdio", "socketpair", []uint64{unix.AF_TIPC, unix.SOCK_STREAM}, false},
		{"stdio", "sendmsg", []uint64{3, 9, unix.MSG_NOSIGNAL}, true},
		{"stdio dns", "sendmsg", []uint64{3, 9, unix.MSG_FASTOPEN | unix.MSG_NOSIGNAL}, false},
		{"stdio dns", "sendmmsg", []uint64{3, 9, 1, unix.MSG_FASTOPEN}, false},
		{"stdio dns", "sendto", []uint64{3, 9, 1, unix.MSG_FASTOPEN, 9}, false},
		{"stdio dns", "sendto", []uint64{3, 9, 1, 0, 9}, true},
		{"stdio inet", "sendmsg", []uint64{3, 9, unix.MSG_FASTOPEN}, true},
		{"stdio dns", "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, false},
		{"stdio inet", "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP}, true},
		{"stdio inet", "socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6}, true},
		{"stdio dns", "socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6}, false},
		{"stdio inet", "socket", []uint64{unix.AF_INET, unix.SOCK_RAW, 0}, false},
		{"stdio inet", "socket", []uint64{unix.AF_NETLINK, unix.SOCK_DGRAM, 0}, false},
		{"stdio unix", "socket", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET, 0}, true},
		{"stdio unix", "socket", []uint64{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, false},
		{"stdio", "setsockopt", []uint64{3, unix.SOL_SOCKET, unix.SO_RCVBUF}, false},
		{"stdio unix", "setsockopt", []uint64{3, unix.SOL_SOCKET, unix.SO_RCVBUF}, true},
		{"stdio unix", "setsockopt", []uint64{3, unix.IPPROTO_TCP, unix.TCP_NODELAY}, false},
		{"stdio inet", "setsockopt", []uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, false},
		{"stdio inet", "setsockopt", []uint64{3, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}, false},
		{"stdio inet mcast", "setsockopt", []uint64{3, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}, true},

		{"stdio", "prctl", []uint64{unix.PR_SET_VMA, 0}, true},
		{"stdio", "prctl", []uint64{unix.PR_SET_DUMPABLE, 1}, false},
		{"stdio", "prctl", []uint64{unix.PR_SET_PTRACER, 1}, false},
		{"stdio", "prlimit64", []uint64{0, 7, 0, 9}, true},
		{"stdio", "prlimit64", []uint64{testPid, 7, 0, 9}, true},
		{"stdio", "prlimit64", []uint64{0, 7, 9, 0}, false},
		{"stdio", "prlimit64", []uint64{0, 7, 9 << 32, 0}, false},
		{"stdio", "prlimit64", []uint64{1, 7, 0, 9}, false},
		{"stdio dpath", "mknodat", []uint64{0, 0, unix.S_IFIFO | 0o600}, true},
		{"stdio dpath", "mknodat", []uint64{0, 0, unix.S_IFBLK | 0o600}, false},
	} {
		for arch, token := range audit {
			want := denied
			if row.allow {
				want = retAllow
			}
			if got := ask(t, makeVM(t, row.promises, arch), token, numbersFor(arch)[row.call], row.args...); got != want {
				t.Errorf("%s %q: %s%x: %#x, want %#x", arch, row.promises, row.call, row.args, got, want)
			}
		}
	}
}

// TestFilterSize: the kernel takes at most 4096 instructions, and no jump out of them.
func TestFilterSize(t *testing.T) {
	for arch := range audit {
		w, err := parse(vocabulary)
		testutil.Must(t, err)
		f, err := compile(w, arch, testPid, denied)
		testutil.Must(t, err)
		newVM(t, f)
		if n := len(f.program); n > 4096 {
			t.Errorf("%s: %d instructions", arch, n)
		}
		t.Logf("%s, all promises: %d instructions, %d calls", arch, len(f.program), f.calls)
	}
}

// TestCallsExist: every name in the tables has a number somewhere, and none is
// both allowed and fatal.
func TestCallsExist(t *testing.T) {
	amd64, arm64 := numbersFor("amd64"), numbersFor("arm64")
	fatal := strings.Fields(fatalCalls + " " + absentCalls)
	check := func(name string) {
		if _, ok := amd64[name]; !ok {
			if _, ok := arm64[name]; !ok {
				t.Errorf("%s has no number", name)
			}
		}
		if slices.Contains(fatal, name) {
			t.Errorf("%s is allowed and fatal", name)
		}
	}
	w, err := parse(vocabulary)
	testutil.Must(t, err)
	for word := range w {
		for name := range strings.FieldsSeq(plainCalls(word)) {
			check(name)
		}
	}
	for _, r := range argRules(w, testPid) {
		check(r.call)
	}
}
