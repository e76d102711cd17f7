package privsep

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Daemons whose parent is a process of its own, in Main.
var (
	wholeDaemon  = register(Daemon{Name: "whole", Roles: []Role{{Name: "web", Run: web}}, Prepare: adopt, Reload: reload})
	simpleDaemon = register(Daemon{Name: "simple", Roles: []Role{{Name: "web", Run: web}}, Prepare: adopt})

	_ = registerMiddle("whole", func() int { manage(); wholeDaemon.Main(); return 99 })
	_ = registerMiddle("simple", func() int { manage(); simpleDaemon.Main(); return 99 })
)

// manage does what a service manager can and the test cannot: it knows the
// process's id in time.
func manage() {
	if os.Getenv("LISTEN_PID") == "self" {
		os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	}
}

// adopt is a Prepare that gives the role all listeners.
func adopt(_ context.Context, p *Proc) error {
	if text := os.Getenv("PRIVSEP_TEST_FAIL"); text != "" {
		return errors.New(text)
	}
	var names []string
	for name, files := range p.Listeners() {
		for i, f := range files {
			key := fmt.Sprint(name, i)
			names = append(names, key)
			p.AddFile("web", key, f)
		}
	}
	slices.Sort(names)
	fmt.Printf("listeners %q\n", names)
	return p.Configure("web", []byte(strings.Join(names, " ")))
}

func reload(context.Context, *Proc) error { return errors.New("not this time") }

// An answer is what web says to who connects.
type answer struct {
	Listeners, Environ []string
}

// web accepts on all listeners.
func web(ctx context.Context, p *Proc) error {
	names := strings.Fields(string(p.Config()))
	for _, name := range names {
		l, err := net.FileListener(p.File(name))
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				json.NewEncoder(c).Encode(answer{names, os.Environ()})
				c.Close()
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// A whole is such a process as the test sees it.
type whole struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    bytes.Buffer
	notify *net.UnixConn
}

// startWhole starts a middle process with a socket for what it notifies.
func startWhole(t *testing.T, name string, files []*os.File, env ...string) *whole {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w := &whole{t: t, notify: conn}
	w.cmd = middle(t, name, append(env, "NOTIFY_SOCKET="+socket, "PRIVSEP_TEST_SECRET=x")...)
	w.cmd.ExtraFiles = files
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.out
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// says returns the next notification.
func (w *whole) says() string {
	w.t.Helper()
	w.notify.SetReadDeadline(time.Now().Add(limit))
	buf := make([]byte, 1<<10)
	n, err := w.notify.Read(buf)
	if err != nil {
		w.cmd.Process.Kill()
		w.cmd.Wait()
		w.t.Fatalf("%v\n%s", err, w.out.String())
	}
	return string(buf[:n])
}

func (w *whole) signal(sig syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(sig); err != nil {
		w.t.Fatal(err)
	}
}

// ends waits for the exit status and returns what was printed.
func (w *whole) ends(status int) string {
	w.t.Helper()
	w.cmd.Wait()
	if got := w.cmd.ProcessState.ExitCode(); got != status {
		w.t.Errorf("%v instead of exit status %d\n%s", w.cmd.ProcessState, status, w.out.String())
	}
	return w.out.String()
}

// listener returns a listening socket as a service manager has it, and its address.
func listener(t *testing.T) (*os.File, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, name
}

// TestServiceManager: sockets are adopted and reach the role, the manager learns
// when the daemon is ready, reloads and ends, and none of that is in a child's
// environment.
func TestServiceManager(t *testing.T) {
	var files []*os.File
	var addrs []string
	for range 3 {
		f, addr := listener(t)
		files, addrs = append(files, f), append(addrs, addr)
	}
	w := startWhole(t, "whole", files, "LISTEN_PID=self", "LISTEN_FDS=3", "LISTEN_FDNAMES=http::http")
	if got := w.says(); got != "READY=1" {
		t.Errorf("notified %q", got)
	}
	for _, addr := range addrs {
		c, err := net.Dial("unix", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(limit))
		var a answer
		if err := json.NewDecoder(c).Decode(&a); err != nil {
			t.Error(err)
		}
		c.Close()
		if !slices.Equal(a.Listeners, []string{"http0", "http1", "unknown0"}) || len(a.Environ) != 1 || !strings.HasPrefix(a.Environ[0], "GORACE=") {
			t.Errorf("the child has %+v", a)
		}
	}
	for range 2 {
		before := monotonic()
		w.signal(syscall.SIGHUP)
		var at int64
		got := w.says()
		if n, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &at); n != 1 || at < before || at > monotonic() {
			t.Errorf("notified %q, %v", got, err)
		}
		if got := w.says(); got != "READY=1" {
			t.Errorf("notified %q", got)
		}
	}
	w.signal(syscall.SIGTERM)
	if got := w.says(); got != "STOPPING=1" {
		t.Errorf("notified %q", got)
	}
	if out := w.ends(0); strings.Count(out, "not this time") != 2 {
		t.Errorf("printed %q", out)
	}
}

// TestForeignListeners: what is meant for another process is not adopted.
func TestForeignListeners(t *testing.T) {
	for _, env := range [][]string{
		{"LISTEN_PID=1", "LISTEN_FDS=1"},
		{"LISTEN_FDS=1"},
		{"LISTEN_PID=self", "LISTEN_FDS=-1"},
		{"LISTEN_PID=self", "LISTEN_FDS=x"},
		{"LISTEN_PID=self"},
	} {
		f, _ := listener(t)
		w := startWhole(t, "simple", []*os.File{f}, env...)
		w.says()
		w.signal(syscall.SIGTERM)
		if out := w.ends(0); out != "listeners []\n" {
			t.Errorf("%q: printed %q", env, out)
		}
	}
}

// TestMainSignals: those that end a daemon end it well.
func TestMainSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		w := startWhole(t, "simple", nil)
		w.says()
		w.signal(sig)
		if got := w.says(); got != "STOPPING=1" {
			t.Errorf("%v: notified %q", sig, got)
		}
		if out := w.ends(0); out != "listeners []\n" {
			t.Errorf("%v: printed %q", sig, out)
		}
	}
}

