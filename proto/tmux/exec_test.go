package tmux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
)

// dialFake returns a client of a server that answers the first question for
// its version and plays everything after that.
func dialFake(t testing.TB, cfg *Config, play func(s *fakeServer)) *Client {
	t.Helper()
	socket := serveFake(t, func(n int, s *fakeServer) {
		if n == 0 {
			s.answer("3.7c")
		} else {
			play(s)
		}
	})
	c, err := Dial(bounded(t), socket, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDialBadServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(s *fakeServer)
		want func(err error) bool
	}{
		{"hangs up", func(s *fakeServer) {}, hungUp},
		{"hangs up later", func(s *fakeServer) { s.expect(msgCommand) }, hungUp},
		{"other version", func(s *fakeServer) {
			s.expect(msgCommand)
			s.conn.Send(s.ctx, imsg.Header{Type: msgVersion, ID: 7, PID: -1}, nil)
			s.expect(0)
		}, func(err error) bool { v := new(VersionError); return errors.As(err, &v) && v.Server == 7 }},
		{"other version in passing", func(s *fakeServer) {
			s.expect(msgCommand)
			s.conn.Send(s.ctx, imsg.Header{Type: msgExit, ID: 9, PID: -1}, nil)
			s.expect(0)
		}, func(err error) bool { v := new(VersionError); return errors.As(err, &v) && v.Server == 9 }},
		{"too short", func(s *fakeServer) {
			s.expect(msgCommand)
			s.send(msgWriteOpen, int32(1))
			s.expect(0)
		}, func(err error) bool {
			p := new(PayloadError)
			return errors.As(err, &p) && p.Type == msgWriteOpen && p.Size == 4
		}},
		{"no message at all", func(s *fakeServer) {
			s.expect(msgCommand)
			f, _ := s.conn.File()
			f.Write(bytes.Repeat([]byte{0xff}, 100))
			f.Close()
			s.expect(0)
		}, func(err error) bool { h := new(imsg.HeaderError); return errors.As(err, &h) }},
		{"endless version", func(s *fakeServer) {
			s.expect(msgCommand)
			s.send(msgWriteOpen, int32(1), int32(1), int32(0))
			for s.send(msgWrite, int32(1), bytes.Repeat([]byte("3"), 1000)) {
			}
		}, func(err error) bool { return errors.Is(err, ErrOutputTooLarge) }},
		{"echo", func(s *fakeServer) {
			for s.ctx.Err() == nil {
				m, err := s.conn.Receive(s.ctx)
				if err != nil {
					return
				}
				s.conn.Send(s.ctx, header(m.Type()), nil, m.Bytes())
				m.Close()
			}
		}, func(err error) bool { return strings.Contains(err.Error(), "no tmux server") }},
		{"error", func(s *fakeServer) {
			s.expect(msgCommand)
			s.exit(3)
		}, func(err error) bool { return strings.Contains(err.Error(), "status 3") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := serveFake(t, func(n int, s *fakeServer) { tt.play(s) })
			_, err := Dial(bounded(t), socket, nil)
			var e *Error
			if !errors.As(err, &e) || e.Socket != socket || !tt.want(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A server that does not answer is left when the context ends.
func TestSilentServer(t *testing.T) {
	ctx, cancel := context.WithCancel(bounded(t))
	socket := serveFake(t, func(n int, s *fakeServer) {
		s.expect(msgCommand)
		cancel()
		s.expect(0)
	})
	if _, err := Dial(ctx, socket, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestDialBadDialect(t *testing.T) {
	if _, err := Dial(bounded(t), "/nonexistent", &Config{Dialect: "latin"}); err == nil || !strings.Contains(err.Error(), "latin") {
		t.Errorf("%v", err)
	}
}

// A server of a version that may speak either dialect serves commands, but gets
// no files.
func TestUnknownVersion(t *testing.T) {
	socket := serveFake(t, func(n int, s *fakeServer) { s.answer("next-3.6") })
	c, err := Dial(bounded(t), socket, nil)
	if bigEndian {
		t.Skip("on this machine every header tells the dialect")
	}
	if err != nil || c.Dialect() != imsg.Auto {
		t.Fatalf("%v", err)
	}
	if _, err := c.Run(bounded(t), "ls"); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := c.Control(bounded(t), ""); err == nil || !strings.Contains(err.Error(), "Config.Dialect") {
		t.Errorf("%v", err)
	}
}

// What a server may ask for, and what it gets.
func TestFilesAskedFor(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	play := func(got *[]int32) func(s *fakeServer) {
		return func(s *fakeServer) {
			s.expect(msgCommand)
			s.send(msgReadOpen, int32(3), int32(-1), secret)
			p, _ := s.expect(msgReadDone)
			*got = append(*got, number(p, 1))
			s.send(msgWriteOpen, int32(4), int32(-1), int32(os.O_TRUNC), secret)
			p, _ = s.expect(msgWriteReady)
			*got = append(*got, number(p, 1))
			s.send(msgWrite, int32(4), []byte("changed"))
			s.send(msgWriteClose, int32(4))
			s.send(217, "rm -rf", "/bin/sh") // EXEC: tmux's own client would do it
			s.send(209, "rm -rf")            // SHELL
			s.exit(0)
		}
	}
	var got []int32
	if _, err := dialFake(t, nil, play(&got)).Run(bounded(t), "ls"); err != nil {
		t.Error(err)
	}
	if p, _ := os.ReadFile(secret); string(p) != "secret" || got[0] != int32(syscall.EPERM) || got[1] != int32(syscall.EPERM) {
		t.Errorf("without OpenFile: errno %v, the file has %q", got, p)
	}
	got = nil
	if _, err := dialFake(t, &Config{OpenFile: os.OpenFile}, play(&got)).Run(bounded(t), "ls"); err != nil {
		t.Error(err)
	}
	if p, _ := os.ReadFile(secret); string(p) != "changed" || got[0] != 0 || got[1] != 0 {
		t.Errorf("with OpenFile: errno %v, the file has %q", got, p)
	}
}

// Streams without end or number cost no memory, and an odd one no panic.
func TestManyStreams(t *testing.T) {
	refused := 0
	c := dialFake(t, nil, func(s *fakeServer) {
		s.expect(msgCommand)
		for i := range int32(200) {
			s.send(msgWriteOpen, i, int32(1), int32(0))
			if p, _ := s.expect(msgWriteReady); number(p, 1) != 0 {
				refused++
			}
		}
		s.send(msgWrite, int32(-5), []byte("nobody's"))
		s.send(msgWriteClose, int32(-5))
		s.send(msgReadCancel, int32(-5))
		s.send(99999, []byte("unknown"))
		s.exit(0)
	})
	if r, err := c.Run(bounded(t), "ls"); err != nil || len(r.Stdout) > 0 {
		t.Errorf("%q, %v", r.Stdout, err)
	}
	if refused != 200-maxStreams {
		t.Errorf("%d of 200 streams were refused", refused)
	}
}

// A command that ends without having read its input, and one that is told to
// stop.
func TestStdinUnread(t *testing.T) {
	endless := strings.NewReader(strings.Repeat("x", 64<<20))
	c := dialFake(t, nil, func(s *fakeServer) {
		s.expect(msgCommand)
		s.send(msgReadOpen, int32(3), int32(0), "-")
		s.expect(msgRead)
		s.send(msgExit, int32(1))
		s.expect(msgExiting)
		s.send(msgExited)
		s.expect(0)
	})
	if status, err := c.Exec(bounded(t), &Command{Args: []string{"load-buffer", "-"}, Stdin: endless}); status != 1 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	// A Read that never returns does not hold Exec up.
	r, w := io.Pipe()
	defer w.Close()
	if status, err := c.Exec(bounded(t), &Command{Args: []string{"load-buffer", "-"}, Stdin: io.MultiReader(strings.NewReader(strings.Repeat("x", maxData)), r)}); status != 1 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

func TestEndlessOutput(t *testing.T) {
	c := dialFake(t, &Config{MaxOutput: 100000}, func(s *fakeServer) {
		s.expect(msgCommand)
		s.send(msgWriteOpen, int32(1), int32(1), int32(0))
		s.send(msgWriteOpen, int32(2), int32(2), int32(0))
		for s.send(msgWrite, int32(1), make([]byte, 9000)) && s.send(msgWrite, int32(2), make([]byte, 9000)) {
		}
	})
	r, err := c.Run(bounded(t), "ls")
	if !errors.Is(err, ErrOutputTooLarge) || len(r.Stdout)+len(r.Stderr) > 100000 {
		t.Errorf("%d bytes, %v", len(r.Stdout)+len(r.Stderr), err)
	}
	if _, err := c.RunList(bounded(t), [][]string{{"ls"}, {"ls"}}); !errors.Is(err, ErrOutputTooLarge) {
		t.Errorf("list: %v", err)
	}
}
