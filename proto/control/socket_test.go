package control

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/proto/internal/fake"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

const (
	ask  = 1
	item = 2
	end  = 3
)

func names(typ uint32) string { return map[uint32]string{ask: "ASK", item: "ITEM", end: "END"}[typ] }

func socket(path string) *Socket {
	return &Socket{Program: "faked", Path: path, Version: "1.2", TypeName: names}
}

// items asks and counts what comes before the end.
func items(ctx context.Context, s *Socket) (n int, err error) {
	for m, err := range s.Ask(ctx, ask, []byte("data")) {
		switch {
		case err != nil:
			return n, err
		case m.Type() == end:
			return n, nil
		case m.Type() != item:
			return n, s.Unexpected(ask, m)
		}
		n++
	}
	return n, errors.New("the loop ended by itself")
}

func TestAsk(t *testing.T) {
	s := socket(fake.Daemon(t, nil, 1<<17, func(r *fake.Request) {
		if string(r.Data) != "data" || r.Header.Type != ask || r.Header.PID < pidLimit {
			t.Errorf("the daemon is asked %+v %q", r.Header, r.Data)
		}
		for range 1000 {
			r.Answer(item, make([]byte, 100))
		}
		r.Answer(item, make([]byte, 1<<17))
		r.Answer(end, nil)
		r.Wait()
	}))
	s.MaxSize = 1 << 17
	for range 3 {
		if n, err := items(fake.Context(t), s); n != 1001 || err != nil {
			t.Errorf("%d items, %v", n, err)
		}
	}
}

// Every way in which a daemon can fail ends the loop with an error that says
// what failed, and leaves nothing behind.
func TestAskFails(t *testing.T) {
	noHeader := []byte{1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	raw := func(p []byte) func(r *fake.Request) {
		return func(r *fake.Request) {
			c, err := r.Conn.SyscallConn()
			if err == nil {
				c.Write(func(fd uintptr) bool { syscall.Write(int(fd), p); return true })
			}
		}
	}
	for name, tt := range map[string]struct {
		serve func(r *fake.Request)
		want  error
		text  string
	}{
		"hangs up":         {func(*fake.Request) {}, io.ErrUnexpectedEOF, "faked ended"},
		"dies in a stream": {func(r *fake.Request) { r.Answer(item, nil) }, io.ErrUnexpectedEOF, "ASK"},
		"dies in a header": {raw(make([]byte, 15)), io.ErrUnexpectedEOF, "faked 1.2"},
		"dies in a payload": {raw([]byte{2, 0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}), io.ErrUnexpectedEOF,
			"faked ended"},
		"length of 7": {raw(noHeader), syscall.ERANGE, "dialect"},
		"unknown answer": {func(r *fake.Request) {
			r.Answer(77, []byte("\x1b[31m"))
			r.Wait()
		}, nil, "unexpected answer type 77 (77) of 5 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := socket(fake.Daemon(t, nil, 0, tt.serve))
			n, err := items(fake.Context(t), s)
			var e *Error
			if !errors.As(err, &e) || e.Program != "faked" || e.Path != s.Path || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%d items, %v", n, err)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v is not %v", err, tt.want)
			}
		})
	}
	s := socket(t.TempDir() + "/nobody")
	if _, err := items(fake.Context(t), s); !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "no faked is running there") {
		t.Error(err)
	}
	s.MaxSize = -1
	s.Path = fake.Daemon(t, nil, 0, func(*fake.Request) {})
	if _, err := items(fake.Context(t), s); err == nil {
		t.Error("no error for a maximum of -1")
	}
}

// A cancel ends the wait for a daemon that says nothing, and an endless answer.
func TestAskCancel(t *testing.T) {
	silent := socket(fake.Daemon(t, nil, 0, func(r *fake.Request) { r.Wait() }))
	ctx, cancel := context.WithTimeout(fake.Context(t), 1)
	defer cancel()
	if _, err := items(ctx, silent); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("from a silent daemon: %v", err)
	}
	ctx, cancel = context.WithCancel(fake.Context(t))
	defer cancel()
	endless := socket(fake.Daemon(t, nil, 0, func(r *fake.Request) {
		for r.Answer(item, make([]byte, 1000)) {
		}
	}))
	n := 0
	for _, err := range endless.Ask(ctx, ask, nil) {
		if n++; n == 500 {
			cancel()
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("after %d messages: %v", n, err)
			}
			n = -1
		}
	}
	if n != -1 {
		t.Error("the loop ended without an error")
	}
	for range endless.Ask(fake.Context(t), ask, nil) {
		break
	}
	func() {
		defer func() { recover() }()
		for range endless.Ask(fake.Context(t), ask, nil) {
			panic("body")
		}
	}()
}

// Requests of the same time have different PIDs: a daemon may sort by them.
func TestAskPIDs(t *testing.T) {
	seen := make(chan int32, 100)
	s := socket(fake.Daemon(t, nil, 0, func(r *fake.Request) {
		seen <- r.Header.PID
		r.Answer(end, nil)
		r.Wait()
	}))
	pids := map[int32]bool{}
	for range cap(seen) {
		if _, err := items(fake.Context(t), s); err != nil {
			t.Fatal(err)
		}
		pids[<-seen] = true
	}
	if len(pids) < cap(seen)-1 { // two may be the same by chance
		t.Errorf("%d different PIDs in %d requests", len(pids), cap(seen))
	}
}

func TestDialects(t *testing.T) {
	for word, want := range map[string]imsg.Dialect{"current": imsg.Current, "legacy": imsg.Legacy, "": imsg.Current, "auto": imsg.Current} {
		if d, err := Dialects(word); err != nil || d[0] != want {
			t.Errorf("Dialects(%q) = %v, %v", word, d, err)
		}
	}
	if _, err := Dialects("new"); err == nil {
		t.Error("no error for a word that is no dialect")
	}
}
