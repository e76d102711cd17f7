package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// TestSessions: each connection has a process of its own, which does not reach the
// others; a reload is for later ones.
func TestSessions(t *testing.T) {
	motd := filepath.Join(t.TempDir(), "motd")
	write := func(text string) {
		if err := os.WriteFile(motd, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-greeting", motd)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, address := bufio.NewScanner(log), ""
	for address == "" && lines.Scan() {
		if m := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	go io.Copy(io.Discard, log)
	say := func(want string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		r := bufio.NewReader(conn)
		if got, err := r.ReadString('\n'); got != want {
			t.Errorf("greeted with %q, %v", got, err)
		}
		return conn, r
	}
	var conns []net.Conn
	for i := range 4 {
		conn, r := say("first\n")
		fmt.Fprintf(conn, "line %d\n", i)
		if got, err := r.ReadString('\n'); got != fmt.Sprintf("line %d\n", i) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
		conns = append(conns, conn)
	}
	if n := len(strings.Fields(children(cmd.Process.Pid))); n != 4 {
		t.Errorf("%d processes for 4 connections", n)
	}
	write("second\n")
	cmd.Process.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(deadline)
		got, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if got == "second\n" {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("after the reload greeted with %q, %v", got, err)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	for _, conn := range conns {
		if _, err := conn.Read(make([]byte, 1)); os.IsTimeout(err) {
			t.Errorf("a session lives: %v", err)
		}
		conn.Close()
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// children returns the ids of the children of a process.
func children(pid int) (list string) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		list += string(text) + " "
	}
	return list
}
