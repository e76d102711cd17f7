package relay_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/relay"
	"example.org/imsg/internal/testutil"
)

// moverVar makes a second run of this binary take the place of a socket, until
// SIGTERM.
const moverVar = "IMSG_TEST_MOVE"

func init() {
	child = func() {
		path := os.Getenv(moverVar)
		if path == "" {
			return
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		r := relay.New(relay.Config{Dialect: imsg.Auto, Report: func(err error) { fmt.Println(err) }})
		if err := r.ServeInPlace(ctx, path, func(*relay.Move) { fmt.Println("ready") }); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// needMove skips a test where no names can be exchanged.
func needMove(t *testing.T) {
	t.Helper()
	d := startDaemon(t, socketPath(t))
	defer d.l.Close()
	m, err := relay.Take(bounded(t), d.path, nil)
	if errors.Is(err, relay.ErrMoveUnsupported) {
		t.Skip(err)
	}
	testutil.Must(t, err)
	testutil.Must(t, m.GiveBack())
}

// A mover is a process that stands in a socket's place.
type mover struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

func startMover(t *testing.T, path string) *mover {
	t.Helper()
	m := &mover{t: t, cmd: exec.Command(os.Args[0])}
	m.cmd.Env = append(os.Environ(), moverVar+"="+path)
	out, err := m.cmd.StdoutPipe()
	testutil.Must(t, err)
	m.out = bufio.NewReader(out)
	testutil.Must(t, m.cmd.Start())
	t.Cleanup(func() { m.cmd.Process.Kill(); m.cmd.Wait() })
	m.says("ready")
	return m
}

func (m *mover) says(want string) {
	m.t.Helper()
	line, err := m.out.ReadString('\n')
	if !strings.Contains(line, want) {
		m.t.Fatalf("%q, %v, want %q", line, err, want)
	}
}

// end ends the process, with SIGTERM so that it gives the place back.
func (m *mover) end(sig syscall.Signal) {
	m.t.Helper()
	m.cmd.Process.Signal(sig)
	err := m.cmd.Wait()
	if sig == syscall.SIGTERM && err != nil {
		rest, _ := io.ReadAll(m.out)
		m.t.Fatalf("%v: %s", err, rest)
	}
}

// A daemon answers 1 with 2 on a socket.
type daemon struct {
	t    *testing.T
	path string
	l    *net.UnixListener
	id   fs.FileInfo
}

func startDaemon(t *testing.T, path string) *daemon {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	testutil.Must(t, err)
	l.SetUnlinkOnClose(false)
	testutil.Must(t, os.Chmod(path, 0o640))
	d := &daemon{t: t, path: path, l: l, id: lstat(t, path)}
	go func() {
		for {
			nc, err := l.AcceptUnix()
			if err != nil {
				return
			}
			f, _ := nc.File()
			nc.Close()
			c, err := imsg.FileConn(f, nil)
			f.Close()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for m, err := range c.Each(context.Background()) {
					if err != nil || c.Send(context.Background(), imsg.Header{Type: m.Type() + 1}, nil) != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return d
}

func lstat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	testutil.Must(t, err)
	return info
}

// ask fails the test unless the daemon answers at its path.
func ask(t *testing.T, path string) {
	t.Helper()
	c, err := imsg.Dial(bounded(t), path, nil)
	testutil.Must(t, err)
	defer c.Close()
	testutil.Must(t, c.Send(bounded(t), imsg.Header{Type: 1}, nil))
	m := testutil.Receive(t, c)
	defer m.Close()
	if m.Type() != 2 {
		t.Errorf("type %d", m.Type())
	}
}

// back fails the test unless the daemon's socket is in its place, with nothing
// left beside it.
func (d *daemon) back() {
	d.t.Helper()
	if !os.SameFile(lstat(d.t, d.path), d.id) {
		d.t.Error("another socket is in the place")
	}
	clean(d.t, d.path)
	ask(d.t, d.path)
}

func clean(t *testing.T, path string) {
	t.Helper()
	all, _ := filepath.Glob(path + ".*")
	if len(all) > 0 {
		t.Errorf("left: %q", all)
	}
}

// taken fails the test unless a relay is in the place.
func (d *daemon) taken() {
	d.t.Helper()
	if os.SameFile(lstat(d.t, d.path), d.id) {
		d.t.Error("the daemon's socket is in its place")
	}
	if got := lstat(d.t, d.path).Mode(); got != fs.ModeSocket|0o640 {
		d.t.Errorf("mode %v", got)
	}
	ask(d.t, d.path)
}

func socketPath(t *testing.T) string { return filepath.Join(shortDir(t), "s") }

func TestMoveAndBack(t *testing.T) {
	needMove(t)
	d := startDaemon(t, socketPath(t))
	m := startMover(t, d.path)
	d.taken()
	// A connection that the daemon had before goes on.
	_, err := relay.Take(bounded(t), d.path, nil)
	var busy *relay.BusyError
	if !errors.As(err, &busy) || busy.Leftover.PID != m.cmd.Process.Pid || !busy.Leftover.Alive {
		t.Errorf("a second one: %v", err)
	}
	left, err := relay.FindLeftover(d.path)
	if err != nil || left == nil || !left.Alive {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := relay.PutBack(d.path); !errors.As(err, &busy) {
		t.Errorf("put back what is in use: %v", err)
	}
	d.taken()
	// The daemon changes the mode of what it believes to be its own socket.
	testutil.Must(t, os.Chmod(d.path, 0o600))
	m.end(syscall.SIGTERM)
	d.back()
	if got := lstat(t, d.path).Mode().Perm(); got != 0o600 {
		t.Errorf("mode %v", got)
	}
}

// TestMoveSymlink takes the place of the socket that a symbolic link names.
func TestMoveSymlink(t *testing.T) {
	needMove(t)
	d := startDaemon(t, socketPath(t))
	link := d.path + "-link"
	testutil.Must(t, os.Symlink(d.path, link))
	m := startMover(t, link)
	d.taken()
	ask(t, link)
	m.end(syscall.SIGTERM)
	d.back()
}

// TestMoveKilled kills the process that stands in the place, and has the next
// one, or who puts right, find it.
func TestMoveKilled(t *testing.T) {
	needMove(t)
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("again=", again), func(t *testing.T) {
			d := startDaemon(t, socketPath(t))
			m := startMover(t, d.path)
			ask(t, d.path)
			m.end(syscall.SIGKILL)
			if _, err := net.Dial("unix", d.path); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("nobody should listen: %v", err)
			}
			left, err := relay.FindLeftover(d.path)
			if err != nil || left == nil || left.Alive || left.PID != m.cmd.Process.Pid {
				t.Fatalf("%+v, %v", left, err)
			}
			if again {
				m = startMover(t, d.path)
				d.taken()
				m.end(syscall.SIGTERM)
			} else {
				did, err := relay.PutBack(d.path)
				if err != nil || !strings.Contains(did, "put the daemon's socket back") {
					t.Errorf("%q, %v", did, err)
				}
			}
			d.back()
			if left, err := relay.FindLeftover(d.path); left != nil || err != nil {
				t.Errorf("%v, %v", left, err)
			}
		})
	}
}

// TestMoveKilledHalfway looks at every state that a kill can leave.
func TestMoveKilledHalfway(t *testing.T) {
	needMove(t)
	path := socketPath(t)
	note := func(text string) { testutil.Must(t, os.WriteFile(path+".imsgctl", []byte(text), 0o600)) }
	id := func(path string) string {
		st := lstat(t, path).Sys().(*syscall.Stat_t)
		return fmt.Sprint(st.Dev, " ", st.Ino)
	}
	dead := func(path string) { stale(t, path) }
	exchanged := func(d *daemon) { // ours is in the place, and dead
		testutil.Must(t, os.Rename(path, path+".moved"))
		dead(path)
		note("theirs " + id(path+".moved") + "\nours " + id(path) + "\n")
	}
	for _, test := range []struct {
		name  string
		state func(d *daemon)
		check func(d *daemon)
	}{
		{"an empty note", func(*daemon) { note("") }, (*daemon).back},
		{"half a note", func(*daemon) { note("theirs 5") }, (*daemon).back},
		{"before it listened", func(*daemon) { note("theirs " + id(path) + "\n") }, (*daemon).back},
		{"before its own inode was noted", func(*daemon) { dead(path + ".moved"); note("theirs " + id(path) + "\n") }, (*daemon).back},
		{"before the exchange", func(*daemon) {
			dead(path + ".moved")
			note("theirs " + id(path) + "\nours " + id(path+".moved") + "\n")
		}, (*daemon).back},
		{"after it", exchanged, (*daemon).back},
		{"after giving back", func(*daemon) {
			note("theirs " + id(path) + "\nours 1 2\n")
		}, (*daemon).back},
		{"the place was cleared, the daemon lives", func(d *daemon) { exchanged(d); os.Remove(path) }, (*daemon).back},
		{"the daemon has ended and removed the place", func(d *daemon) { exchanged(d); d.l.Close(); os.Remove(path) }, func(*daemon) {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a socket was put back: %v", err)
			}
			clean(t, path)
		}},
		{"the daemon has ended", func(d *daemon) { exchanged(d); d.l.Close() }, func(d *daemon) {
			if !os.SameFile(lstat(t, path), d.id) {
				t.Error("another socket is in the place")
			}
			clean(t, path)
		}},
		{"the daemon was started anew", func(d *daemon) {
			exchanged(d)
			d.l.Close()
			os.Remove(path)
			*d = *startDaemon(t, path)
		}, (*daemon).back},
		{"the daemon's socket is gone", func(d *daemon) { exchanged(d); d.l.Close(); os.Remove(path + ".moved") }, func(*daemon) {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("ours was left: %v", err)
			}
			clean(t, path)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			os.Remove(path)
			d := startDaemon(t, path)
			defer func() { d.l.Close(); os.Remove(path) }()
			test.state(d)
			if left, err := relay.FindLeftover(path); left == nil || left.Alive || err != nil {
				t.Errorf("%v, %v", left, err)
			}
			did, err := relay.PutBack(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(did)
			test.check(d)
		})
	}
}

// TestMoveNotOurs leaves alone what is not the relay's.
func TestMoveNotOurs(t *testing.T) {
	needMove(t)
	ctx := bounded(t)
	path := socketPath(t)
	fails := func(what, want string) {
		t.Helper()
		m, err := relay.Take(ctx, path, nil)
		if err == nil {
			m.GiveBack()
			t.Fatalf("%s: taken", what)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if _, err := os.Lstat(path + ".imsgctl"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the note is left: %v", what, err)
		}
	}
	fails("nothing", "no such file")
	testutil.Must(t, os.WriteFile(path, []byte("x"), 0o600))
	fails("a file", "no socket")
	testutil.Must(t, os.Remove(path))
	stale(t, path)
	fails("a stale one", "nobody listens")
	testutil.Must(t, os.Remove(path))
	d := startDaemon(t, path)
	testutil.Must(t, os.WriteFile(path+".moved", []byte("x"), 0o600))
	fails("a file at the other name", "no socket")
	testutil.Must(t, os.Remove(path+".moved"))
	testutil.Must(t, os.Symlink("/etc/passwd", path+".imsgctl"))
	if _, err := relay.Take(ctx, path, nil); err == nil {
		t.Error("a note that is a symbolic link")
	}
	testutil.Must(t, os.Remove(path+".imsgctl"))
	d.back()
	long := filepath.Join(filepath.Dir(path), strings.Repeat("x", 104-len(filepath.Dir(path))))
	e := startDaemon(t, long)
	if _, err := relay.Take(ctx, long, nil); err == nil || !strings.Contains(err.Error(), "limit 107") {
		t.Errorf("a long name: %v", err)
	}
	e.back()
}

// TestMoveLost tells when the daemon is not there any more, or has come back.
func TestMoveLost(t *testing.T) {
	needMove(t)
	ctx := bounded(t)
	for _, test := range []struct {
		name, want string
		happens    func(d *daemon)
	}{
		{"ended", "ended", func(d *daemon) { d.l.Close() }},
		{"removed its socket", "", func(d *daemon) { os.Remove(d.path) }},
		{"ended and removed its socket", "ended", func(d *daemon) { d.l.Close(); os.Remove(d.path) }},
		{"started anew", "ended", func(d *daemon) { d.l.Close(); os.Remove(d.path); *d = *startDaemon(d.t, d.path) }},
		{"made its socket anew", "anew", func(d *daemon) {
			os.Remove(d.path)
			old := d.l
			*d = *startDaemon(d.t, d.path)
			d.t.Cleanup(func() { old.Close() })
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := startDaemon(t, socketPath(t))
			m, err := relay.Take(ctx, d.path, nil)
			testutil.Must(t, err)
			if err := m.Lost(); err != nil {
				t.Errorf("lost at once: %v", err)
			}
			test.happens(d)
			if err := m.Lost(); fmt.Sprint(err) != "<nil>" && test.want == "" || err != nil && !strings.Contains(err.Error(), test.want) || err == nil && test.want != "" {
				t.Errorf("%v, want %q", err, test.want)
			}
			err = m.GiveBack()
			switch test.name {
			case "removed its socket", "started anew":
				testutil.Must(t, err)
				d.back()
			case "made its socket anew":
				if err == nil || !strings.Contains(err.Error(), "still in use") {
					t.Errorf("%v", err)
				}
				ask(t, d.path)
			default:
				testutil.Must(t, err)
				clean(t, d.path)
			}
		})
	}
}

// TestMoveDaemonRestarts ends the daemon, and starts it again, as often as the
// ways in which daemons do that.
func TestMoveDaemonRestarts(t *testing.T) {
	needMove(t)
	d := startDaemon(t, socketPath(t))
	m := startMover(t, d.path)
	for _, removes := range []bool{false, true} {
		d.taken()
		d.l.Close()
		if removes {
			os.Remove(d.path)
		}
		m.says("the daemon has ended: waiting for it")
		// What the daemon finds is its own socket, which nobody answers at.
		if _, err := net.Dial("unix", d.path); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) {
			t.Fatal(err)
		}
		clean(t, d.path)
		os.Remove(d.path)
		*d = *startDaemon(t, d.path)
		m.says("the daemon is back")
	}
	d.taken()
	// Without a pause in which it can be missed.
	os.Remove(d.path)
	d.l.Close()
	*d = *startDaemon(t, d.path)
	m.says("waiting for it")
	m.says("the daemon is back")
	d.taken()
	m.end(syscall.SIGTERM)
	d.back()
}
