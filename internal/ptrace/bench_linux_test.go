//go:build amd64 || arm64

package ptrace

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// tripsRole makes round trips of so many bytes with a child, and writes the
// nanoseconds that one takes to descriptor 3. It makes the calls without the
// runtime, whose monitor would wake up all the time: each of its calls counts.
func tripsRole(args []string) {
	size, n := must(strconv.Atoi(args[0])), must(strconv.Atoi(args[1]))
	a, b := pair()
	p := spawn("echo "+args[0], b)
	unix.Close(b)
	buf := make([]byte, size)
	var begin time.Time
	for i := range n + 10 {
		if i == 10 {
			begin = time.Now()
		}
		rawWrite(a, buf)
		rawRead(a, buf)
	}
	must(fmt.Fprint(os.NewFile(3, "result"), time.Since(begin).Nanoseconds()/int64(n)))
	unix.Close(a)
	wait(p)
}

// echoRole sends back what comes.
func echoRole(args []string) {
	p := make([]byte, must(strconv.Atoi(args[0])))
	for rawRead(3, p) {
		rawWrite(3, p)
	}
}

func rawWrite(fd int, p []byte) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno != 0 || int(n) != len(p) {
		check(fmt.Errorf("write: %d, %w", n, errno))
	}
}

// rawRead fills p; false means that there is no more.
func rawRead(fd int, p []byte) bool {
	for len(p) > 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if errno == unix.EINTR {
			continue
		} else if errno != 0 {
			check(errno)
		}
		if n == 0 {
			return false
		}
		p = p[n:]
	}
	return true
}

// straceArgs are those with which imsgctl decode can read what strace prints.
var straceArgs = []string{"-f", "-qq", "-z", "--seccomp-bpf", "-ttt", "-yy", "-xx", "-s", "70000", "-e", "signal=none",
	"-e", "trace=read,write,readv,writev,sendmsg,recvmsg,sendto,recvfrom,sendmmsg,recvmmsg", "-o", "/dev/null"}

// BenchmarkTrips compares round trips between two processes that nobody
// traces, that are traced, and that strace traces.
func BenchmarkTrips(b *testing.B) {
	strace, _ := exec.LookPath("strace")
	for _, size := range []int{64, 16 << 10} {
		for _, how := range []string{"untraced", "traced", "strace"} {
			b.Run(fmt.Sprintf("%d/%s", size, how), func(b *testing.B) {
				if how == "strace" && strace == "" {
					b.Skip("strace is not installed")
				}
				r, w, err := os.Pipe()
				testutil.Must(b, err)
				defer r.Close()
				c := role(fmt.Sprintf("trips %d %d", size, b.N), w)
				switch how {
				case "traced":
					var status Status
					status, err = Run(context.Background(), c, &Config{})
					if err == nil && status != (Status{}) {
						err = fmt.Errorf("%v", status)
					}
				case "strace":
					c.Path, c.Args = strace, append(append([]string{"strace"}, straceArgs...), c.Args...)
					fallthrough
				default:
					cmd := &exec.Cmd{Path: c.Path, Args: c.Args, Env: c.Env, ExtraFiles: []*os.File{w}, Stderr: os.Stderr}
					err = cmd.Run()
				}
				w.Close()
				testutil.Must(b, err)
				var ns float64
				if _, err := fmt.Fscan(r, &ns); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(ns, "ns/op")
			})
		}
	}
}
