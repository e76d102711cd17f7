package relay

import (
	"fmt"
	"os"
	"path/filepath"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
)

// Peer returns who is at the other end of c, as far as that can be known.
func Peer(c *imsg.Conn) capture.Endpoint {
	cred, err := c.PeerCred()
	if err != nil {
		return capture.Endpoint{}
	}
	return ProcessOf(cred.PID)
}

// ProcessOf returns what is known of the process pid.
func ProcessOf(pid int) capture.Endpoint { return capture.Endpoint{PID: pid, Exe: program(pid)} }

// Process names a process, for example "bgpctl[123]".
func Process(e capture.Endpoint) string {
	name := "process"
	if e.Exe != "" {
		name = filepath.Base(e.Exe)
	}
	if e.PID == 0 {
		return name + "[?]"
	}
	return fmt.Sprintf("%s[%d]", name, e.PID)
}

// DescribeFile tells what the open file f is. It stays the caller's, in the mode it
// has.
func DescribeFile(f *os.File) (d capture.File) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { d = describe(int(fd)) })
	}
	return d
}
