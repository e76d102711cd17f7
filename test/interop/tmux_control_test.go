package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/proto/tmux"
)

// A watcher keeps the events that have come since the last step of a test.
type watcher struct {
	t    *testing.T
	ctx  context.Context
	k    *tmux.Control
	seen []tmux.Event
}

// next begins the next step.
func (w *watcher) next() { w.seen = nil }

// until waits until an event of this step satisfies ok.
func until[E tmux.Event](w *watcher, ok func(e E) bool) {
	w.t.Helper()
	for _, e := range w.seen {
		if e, is := e.(E); is && ok(e) {
			return
		}
	}
	for {
		select {
		case e, open := <-w.k.Events():
			if !open {
				w.t.Fatalf("the events end before a %T: %+v", *new(E), w.seen)
			}
			if w.seen = append(w.seen, e); len(w.seen) > 1000 {
				w.seen = w.seen[500:]
			}
			if e, is := e.(E); is && ok(e) {
				return
			}
		case <-w.ctx.Done():
			w.t.Fatalf("no %T: %+v", *new(E), w.seen)
		}
	}
}

func TestTmuxControl(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		k, err := c.Control(ctx, "peer")
		testutil.Must(t, err)
		defer k.Close()
		w := &watcher{t: t, ctx: ctx, k: k}
		run := func(args ...string) tmux.Result {
			t.Helper()
			r, err := k.Run(ctx, args...)
			if err != nil {
				t.Fatalf("%q: %v", args, err)
			}
			return r
		}
		must := func(args ...string) string {
			t.Helper()
			r := run(args...)
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			return string(r.Stdout)
		}
		until(w, func(e tmux.SessionChanged) bool { return e.Name == "peer" })

		// The target arrives as it is, too.
		must("new-session", "-d", "-s", "peer;", "cat")
		other, err := c.Control(ctx, "peer;")
		testutil.Must(t, err)
		if r, err := other.Run(ctx, "display-message", "-p", "#{session_name}"); err != nil || string(r.Stdout) != "peer;\n" {
			t.Errorf("attached to %q, %v", r.Stdout, err)
		}
		testutil.Check(t, other.Close())
		must("kill-session", "-t", "peer;")

		// Arguments arrive as they are.
		for _, arg := range []string{
			"", "plain", "two words", `"`, "'", `\`, "a;", ";", "~", "$HOME", "#", "{}", "%if", "A=b", "grüße", "\t", "\x01\x7f", "line\nbreak", "-", `x\;`,
		} {
			if got := must("set-buffer", "-b", "arg", "x"+arg); got != "" {
				t.Errorf("%q", got)
			}
			var got bytes.Buffer
			if err := c.SaveBuffer(ctx, "arg", &got); err != nil || got.String() != "x"+arg {
				t.Errorf("argument %q arrived as %q, %v", "x"+arg, got.String(), err)
			}
		}
		// Replies are not taken for guards or events.
		for _, line := range []string{"%end 1 2 1", "%begin 1 2 1", "%output %0 x"} {
			must("set-option", "-g", "@line", line)
			if got := must("show-options", "-gv", "@line"); got != line+"\n" {
				t.Errorf("%q, want %q", got, line)
			}
		}
		if r := run("kill-session", "-t", "nobody"); r.Status != 1 || !strings.Contains(r.Err().Error(), "nobody") {
			t.Errorf("%+v", r)
		}
		if r := run("bogus", "x"); r.Status != 1 || !strings.Contains(string(r.Stderr), "bogus") {
			t.Errorf("%+v", r)
		}
		// More than one reply, and none at its time.
		if got := must("if-shell", "-F", "1", "display-message -p a ; display-message -p b"); got != "a\nb\n" {
			t.Errorf("if-shell: %q", got)
		}
		if got := must("run-shell", "echo from the shell"); got != "from the shell\n" && s.version != "3.3a" { // which shows it in the pane
			t.Errorf("run-shell: %q", got)
		}
		if got := must("display-message", "-p", "next"); got != "next\n" {
			t.Errorf("%q", got)
		}

		// Many at a time.
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				for i := range 50 {
					want := fmt.Sprintf("%d-%d\n", g, i)
					r, err := k.Run(ctx, "display-message", "-p", strings.TrimSpace(want))
					if err != nil || string(r.Stdout) != want {
						t.Errorf("%q, want %q: %v", r.Stdout, want, err)
						return
					}
				}
			})
		}
		group.Wait()
		var list [][]string
		for i := range 1000 {
			list = append(list, []string{"display-message", "-p", fmt.Sprint(i)})
		}
		results, err := k.RunList(ctx, list)
		if err != nil || len(results) != 1000 {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if string(r.Stdout) != fmt.Sprintln(i) {
				t.Fatalf("result %d: %q", i, r.Stdout)
			}
		}
		// One that was given up does not take the reply of the next.
		short, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := k.Run(short, "display-message", "-p", "given up"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if got := must("display-message", "-p", "after"); got != "after\n" {
			t.Errorf("%q", got)
		}
		events(w, must)
		s.alive(t, "with a control client")
	})
}

// events makes things happen and waits for what the client is told.
func events(w *watcher, must func(args ...string) string) {
	window := strings.TrimSpace(must("new-window", "-P", "-F", "#{window_id}", "-n", "two", "printf 'r\\303\\274\\377\\001\\\\end'; cat"))
	until(w, func(e tmux.WindowAdd) bool { return e.Window == window })
	var got []byte
	until(w, func(e tmux.ExtendedOutput) bool {
		got = append(got, e.Data...)
		return bytes.Contains(got, []byte("r\xc3\xbc\xff\x01\\end"))
	})
	w.next()
	must("rename-window", "-t", window, "new name")
	until(w, func(e tmux.WindowRenamed) bool { return e == tmux.WindowRenamed{Window: window, Name: "new name"} })
	w.next()
	pane := strings.TrimSpace(must("split-window", "-P", "-F", "#{pane_id}", "-t", window, "cat"))
	until(w, func(e tmux.LayoutChange) bool { return e.Window == window && strings.Contains(e.Layout, ",") })
	until(w, func(e tmux.WindowPaneChanged) bool { return e.Window == window && e.Pane == pane })
	must("copy-mode", "-t", pane)
	until(w, func(e tmux.PaneModeChanged) bool { return e.Pane == pane })
	must("refresh-client", "-B", "sub:"+pane+":#{pane_id} : #{window_name}")
	until(w, func(e tmux.Subscription) bool {
		return e.Name == "sub" && e.Window == window && e.Pane == pane && e.Value == pane+" : new name"
	})
	must("new-session", "-d", "-s", "other", "cat")
	until(w, func(tmux.SessionsChanged) bool { return true })
	must("rename-session", "-t", "other", "renamed")
	until(w, func(e tmux.SessionRenamed) bool { return e.Name == "renamed" })
	must("kill-window", "-t", window)
	until(w, func(e tmux.Event) bool {
		return e == tmux.WindowClose{Window: window} || e == tmux.UnlinkedWindowClose{Window: window} // before 3.8
	})
	must("kill-session", "-t", "renamed")
	must("detach-client")
	until(w, func(e tmux.Exit) bool { return true })
	if _, open := <-w.k.Events(); open {
		w.t.Error("an event behind Exit")
	}
	if _, err := w.k.Run(w.ctx, "ls"); !errors.Is(err, tmux.ErrExited) {
		w.t.Errorf("after the end: %v", err)
	}
}

// A program that does not take its events loses them, and stops nobody: not the
// server, not the pane, not its own commands.
func TestTmuxControlUnread(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		k, err := s.client(t, ctx).Control(ctx, "peer")
		testutil.Must(t, err)
		defer k.Close()
		s.flood(t, ctx)()
		if r, err := k.Run(ctx, "display-message", "-p", "still here"); err != nil || string(r.Stdout) != "still here\n" {
			t.Errorf("%q, %v", r.Stdout, err)
		}
		// A notification makes room for what was lost to be told.
		w := &watcher{t: t, ctx: ctx, k: k}
		until(w, func(e tmux.WindowAdd) bool { return true })
		testutil.Check(t, k.Close())
		s.alive(t, "with an idle client")
	})
}

// A client that another one has suspended gets no output any more, and every
// server ends if it is woken: so it ends, and says why.
func TestTmuxControlSuspended(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		k, err := s.client(t, ctx).Control(ctx, "peer")
		testutil.Must(t, err)
		defer k.Close()
		r, err := k.Run(ctx, "display-message", "-p", "#{client_name}")
		testutil.Must(t, err)
		if r := s.tmux(t, ctx, "", "suspend-client", "-t", strings.TrimSpace(string(r.Stdout))); r.status != 0 {
			t.Fatal(r)
		}
		w := &watcher{t: t, ctx: ctx, k: k}
		until(w, func(e tmux.Exit) bool { return e.Reason == "suspended" })
		if err := k.Err(); err == nil || !strings.Contains(err.Error(), "suspended") {
			t.Errorf("%v", err)
		}
		s.alive(t, "after the client was suspended")
	})
}

func TestTmuxControlRefused(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		_, err := s.client(t, ctx).Control(ctx, "nobody")
		var refused *tmux.CommandError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("%v", err)
		}
		// The wrong dialect is named. A legacy server gets no files then, and never
		// answers.
		wrong := map[bool]string{true: "current", false: "legacy"}[s.dialect == imsg.Legacy]
		c, err := tmux.Dial(ctx, s.socket, &tmux.Config{Dialect: wrong})
		testutil.Must(t, err)
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := c.Control(short, "peer"); err == nil || !strings.Contains(err.Error(), "Config.Dialect says "+wrong) {
			t.Errorf("the wrong dialect: %v", err)
		}
		s.alive(t, "after a client of the wrong dialect")
		// A server that ends takes its clients along.
		k, err := s.client(t, ctx).Control(ctx, "peer")
		testutil.Must(t, err)
		defer k.Close()
		k.Run(ctx, "kill-server")
		w := &watcher{t: t, ctx: ctx, k: k}
		until(w, func(tmux.Exit) bool { return true })
		if err := k.Err(); err == nil {
			t.Error("no error after the end")
		}
	})
}
