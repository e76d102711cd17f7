package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/tmux"
)

// client returns a client of proto/tmux.
func (s *tmuxServer) client(t testing.TB, ctx context.Context) *tmux.Client {
	t.Helper()
	c, err := tmux.Dial(ctx, s.socket, &tmux.Config{Dir: s.dir, Env: []string{"PATH=/usr/bin:/bin"}})
	testutil.Must(t, err)
	return c
}

// alive fails the test if the server or its session is gone.
func (s *tmuxServer) alive(t testing.TB, when string) {
	t.Helper()
	if r := s.tmux(t, bounded(t), "", "has-session", "-t", "peer"); r.status != 0 {
		t.Fatalf("the server %s: %v", when, r)
	}
}

// pane returns the ID of the only pane of a new window that runs a program.
func (s *tmuxServer) pane(t testing.TB, ctx context.Context, command string) string {
	t.Helper()
	r := s.tmux(t, ctx, "", "new-window", "-d", "-P", "-F", "#{pane_id}", "-t", "peer:", command)
	if r.status != 0 {
		t.Fatalf("new-window: %v", r)
	}
	return strings.TrimSpace(r.stdout)
}

func TestTmuxClient(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		if c.Version() != s.version || c.Dialect() != s.dialect {
			t.Errorf("version %q, %v, want %q, %v", c.Version(), c.Dialect(), s.version, s.dialect)
		}
		// What Run says is what tmux says.
		for _, args := range [][]string{
			{"list-sessions"},
			{"list-windows", "-t", "peer", "-F", "#{window_name} #{window_width}"},
			{"display-message", "-p", "grüße;"},
			{"display-message", "-p", `back\;slash;`},
			{"has-session", "-t", "nobody"},
			{"no-such-command"},
			{"list-sessions", "-Y"},
		} {
			got, err := c.Run(ctx, args...)
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			quoted := slices.Clone(args)
			for i, a := range quoted {
				if rest, ok := strings.CutSuffix(a, ";"); ok {
					quoted[i] = rest + `\;`
				}
			}
			want := s.tmux(t, ctx, "", quoted...)
			if (result{string(got.Stdout), string(got.Stderr), got.Status}) != want {
				t.Errorf("%q: %q %q %d, tmux says %v", args, got.Stdout, got.Stderr, got.Status, want)
			}
			if err := got.Err(); (err == nil) != (want.status == 0) || err != nil && !strings.Contains(err.Error(), s.version) {
				t.Errorf("%q: error %v", args, err)
			}
		}
		if r, err := c.Run(ctx, "display-message", "-p", "a;"); err != nil || string(r.Stdout) != "a;\n" {
			t.Errorf("%q, %v", r.Stdout, err)
		}
		// Files only for those who say so.
		path := filepath.Join(s.dir, "file")
		if r, err := c.Run(ctx, "set-buffer", "-b", "b", "text"); err != nil || r.Status != 0 {
			t.Errorf("set-buffer: %v, %v", r.Err(), err)
		}
		if r, err := c.Run(ctx, "save-buffer", "-b", "b", path); err != nil || r.Status == 0 {
			t.Errorf("save-buffer without OpenFile: %+v, %v", r, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the file was made")
		}
		open, err := tmux.Dial(ctx, s.socket, &tmux.Config{OpenFile: os.OpenFile})
		testutil.Must(t, err)
		if r, err := open.Run(ctx, "save-buffer", "-b", "b", path); err != nil || r.Status != 0 {
			t.Errorf("save-buffer: %+v, %v", r, err)
		}
		if p, err := os.ReadFile(path); string(p) != "text" {
			t.Errorf("%q, %v", p, err)
		}
		// The output is limited.
		small, err := tmux.Dial(ctx, s.socket, &tmux.Config{MaxOutput: 100})
		testutil.Must(t, err)
		if _, err := small.Run(ctx, "list-keys"); !errors.Is(err, tmux.ErrOutputTooLarge) {
			t.Errorf("list-keys: %v", err)
		}
		s.alive(t, "afterwards")
	})
}

