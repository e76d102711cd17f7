package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the program too: TestMain runs it if the environment says so,
// and its children come by here.
const programEnv = "EXAMPLE_PROGRAM"

func TestMain(m *testing.M) {
	daemon.RunChild()
	if os.Getenv(programEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestMesh: an hour is within the parent's policy, two days are not.
func TestMesh(t *testing.T) {
	uids := []int{os.Getuid()}
	if uids[0] == 0 {
		uids = append(uids, 65534) // and as an ordinary user
	}
	for _, uid := range uids {
		for _, r := range []struct {
			ahead time.Duration
			code  int
			want  string
		}{
			{time.Hour, 0, "the clock is to be set by 1h0m0s\n"},
			{48 * time.Hour, 1, `not by "48h0m0s"`},
		} {
			t.Run(fmt.Sprintf("uid %d, %v", uid, r.ahead), func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-server", serve(t, r.ahead))
				cmd.Env = append(os.Environ(), programEnv+"=1")
				cmd.Dir = "/"
				if os.Getuid() != uid {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
				}
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				err := cmd.Run()
				if got := out.String(); cmd.ProcessState.ExitCode() != r.code || !strings.Contains(got, r.want) || r.code == 0 && got != r.want {
					t.Errorf("%v, printed %q; want %q", err, got, r.want)
				}
			})
		}
	}
}

// serve is a time server, so far ahead.
func serve(t *testing.T, ahead time.Duration) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 32)
		for {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(fmt.Appendln(nil, time.Now().Add(ahead).Unix()), from)
		}
	}()
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	return "localhost:" + port
}
