package tmux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// A fakePipe is what a server holds of a control client.
type fakePipe struct {
	*fakeServer
	in  *bufio.Reader // commands
	out *os.File
}

// line reads a line of the client; "" if it has closed its end.
func (p *fakePipe) line() string {
	s, _ := p.in.ReadString('\n')
	return strings.TrimSuffix(s, "\n")
}

// write writes to the client, which may have gone.
func (p *fakePipe) write(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }

// attach answers to the attach.
func (p *fakePipe) attach() { p.write("%%begin 1 1 0\n%%end 1 1 0\n%%session-changed $0 fake\n") }

// token reads the line that ends a command and returns its token.
func (p *fakePipe) token() string { return strings.TrimPrefix(p.line(), "display-message -p ") }

// dialControl returns a client of a server that plays a control client's
// connection.
func dialControl(t *testing.T, cfg *Config, play func(p *fakePipe)) *Client {
	t.Helper()
	socket := serveFake(t, func(n int, s *fakeServer) {
		if n < 2 {
			s.answer("3.7c")
			return
		}
		var files []*os.File
		for len(files) < 2 {
			m, err := s.conn.Receive(s.ctx)
			if err != nil {
				return
			}
			if f := m.TakeFile(); f != nil {
				defer f.Close()
				files = append(files, f)
			}
			m.Close()
		}
		if _, ok := s.expect(msgCommand); ok {
			play(&fakePipe{s, bufio.NewReader(files[0]), files[1]})
		}
	})
	c, err := Dial(bounded(t), socket, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// drain takes all events and returns the last one and the number of Lost.
func drain(k *Control) (last Event, lost int) {
	for e := range k.Events() {
		if l, ok := e.(Lost); ok {
			lost += l.Events
		}
		last = e
	}
	return last, lost
}

func TestControlRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		play func(p *fakePipe)
		want func(err error) bool
	}{
		{"error", func(p *fakePipe) {
			p.write("%%begin 1 1 0\nno such session\n%%error 1 1 0\n")
			p.exit(1)
		}, func(err error) bool {
			e := new(CommandError)
			return errors.As(err, &e) && e.Stderr == "no such session" && e.Version == "3.7c"
		}},
		{"the end", func(p *fakePipe) {}, hungUp},
		{"exit", func(p *fakePipe) { p.exit(1) }, func(err error) bool { return errors.Is(err, ErrExited) }},
		{"other version", func(p *fakePipe) {
			p.conn.Send(p.ctx, header(msgVersion), nil)
			p.expect(0)
		}, func(err error) bool { return errors.As(err, new(*VersionError)) }},
		{"bad payload", func(p *fakePipe) {
			p.send(msgExit, []byte{1})
			p.expect(0)
		}, func(err error) bool { return errors.As(err, new(*PayloadError)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := dialControl(t, nil, tt.play).Control(bounded(t), "x")
			if k != nil || !tt.want(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A server that does not answer to the attach is left when the context ends.
func TestControlSilent(t *testing.T) {
	ctx, cancel := context.WithCancel(bounded(t))
	_, err := dialControl(t, nil, func(p *fakePipe) {
		cancel()
		p.expect(0)
	}).Control(ctx, "")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A server that writes without end costs no memory, and its events no more than
// a bound; replies still arrive.
func TestControlFlood(t *testing.T) {
	c := dialControl(t, nil, func(p *fakePipe) {
		p.attach()
		p.line()
		token := p.token()
		data := strings.Repeat("x", 60000)
		for range 500 {
			p.write("%%output %%0 %s\n%%window-add @1\nneither\n", data)
		}
		p.write("%%begin 1 2 1\nreply\n%%end 1 2 1\n%%begin 1 3 1\n%s\n%%end 1 3 1\n", token)
		p.line() // until it is closed
		p.send(msgExit, int32(0), "so long")
		p.expect(msgExiting)
		p.send(msgExited)
		p.expect(0)
	})
	k, err := c.Control(bounded(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	r, err := k.Run(bounded(t), "ls")
	if err != nil || !strings.HasSuffix(string(r.Stdout), "reply\n") || r.Status != 0 {
		t.Errorf("%.100q, %v", r.Stdout, err)
	}
	if k.events.cost > maxQueued {
		t.Errorf("%d bytes wait", k.events.cost)
	}
	k.in.Close() // as Close does, but the events can still be taken
	last, lost := drain(k)
	if last != (Exit{"so long"}) || lost == 0 {
		t.Errorf("%+v, %d lost", last, lost)
	}
	if _, err := k.Run(bounded(t), "ls"); !errors.Is(err, ErrExited) {
		t.Errorf("after the end: %v", err)
	}
}

// A reply that is too long is an error of its command, and the next one works.
func TestControlLongReply(t *testing.T) {
	c := dialControl(t, &Config{MaxOutput: 1 << 20}, func(p *fakePipe) {
		p.attach()
		for i := range 3 {
			p.line()
			token := p.token()
			p.write("%%begin 1 %d 1\n", i)
			for range 40 * (i & 1) {
				p.write("%s\n", strings.Repeat("x", 50000))
			}
			p.write("short\n%%end 1 %d 1\n%%begin 1 9 1\n%s\n%%end 1 9 1\n", i, token)
		}
		p.line()
		p.exit(0)
	})
	k, err := c.Control(bounded(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for i := range 3 {
		r, err := k.Run(bounded(t), "x")
		if i == 1 {
			if !errors.Is(err, ErrOutputTooLarge) {
				t.Errorf("%d bytes, %v", len(r.Stdout), err)
			}
		} else if err != nil || string(r.Stdout) != "short\n" {
			t.Errorf("%q, %v", r.Stdout, err)
		}
	}
}

// What is between the guards of a hook's command, or of another client's, is
// nobody's reply; a token that was not given ends nothing.
func TestControlForeignReplies(t *testing.T) {
	c := dialControl(t, nil, func(p *fakePipe) {
		p.attach()
		p.line()
		token := p.token()
		p.write("%%begin 1 5 0\nhook\n%%end 1 5 0\n")
		p.write("%%begin 1 6 1\n0123456789abcdef\n%%end 1 6 1\n")
		p.write("%%begin 1 7 1\n%s\n%%error 1 7 1\n", token)
		p.write("late\n%%begin 1 8 0\nhook\n%%error 1 8 0\n")
		p.write("%%begin 1 9 1\n%s\n%%end 1 9 1\n", token)
		p.write("%%begin 1 10 1\nnobody asked\n%%end 1 10 1\n")
		p.line()
		p.exit(0)
	})
	k, err := c.Control(bounded(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	r, err := k.Run(bounded(t), "x")
	if err != nil || string(r.Stdout) != "0123456789abcdef\nlate\n" || len(r.Stderr) != 17 || r.Status != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A server that dies, hangs up on one of the two ways, or ends in a reply, ends
// what waits.
func TestControlDies(t *testing.T) {
	for name, play := range map[string]func(p *fakePipe){
		"both":    func(p *fakePipe) {},
		"in line": func(p *fakePipe) { p.write("%%begin 1 2 1\nhalf a li") },
		"pipe": func(p *fakePipe) {
			p.out.Close()
			p.expect(0)
		},
		"socket": func(p *fakePipe) {
			p.conn.Close()
			io.Copy(io.Discard, p.in)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialControl(t, nil, func(p *fakePipe) {
				p.attach()
				p.line()
				play(p)
			})
			k, err := c.Control(bounded(t), "")
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if _, err := k.Run(bounded(t), "x"); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if last, _ := drain(k); last != (Exit{}) {
				t.Errorf("%+v", last)
			}
			if k.Err() == nil {
				t.Error("no error")
			}
		})
	}
}

// A server that reads no commands holds up who writes them only as long as
// their context lets it, and Close three seconds.
func TestControlUnreadCommands(t *testing.T) {
	t.Parallel()
	c := dialControl(t, nil, func(p *fakePipe) {
		p.attach()
		p.expect(0)
	})
	k, err := c.Control(bounded(t), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(bounded(t))
	cancel()
	for range 100 {
		if _, err := k.Run(ctx, "ls"); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	}
	if n := len(k.pending); n > 0 {
		t.Errorf("%d commands were sent with a context that was over", n)
	}
	done := make(chan error)
	go func() { // more than a pipe takes
		_, err := k.Run(bounded(t), "set-buffer", strings.Repeat("x", 1<<20))
		done <- err
	}()
	if _, err := k.Run(ctx, "ls"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	k.Close()
	if err := <-done; !errors.Is(err, ErrExited) {
		t.Errorf("%v", err)
	}
	if _, open := <-k.Events(); open {
		t.Error("an event after Close")
	}
}

// A command that was given up in the middle of its line ends the client: the
// next one would be a part of it.
func TestControlTornCommand(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(bounded(t))
	c := dialControl(t, nil, func(p *fakePipe) {
		p.attach()
		p.in.ReadByte()
		cancel()
		p.expect(0)
	})
	k, err := c.Control(bounded(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.Run(ctx, "set-buffer", strings.Repeat("x", 1<<20)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := k.Run(bounded(t), "ls"); err == nil || !strings.Contains(err.Error(), "in part") {
		t.Errorf("%v", err)
	}
}
