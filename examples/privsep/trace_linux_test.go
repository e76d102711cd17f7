package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/ptrace"
)

// TestTraced looks from outside at what the program's processes say to each
// other. They are in their sandboxes as ever.
func TestTraced(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the processes hide from others")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	way := map[string]string{} // of the files, by path
	names := map[int]string{}  // of the channels' first messages
	files, problems := 0, []string{}
	problem := func(s string) { problems = append(problems, s) }
	a := capture.NewAssembler(func(r *capture.Record) error {
		if names[r.Channel] == "" {
			names[r.Channel] = string(r.Payload)
		}
		for _, f := range r.Files {
			files++
			if f.From < 0 || f.To < 0 || f.Kind == "" || f.Lost || r.From.PID == r.To.PID {
				problem(fmt.Sprintf("%+v with %+v", f, r))
			}
			way[f.Path] = fmt.Sprintf("%s after %s on %d", f.Flags, names[r.Channel], r.Channel)
		}
		return nil
	})
	a.Problem = problem
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	status, err := ptrace.Run(ctx, &ptrace.Command{
		Path: "/proc/self/exe", Args: os.Args[:1], Env: append(os.Environ(), programEnv+"=1"), Dir: "/",
		Files: []*os.File{null, null, os.Stderr},
	}, &ptrace.Config{
		Call: func(c *ptrace.Call) {
			if c.Write {
				a.Sent(c.Side(), c.Moved())
			} else {
				a.Received(c.Side(), c.Moved())
			}
		},
		Warn: problem,
	})
	if refused := (*ptrace.PermissionError)(nil); errors.As(err, &refused) || errors.Is(err, ptrace.ErrNotSupported) {
		t.Skip("tracing is not possible here: ", err)
	}
	if err != nil || status != (ptrace.Status{}) || ctx.Err() != nil {
		t.Fatal(err, status, ctx.Err())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if len(problems) > 0 {
		t.Errorf("%q", problems)
	}
	// The parent with each child, the worker with the parent and the logger.
	if len(names) != 4 || files < 9 {
		t.Errorf("%d files over channels that begin with %v", files, names)
	}
	for _, path := range allowed {
		if want := "rdonly|cloexec after hosts on 3"; way[path] != want {
			t.Errorf("%s: %q, want %q", path, way[path], want)
		}
	}
}
