package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"
)

// locked runs f on n threads that exist at the same time and existed before
// enter was called on another one, and returns the distinct answers.
func locked(n int, enter func() error, f func() error) (map[string]int, error) {
	var started, done sync.WaitGroup
	release := make(chan struct{})
	answers := make(chan string, n)
	for range n {
		started.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-release
			answers <- describe(f())
		})
	}
	started.Wait()
	if err := enter(); err != nil {
		return nil, err
	}
	close(release)
	done.Wait()
	close(answers)
	m := map[string]int{}
	for a := range answers {
		m[a]++
	}
	return m, nil
}

// threadsChild shows its threads to the test: it enters, says so, and waits for
// the end of its input while they all still live.
func threadsChild(p Policy) error {
	_, err := locked(12, func() error {
		if _, err := Enter(p); err != nil {
			return err
		}
		fmt.Println(os.Getpid())
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}, func() error { return nil })
	return err
}

// TestThreads: the same filter and no_new_privs on all threads, seen from outside.
func TestThreads(t *testing.T) {
	needFilter(t)
	for name, p := range map[string]Policy{
		"promises": {Promises: "stdio rpath"},
		"paths":    {Paths: []Path{{"/tmp", "r"}}},
	} {
		t.Run(name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, cred *syscall.Credential) {
				cmd := command(t, "threads", p, cred, "/")
				stdin, err := cmd.StdinPipe()
				testutil.Must(t, err)
				stdout, err := cmd.StdoutPipe()
				testutil.Must(t, err)
				testutil.Must(t, cmd.Start())
				pid, err := readLine(stdout)
				if err != nil {
					t.Errorf("child said %q: %v", pid, err)
				}
				seen := map[string]int{}
				tasks, err := filepath.Glob("/proc/" + pid + "/task/*/status")
				testutil.Must(t, err)
				for _, name := range tasks {
					status, err := os.ReadFile(name)
					testutil.Must(t, err)
					var lines []string
					for line := range strings.Lines(string(status)) {
						if field, _, _ := strings.Cut(line, ":"); strings.HasPrefix(field, "Seccomp") || field == "NoNewPrivs" {
							lines = append(lines, strings.Join(strings.Fields(line), " "))
						}
					}
					seen[strings.Join(lines, ", ")]++
				}
				stdin.Close()
				testutil.Check(t, cmd.Wait())
				if len(tasks) < 12 || len(seen) != 1 {
					t.Fatalf("%d threads, %v", len(tasks), seen)
				}
				for s := range seen {
					if s != "NoNewPrivs: 1, Seccomp: 2, Seccomp_filters: 1" {
						t.Error(s)
					}
				}
			})
		})
	}
}

// landlockChild holds a directory outside its paths, enters, and reports what
// its threads can open.
func landlockChild(p Policy) error {
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	result := map[string]map[string]int{}
	enter := func() error { _, err := Enter(p); return err }
	for _, row := range []struct {
		name string
		open func() error
	}{
		{"inside", func() error { _, err := os.ReadDir("."); return err }},
		{"outside", func() error { _, err := os.ReadFile("/etc/passwd"); return err }},
		{"held directory", func() error {
			fd, err := syscall.Openat(int(root.Fd()), "etc/passwd", syscall.O_RDONLY, 0)
			if err == nil {
				err = errors.Join(syscall.Close(fd))
			}
			return err
		}},
	} {
		if result[row.name], err = locked(12, enter, row.open); err != nil {
			return err
		}
		enter = func() error { return nil }
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// TestLandlockThreads: on every thread, what is allowed works, and the rest
// fails even through a directory that was open before.
func TestLandlockThreads(t *testing.T) {
	needLandlock(t, 1)
	asUsers(t, func(t *testing.T, cred *syscall.Credential) {
		dir := tempDir(t)
		p := Policy{Promises: "stdio rpath", Paths: []Path{{dir, "r"}}}
		out, err := run(t, "landlock", p, cred, dir)
		want := `{"held directory":{"EACCES":12},"inside":{"ok":12},"outside":{"EACCES":12}}`
		if out != want || err != nil {
			t.Errorf("%v: %s, want %s", err, out, want)
		}
	})
}
