package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"example.org/imsg"
)

// What the tests' server does for a type of message. For all others it answers
// with the same message, of the next type.
const (
	askFile  = 50 // an answer with a file
	askMany  = 60 // three answers of type 61, and one of type 62
	askEnd   = 70 // the end
	askNone  = 80 // nothing
	tellFile = 90 // what is in the file that comes with it, which "w" is added to if it can be
)

// serve is the command "serve PATH [legacy]" of scripts: a server in this
// process, until the script ends.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	cfg := &imsg.Config{AllowFDPass: true}
	if len(args) == 2 && args[1] == "legacy" {
		cfg.Dialect = imsg.Legacy
	}
	l, err := imsg.Listen(ts.MkAbs(args[0]), cfg)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Serve(ctx, answer)
	}()
	ts.Defer(func() {
		cancel()
		l.Close()
		<-done
	})
}

func answer(ctx context.Context, c *imsg.Conn) {
	for m, err := range c.All(ctx) {
		if err != nil {
			return
		}
		h := m.Header()
		send := func(typ uint32, f *os.File, data ...[]byte) {
			c.Send(ctx, imsg.Header{Type: typ, ID: h.ID, PID: h.PID}, f, data...)
		}
		switch h.Type {
		case askFile:
			if f, err := os.Open(os.DevNull); err == nil {
				send(h.Type+1, f, m.Bytes())
				f.Close()
			}
		case askMany:
			for range 3 {
				send(h.Type+1, nil)
			}
			send(h.Type+2, nil)
		case askEnd:
			m.Close()
			return
		case askNone:
		case tellFile:
			f := m.TakeFile()
			if f == nil {
				send(h.Type+1, nil, []byte("no file"))
				break
			}
			text, _ := io.ReadAll(f)
			f.Write([]byte("w"))
			send(h.Type+1, nil, text)
			f.Close()
		default:
			send(h.Type+1, nil, m.Bytes())
		}
		m.Close()
	}
}

func TestSendAsks(t *testing.T) {
	other := uint32(os.Geteuid() + 1)
	for _, tt := range []struct {
		name  string
		s     sender
		tty   bool
		input string
		asked bool
		want  string
	}{
		{"well formed", sender{uid: other, length: -1, cut: -1}, true, "", false, ""},
		{"our own", sender{uid: other - 1, length: 3, cut: -1}, true, "", false, ""},
		{"length, no", sender{uid: other, length: 3, cut: -1}, true, "n\n", true, "not sent"},
		{"length, nothing", sender{uid: other, length: 3, cut: -1}, true, "", true, "not sent"},
		{"length, yes", sender{uid: other, length: 3, cut: -1}, true, "y\n", true, ""},
		{"cut", sender{uid: other, length: -1, cut: 3}, true, "y\n", true, ""},
		{"mark", sender{uid: other, length: -1, cut: -1, mark: "no"}, true, "y\n", true, ""},
		{"raw", sender{uid: other, length: -1, cut: -1, raw: true}, true, "y\n", true, ""},
		{"--yes", sender{uid: other, length: 3, yes: true}, false, "", false, ""},
		{"no terminal", sender{uid: other, length: 3}, false, "y\n", false, "--yes sends it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var errs bytes.Buffer
			tt.s.a = &app{stdin: strings.NewReader(tt.input), stderr: &errs, inTTY: tt.tty, errTTY: tt.tty}
			err := tt.s.ask()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if asked := errs.Len() > 0; asked != tt.asked {
				t.Errorf("asked: %q", errs.String())
			}
			if !tt.tty && err != nil && !errors.As(err, new(usageError)) {
				t.Errorf("%v is no usage error", err)
			}
		})
	}
}