func TestTmuxErrors(t *testing.T) {
	s := startTmux(t, tmuxProgram(t, "", "")...)
	_, err := tmux.Dial(bounded(t), filepath.Join(s.dir, "none"), nil)
	if err == nil || !strings.Contains(err.Error(), "new-session") {
		t.Errorf("no server: %v", err)
	}
	c := s.client(t, bounded(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var e *tmux.Error
	if _, err := c.Run(ctx, "ls"); !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.Version != s.version {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := c.Run(bounded(t)); err == nil {
		t.Error("no command")
	}
	if _, err := c.Run(bounded(t), "display-message", "-p", "a\x00b"); err == nil {
		t.Error("NUL in an argument")
	}
	if _, err := c.Run(bounded(t), "set-buffer", strings.Repeat("x", 17000)); err == nil {
		t.Error("too long an argument")
	}
}

func TestTmuxList(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		var commands [][]string
		for i := range 1000 {
			commands = append(commands, []string{"display-message", "-p", fmt.Sprintf("%d;%d;", i, i)})
		}
		results, err := c.RunList(ctx, commands)
		if err != nil || len(results) != len(commands) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if want := fmt.Sprintf("%d;%d;\n", i, i); string(r.Stdout) != want || r.Err() != nil {
				t.Fatalf("result %d: %q, %v", i, r.Stdout, r.Err())
			}
		}
		// A failure ends the list; what a buffer prints has no newline at its end.
		results, err = c.RunList(ctx, [][]string{
			{"set-buffer", "-b", "x", "no newline"},
			{"show-buffer", "-b", "x"},
			{"list-windows", "-t", "peer", "-F", "#{window_name}"},
			{"kill-session", "-t", "nobody"},
			{"kill-server"},
		})
		if err != nil || len(results) != 5 {
			t.Fatalf("%d results, %v", len(results), err)
		}
		if string(results[0].Stdout)+"|"+string(results[1].Stdout)+"|"+string(results[2].Stdout) != "|no newline|win\n" {
			t.Errorf("%+v", results)
		}
		if r := results[3]; r.Status != 1 || !strings.Contains(string(r.Stderr), "nobody") {
			t.Errorf("%+v", r)
		}
		if r := results[4]; r.Status != tmux.NotRun || r.Err() == nil {
			t.Errorf("%+v", r)
		}
		// What a command runs may fail, and ends no list, however many messages it takes.
		commands[0] = []string{"if-shell", "-F", "1", "kill-session -t nobody"}
		results, err = c.RunList(ctx, commands)
		if err != nil || len(results) != len(commands) || string(results[999].Stdout) != "999;999;\n" {
			t.Errorf("%d results, the last is %+v, %v", len(results), results[len(results)-1], err)
		}
		// One that is not known keeps all from running.
		results, err = c.RunList(ctx, [][]string{{"display-message", "-p", "x"}, {"bogus"}})
		if err != nil || results[0].Status != 1 || results[1].Status != tmux.NotRun || !strings.Contains(string(results[0].Stderr), "bogus") {
			t.Errorf("%+v, %v", results, err)
		}
		s.alive(t, "afterwards")
	})
}

func TestTmuxBuffers(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		for _, n := range []int{1, 16363, 16364, 16365, 1 << 20} {
			data := make([]byte, n)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			testutil.Must(t, c.LoadBuffer(ctx, "b", bytes.NewReader(data)))
			var got bytes.Buffer
			testutil.Must(t, c.SaveBuffer(ctx, "b", &got))
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d bytes of %d came back", got.Len(), n)
			}
		}
		want := errors.New("broken")
		if err := c.LoadBuffer(ctx, "bad", &badReader{left: 50000, err: want}); !errors.Is(err, want) {
			t.Errorf("a reader that fails: %v", err)
		}
		if err := c.SaveBuffer(ctx, "none", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), s.version) {
			t.Errorf("no such buffer: %v", err)
		}
		s.alive(t, "afterwards")
	})
}

type badReader struct {
	left int
	err  error
}

func (r *badReader) Read(p []byte) (int, error) {
	n := min(len(p), r.left)
	if r.left -= n; n == 0 {
		return 0, r.err
	}
	return n, nil
}

func TestTmuxWaitFor(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		// Waiters that give up must not hurt the server when the signal comes.
		for range 5 {
			short, cancel := context.WithCancel(ctx)
			done := make(chan error)
			go func() { done <- c.WaitFor(short, "channel") }()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		done := make(chan error)
		go func() { done <- c.WaitFor(ctx, "channel") }()
		for over := false; !over; {
			if r := s.tmux(t, ctx, "", "wait-for", "-S", "channel"); r.status != 0 {
				t.Fatal(r)
			}
			select {
			case err := <-done:
				if over = true; err != nil {
					t.Error(err)
				}
			default:
			}
		}
		s.alive(t, "afterwards")
	})
}
