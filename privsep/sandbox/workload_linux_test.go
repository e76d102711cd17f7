package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// TestWorkload is the guard for each new version of Go: what an ordinary
// program makes the runtime do has to fit into the promise "stdio". Under Debug a
// missing call leaves a traceback.
func TestWorkload(t *testing.T) {
	needFilter(t)
	promises := "stdio"
	if withCgo {
		promises = "stdio rpath" // the C library reads the number of CPUs when it likes to
	}
	none := []Path{}
	for name, p := range map[string]Policy{
		"trap":  {Promises: promises, Paths: none, Debug: true},
		"eperm": {Promises: "stdio sendfd recvfd"},
	} {
		t.Run(name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				out, err := run(t, "workload", p, cred, tempDir(t))
				if out != "ok" || err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		})
	}
}

// A prepared workload holds what has to be opened before.
type prepared struct {
	file, dir *os.File
	berlin    *time.Location
	a, b      *imsg.Conn
}

func workloadChild(p Policy) error {
	var l prepared
	var err error
	if l.file, err = os.Create("file"); err != nil {
		return err
	}
	if l.dir, err = os.Open("."); err != nil {
		return err
	}
	if l.berlin, err = time.LoadLocation("Europe/Berlin"); err != nil {
		l.berlin = time.FixedZone("CET", 3600) // no zone files here
	}
	_ = time.Now().String() // reads the local zone
	if l.a, l.b, err = imsg.Pair(&imsg.Config{AllowFDPass: true}); err != nil {
		return err
	}
	if _, err := Enter(p); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"threads", l.threads}, {"collector", l.collector}, {"timers", l.timers}, {"pipes", l.pipes},
		{"messages", l.messages}, {"files", l.files}, {"signals", l.signals}, {"odds", l.odds}, {"profile", l.profile},
	} {
		if part.name == "profile" && p.Debug {
			continue // it reads /proc/self/maps, and can do without
		}
		if err := part.do(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Println("ok")
	return nil
}

// threads starts many that exist at the same time, and lets half of them die.
func (prepared) threads() error {
	var started, done sync.WaitGroup
	release := make(chan struct{})
	for i := range 16 {
		started.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-release
			if i%2 == 0 {
				runtime.UnlockOSThread()
			}
		})
	}
	started.Wait()
	close(release)
	done.Wait()
	return nil
}

// collector preempts loops that never call anything, and gives memory back.
func (prepared) collector() error {
	var stop atomic.Bool
	var spinners sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		spinners.Go(func() {
			for n := uint64(1); !stop.Load(); {
				for range 1 << 20 {
					n ^= n << 1
				}
			}
		})
	}
	var keep [][]byte
	for range 64 {
		keep = append(keep, make([]byte, 1<<20))
	}
	runtime.GC()
	runtime.KeepAlive(keep)
	runtime.GC()
	debug.FreeOSMemory()
	stop.Store(true)
	spinners.Wait()
	return nil
}

func (prepared) timers() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	fired := make(chan struct{})
	time.AfterFunc(time.Microsecond, func() { close(fired) })
	<-fired
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	<-ticker.C
	return nil
}

// pipes uses the poller, with a log at the other end.
func (prepared) pipes() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	lines := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		lines <- string(all)
	}()
	slog.New(slog.NewTextHandler(w, nil)).Info("in the sandbox", "pid", os.Getpid())
	w.Close()
	if text := <-lines; !bytes.Contains([]byte(text), []byte("in the sandbox")) {
		return fmt.Errorf("log: %q", text)
	}
	r2, w2, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r2.Close()
	defer w2.Close()
	if err := r2.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	if _, err := r2.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("deadline: %v", err)
	}
	return nil
}

// messages passes a descriptor over a channel that was open, a new channel over
// that, and a descriptor over the new one.
func (l prepared) messages() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cfg := &imsg.Config{AllowFDPass: true}
	c, d, err := imsg.Pair(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := d.File()
	if err != nil {
		return err
	}
	d.Close()
	got, err := pass(ctx, l.a, l.b, f)
	f.Close()
	if err != nil {
		return err
	}
	e, err := imsg.FileConn(got, cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	got, err = pass(ctx, c, e, w)
	w.Close()
	if err != nil {
		return err
	}
	if _, err := got.WriteString("through"); err != nil {
		return err
	}
	got.Close()
	if text, err := io.ReadAll(r); string(text) != "through" {
		return fmt.Errorf("passed pipe: %q, %v", text, err)
	}
	return nil
}

func pass(ctx context.Context, from, to *imsg.Conn, f *os.File) (*os.File, error) {
	sent := make(chan error, 1)
	go func() { sent <- from.Send(ctx, imsg.Header{Type: 1}, f, []byte("file")) }()
	m, err := to.Receive(ctx)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := <-sent; err != nil {
		return nil, err
	}
	got := m.TakeFile()
	if got == nil {
		return nil, errors.New("no file arrived")
	}
	return got, nil
}

// files uses what is open, including the kernel's own copying.
func (l prepared) files() error {
	if _, err := l.file.WriteString("text"); err != nil {
		return err
	}
	for _, f := range []func() error{
		l.file.Sync,
		func() error { return l.file.Truncate(4) },
		func() error { _, err := l.file.Stat(); return err },
		func() error { _, err := l.file.Seek(0, io.SeekStart); return err },
		func() error { _, err := l.dir.Readdirnames(-1); return err },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, l.file)
	w.Close()
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	mem := os.NewFile(uintptr(fd), "copy")
	defer mem.Close()
	if n, err := io.Copy(mem, r); n != 4 || err != nil {
		return fmt.Errorf("copied %d: %w", n, err)
	}
	return nil
}

func (prepared) signals() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		return err
	}
	<-c
	return recovered()
}

// recovered takes a fault, which the runtime turns into a panic.
func recovered() (err error) {
	defer func() {
		if recover() == nil {
			err = errors.New("no panic")
		}
	}()
	var p *int
	*p++
	return nil
}

func (prepared) profile() error {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		return err
	}
	pprof.StopCPUProfile()
	return pprof.WriteHeapProfile(io.Discard)
}

func (l prepared) odds() error {
	runtime.SetDefaultGOMAXPROCS() // looks at the CPUs and the cgroup again
	if s := time.Unix(0, 0).In(l.berlin).Format("15:04"); s != "01:00" {
		return fmt.Errorf("zone: %s", s)
	}
	if _, err := rand.Read(make([]byte, 32)); err != nil {
		return err
	}
	var rlimit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_NOFILE, &rlimit)
}
