package privsep

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"example.org/imsg/privsep/sandbox"
)

// A parent that gives up rights as well, in a process of its own. What its child
// holds open is its standard input.
var _ = registerMiddle("sandboxed", func() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d := copyOf(stubbornDaemon, []func(*Daemon){fakeOnly(os.Getenv("CHILD"))})
	deathGive(d, map[string]*os.File{"alive": os.Stdin})
	d.ParentSandbox = sandbox.Policy{Promises: os.Getenv("PROMISES")}
	d.Parent = func(ctx context.Context, _ *Proc) error {
		if os.Getenv("CHILD") == "does not end" {
			cancel()
		}
		<-ctx.Done()
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	select {
	case err := <-done:
		fmt.Println(err)
		return 0
	case <-time.After(limit / 2):
		fmt.Println("Run does not return")
		return 1
	}
})

// TestSandboxedParent: a parent in a sandbox still ends a child that does not end
// or that breaks the rules, or it says at the start that it could not.
func TestSandboxedParent(t *testing.T) {
	for _, promises := range []string{"stdio", "stdio rpath exec", "stdio proc"} {
		for _, child := range []string{"does not end", "breaks the rules"} {
			t.Run(promises+", "+child, func(t *testing.T) {
				alive, held := deathPipe(t)
				said, out := deathPipe(t)
				cmd := middle(t, "sandboxed", "CHILD="+child, "PROMISES="+promises)
				cmd.Stdin, cmd.Stdout = held, out
				if err := cmd.Run(); err != nil {
					t.Error(err)
				}
				held.Close()
				out.Close()
				if text, err := io.ReadAll(said); err != nil || !strings.HasPrefix(string(text), "privsep: ") {
					t.Errorf("Run says %q, %v", text, err)
				} else if refused := strings.HasPrefix(string(text), "privsep: parent: "); !refused && !strings.Contains(string(text), child) {
					t.Errorf("%q does not name the child", text)
				}
				if _, err := io.Copy(io.Discard, alive); err != nil {
					t.Errorf("the child lives: %v", err)
				}
			})
		}
	}
}
