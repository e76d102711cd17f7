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
		if os.Getenv("LISTEN_FDS") != "" { // a service manager knows the process's id in time
			os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
		}
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
	address := listens(log)
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
	if n := len(strings.Fields(children(cmd.Process.Pid))); n != 4+1 {
		t.Errorf("%d processes for 4 connections and the starter", n)
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

// listens returns the address that the daemon logs.
func listens(log io.Reader) (address string) {
	lines := bufio.NewScanner(log)
	for address == "" && lines.Scan() {
		if m := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	go io.Copy(io.Discard, log)
	return address
}

// TestHotRestart: the service manager keeps the socket, so that who connects while
// the daemon is restarted is served by the next one; and it is told that all is well.
func TestHotRestart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	start := func(stored *os.File) (*exec.Cmd, string) {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), programEnv+"=1", "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=200000")
		if stored != nil {
			cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=listener")
			cmd.ExtraFiles = []*os.File{stored}
		}
		log, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return cmd, listens(log)
	}
	// told waits until the service manager was told this, and returns the file that it got.
	told := func(want string) *os.File {
		t.Helper()
		for {
			buf, oob := make([]byte, 1000), make([]byte, 100)
			notify.SetReadDeadline(time.Now().Add(20 * time.Second))
			n, oobn, _, _, err := notify.ReadMsgUnix(buf, oob)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if !strings.HasPrefix(string(buf[:n]), want) {
				continue
			}
			if messages, _ := syscall.ParseSocketControlMessage(oob[:oobn]); len(messages) == 1 {
				if fds, _ := syscall.ParseUnixRights(&messages[0]); len(fds) == 1 {
					return os.NewFile(uintptr(fds[0]), "stored")
				}
			}
			return nil
		}
	}
	stop := func(cmd *exec.Cmd) {
		t.Helper()
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	first, address := start(nil)
	stored := told("FDSTORE=1")
	if stored == nil {
		t.Fatal("no socket was stored")
	}
	defer stored.Close()
	told("WATCHDOG=1")
	stop(first)
	conn, err := net.Dial("tcp", address) // nobody is there to accept it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	second, again := start(stored)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if got, err := bufio.NewReader(conn).ReadString('\n'); got != "hello\n" || again != address {
		t.Errorf("%q, %v, from %s", got, err, again)
	}
	told("WATCHDOG=1")
	stop(second)
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
