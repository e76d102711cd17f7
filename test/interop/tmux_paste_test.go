package interop

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is pasted is submitted: also in copy mode, also with a program that asks
// for bracketed paste, also text of more than a terminal's line of 4 kB.
func TestTmuxPaste(t *testing.T) {
	tmuxServers(t, func(t *testing.T, s *tmuxServer) {
		ctx := bounded(t)
		c := s.client(t, ctx)
		long := strings.Repeat(strings.Repeat("0123456789", 10)+"\n", 300) // 30 kB
		for _, tt := range []struct {
			name, program, text, want string
			mode                      []string
		}{
			{"plain", "echo ready; cat >FILE", "hello", "hello\n", nil},
			{"copy mode", "echo ready; cat >FILE", "hello", "hello\n", []string{"copy-mode"}},
			{"clock mode", "echo ready; cat >FILE", "hello", "hello\n", []string{"clock-mode"}},
			{"empty", "echo ready; cat >FILE", "", "\n", nil},
			{"long", "echo ready; cat >FILE", long, long + "\n", nil},
			{"no UTF-8", "echo ready; cat >FILE", "a\xff\xc3;", "a\xff\xc3;\n", nil},
			{"bracketed", "printf '\\033[?2004h'; stty -icanon -icrnl; echo ready; head -c 18 >FILE; cat", "hello", "\x1b[200~hello\x1b[201~\r", nil},
		} {
			t.Run(tt.name, func(t *testing.T) {
				path := filepath.Join(s.dir, strings.ReplaceAll(tt.name, " ", "-"))
				pane := s.pane(t, ctx, strings.ReplaceAll(tt.program, "FILE", path))
				for p, err := []byte(nil), error(nil); !bytes.Contains(p, []byte("ready")); {
					if p, err = c.Capture(ctx, pane); err != nil {
						t.Fatal(err)
					}
				}
				if tt.mode != nil {
					if r, err := c.Run(ctx, append(tt.mode, "-t", pane)...); err != nil || r.Err() != nil {
						t.Fatal(err, r.Err())
					}
				}
				err := c.Paste(ctx, pane, []byte(tt.text))
				if err != nil {
					t.Errorf("paste: %v", err)
				}
				var got []byte
				for ctx.Err() == nil && len(got) < len(tt.want) {
					got, _ = os.ReadFile(path)
				}
				if string(got) != tt.want {
					t.Errorf("%.100q (%d bytes), want %.100q (%d)", got, len(got), tt.want, len(tt.want))
				}
			})
		}
		if err := c.Paste(ctx, "peer:win", []byte("x\x1b[201~rm\n")); err == nil {
			t.Error("the end of a bracketed paste in a text")
		}
		// Who cannot get it says so.
		if err := c.Paste(ctx, "%999", []byte("x")); err == nil {
			t.Error("no pane")
		}
		off := s.pane(t, ctx, "cat")
		c.Run(ctx, "select-pane", "-d", "-t", off)
		if err := c.Paste(ctx, off, []byte("x")); err == nil || !strings.Contains(err.Error(), "no input") {
			t.Errorf("pane without input: %v", err)
		}
		// What ends its pane was submitted.
		if err := c.Paste(ctx, s.pane(t, ctx, "head -n 1"), []byte("bye")); err != nil {
			t.Errorf("a program that ends: %v", err)
		}
		// What is given up leaves nothing behind.
		for d := range 40 {
			short, cancel := context.WithTimeout(ctx, time.Duration(d)*time.Millisecond/4)
			if err := c.Paste(short, off, []byte("x")); err == nil {
				t.Error("pane without input")
			}
			c.Paste(short, "peer:win", []byte("x"))
			cancel()
		}
		if r, err := c.Run(ctx, "list-buffers"); err != nil || len(r.Stdout) > 0 {
			t.Errorf("buffers are left: %q, %v", r.Stdout, err)
		}
		s.alive(t, "afterwards")
	})
}