// TestMainFails: an error is printed, and the status is 1.
func TestMainFails(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"PRIVSEP_TEST_FAIL=nothing to prepare", "simple: privsep: prepare: nothing to prepare\n"},
		{envRole + "=another/web/0", "simple: " + envRole + ` is "another/web/0": ` + ErrNotChild.Error() + "\n"},
	} {
		w := startWhole(t, "simple", nil, c.env)
		if out := w.ends(1); out != c.want {
			t.Errorf("%s: printed %q", c.env, out)
		}
	}
}

// TestNobodyNotified: a service manager that is not there, or not to be reached,
// keeps no daemon from running.
func TestNobodyNotified(t *testing.T) {
	for _, socket := range []string{"/nonexistent/notify", "vsock:2:1234", "@nobody is there"} {
		cmd := middle(t, "simple", "NOTIFY_SOCKET="+socket)
		out, in := deathPipe(t)
		cmd.Stderr = in
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.Contains(line, "NOTIFY_SOCKET") {
			t.Errorf("%s: printed %q, %v", socket, line, err)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", socket, err)
		}
		out.Close()
	}
}

// TestWatchdog: the service manager is told that all is well, as long as all
// children answer.
func TestWatchdog(t *testing.T) {
	w := startWhole(t, "watched", nil, "WATCHDOG_USEC=1000000")
	for _, want := range []string{"STATUS=it runs", "WATCHDOG=1", "WATCHDOG=1"} {
		got := w.says()
		for got != want && (got == "READY=1" || got == "WATCHDOG=1") {
			got = w.says()
		}
		if got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	w.signal(syscall.SIGUSR1) // stops the child
	for stopped := false; !stopped; {
		got := w.says()
		stopped = got == "STATUS=it does not answer"
		if !stopped && got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	w.signal(syscall.SIGTERM)
	for got := ""; got != "STOPPING=1"; {
		if got = w.says(); got == "WATCHDOG=1" {
			t.Errorf("%q although the child does not answer", got)
		}
	}
	w.ends(1)
}

// doesNotAnswer is the log of a watched daemon: it tells the service manager what is
// in it.
type doesNotAnswer struct{ slog.Handler }

var watchedProc atomic.Pointer[Proc]

func (doesNotAnswer) Enabled(context.Context, slog.Level) bool { return true }

func (doesNotAnswer) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "does not answer") {
		watchedProc.Load().Notify("STATUS=it does not answer")
	}
	return nil
}

var watchedDaemon = register(Daemon{Name: "watched", Grace: 200 * time.Millisecond, Logger: slog.New(doesNotAnswer{slog.DiscardHandler}),
	Roles: []Role{{Name: "a", Run: witness}},
	Parent: func(ctx context.Context, p *Proc) error {
		watchedProc.Store(p)
		p.Notify("STATUS=it runs")
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGUSR1)
		select {
		case <-stop:
		case <-ctx.Done():
			return nil
		}
		if err := syscall.Kill(p.Status()[1].PID, syscall.SIGSTOP); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}})

var _ = registerMiddle("watched", func() int { watchedDaemon.Main(); return 0 })

// storingDaemon finds a listener by its name, and has a file kept.
var storingDaemon = register(Daemon{Name: "storing", Roles: []Role{{Name: "a", Run: witness}},
	Prepare: func(_ context.Context, p *Proc) error {
		l, err := p.Listener("web")
		if err != nil {
			return err
		}
		defer l.Close()
		fmt.Println("listens on", l.Addr())
		_, err = p.Listener("none")
		fmt.Println(err)
		fmt.Println(p.StoreFile("a:b", os.Stdin))
		return p.StoreFile("state", os.Stdin)
	}})

var _ = registerMiddle("storing", func() int { manage(); storingDaemon.Main(); return 0 })

// TestStoreFile: the service manager is given a descriptor to keep, and sockets are
// found by name.
func TestStoreFile(t *testing.T) {
	f, addr := listener(t)
	w := startWhole(t, "storing", []*os.File{f}, "LISTEN_PID=self", "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
	buf, oob := make([]byte, 100), make([]byte, 100)
	w.notify.SetReadDeadline(time.Now().Add(limit))
	n, oobn, _, _, err := w.notify.ReadMsgUnix(buf, oob)
	if err != nil {
		w.cmd.Process.Kill()
		t.Fatal(err, w.cmd.Wait(), w.out.String())
	}
	messages, perr := syscall.ParseSocketControlMessage(oob[:oobn])
	if perr != nil || string(buf[:n]) != "FDSTORE=1\nFDNAME=state" || len(messages) != 1 {
		t.Fatalf("notified %q, %d control messages, %v", buf[:n], len(messages), perr)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	syscall.Close(fds[0])
	if got := w.says(); got != "READY=1" {
		t.Errorf("notified %q", got)
	}
	w.signal(syscall.SIGTERM)
	want := "listens on " + addr + "\nlistener none: file does not exist\nprivsep: FDNAME \"a:b\": invalid argument\n"
	if out := w.ends(0); out != want {
		t.Errorf("printed %q", out)
	}
}
