package privsep

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"example.org/imsg/internal/unixmsg"
)

// lines are the records of a log as they come.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func (l lines) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// wait returns the first record that has a text in it.
func (l lines) wait(t testing.TB, text string) string {
	t.Helper()
	for timeout := time.After(limit); ; {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("there was no record of %q after %v", text, limit)
		}
	}
}

var barrierDaemon = register(Daemon{Name: "barrier", Roles: []Role{
	{Name: "early", Instances: 2, Run: func(ctx context.Context, p *Proc) error { return mark(p, "early runs\n") }},
	{Name: "late",
		Setup: func(_ context.Context, p *Proc) error {
			p.Logger().Info("late waits")
			if _, err := p.File("gate").Read(make([]byte, 1)); err != nil {
				return err
			}
			return mark(p, "late is set up\n")
		},
		Run: func(ctx context.Context, p *Proc) error { <-ctx.Done(); return nil }},
}})

// mark writes to the file by which the test sees the order of things.
func mark(p *Proc, text string) error {
	_, err := p.File("order").WriteString(text)
	return err
}

// TestBarrier: nobody runs before all are ready, neither children nor Parent.
func TestBarrier(t *testing.T) {
	var open, order, own *os.File
	log, started := make(lines, 100), make(chan *Proc, 1)
	wait := begin(t, t.Context(), barrierDaemon, func(d *Daemon) {
		d.Logger = log.logger()
		d.Roles[0].OnExit = Ignore
		d.Prepare = func(_ context.Context, p *Proc) (err error) {
			var gate, end *os.File
			if gate, open, err = os.Pipe(); err != nil {
				return err
			}
			p.AddFile("late", "gate", gate)
			if order, end, err = os.Pipe(); err != nil {
				return err
			}
			p.AddFile("early", "order", copyFile(t, end))
			p.AddFile("late", "order", copyFile(t, end))
			own = end
			started <- p
			return nil
		}
		d.Parent = func(ctx context.Context, p *Proc) error {
			defer own.Close()
			_, err := own.WriteString("parent runs\n")
			return err
		}
	})
	var p *Proc
	select {
	case p = <-started:
	case <-time.After(limit):
		t.Fatal("Prepare was not called: ", wait())
	}
	log.wait(t, "late waits")
	until(t, "status of the early children", func() bool { return len(p.Status()) == 3 })
	if _, err := open.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	open.Close()
	order.SetDeadline(time.Now().Add(limit))
	text, err := io.ReadAll(order) // to the end: no process has its end any more
	if err != nil {
		t.Fatal(err)
	}
	order.Close()
	if err := wait(); err != nil {
		t.Error(err)
	}
	if first, _, _ := strings.Cut(string(text), "\n"); first != "late is set up" || !strings.Contains(string(text), "parent runs\n") {
		t.Errorf("the order of things was\n%s", text)
	}
}

// copyFile returns another descriptor of a file, or nil.
func copyFile(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unixmsg.DupFile(f)
	if err != nil {
		t.Error(err)
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}
