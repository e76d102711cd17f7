package hostile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

// A process is another process, with the channel that controls it.
type process struct {
	t    *testing.T
	name string
	pid  int
	c    *imsg.Conn
	mu   sync.Mutex // one request at a time
	gone int
}

// orders are what a role is told, until the test closes its end.
func orders(t *testing.T, ctl *imsg.Conn) iter.Seq[imsg.Message] {
	return func(yield func(imsg.Message) bool) {
		for m, err := range ctl.All(context.Background()) {
			if errors.Is(err, syscall.ECONNRESET) {
				return // the end, with something that nobody wanted to know any more
			}
			if err != nil {
				t.Error(err)
				return
			}
			if !yield(m) {
				return
			}
		}
	}
}

// startRole starts this binary in another role, as an ordinary user.
func startRole(t *testing.T, role string, uid uint32) *process {
	t.Helper()
	var out bytes.Buffer
	c, cmd := testutil.StartSelf(t, "TestHostileServer", role, 3, func(cmd *exec.Cmd) {
		cmd.Stdout, cmd.Stderr = &out, &out
		if testutil.AsOrdinaryUser(cmd); cmd.SysProcAttr != nil {
			cmd.SysProcAttr.Credential.Uid = uid
		}
	})
	t.Cleanup(func() { // its own leak check included
		c.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", role, err, out.Bytes())
		}
	})
	return &process{t: t, name: role, pid: cmd.Process.Pid, c: c}
}

// ask sends a request and returns the payload of the answer, of type want.
func (p *process) ask(h imsg.Header, f *os.File, want uint32, data ...byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Bound)
	defer cancel()
	if h.Type != 0 {
		if err := p.c.Send(ctx, h, f, data); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for {
		m, err := p.c.Receive(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: no answer of type %d: %w", p.name, want, err)
		}
		typ, answer := m.Type(), bytes.Clone(m.Bytes())
		m.Close()
		if typ == ctlGone {
			p.gone++
		}
		if typ == want {
			return answer, nil
		}
	}
}

func (p *process) must(h imsg.Header, f *os.File, want uint32, data ...byte) []byte {
	p.t.Helper()
	answer, err := p.ask(h, f, want, data...)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer
}

func (p *process) report(light ...byte) (r report) {
	p.t.Helper()
	if err := json.Unmarshal(p.must(imsg.Header{Type: ctlReport}, nil, ctlReport, light...), &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// add gives the server one end of a new channel and returns the other one.
func (p *process) add(id uint32, d imsg.Dialect) (int, error) {
	a, b, err := unixmsg.Pair(true)
	if err != nil {
		return -1, err
	}
	f := os.NewFile(uintptr(b), "channel")
	defer f.Close()
	if _, err := p.ask(imsg.Header{Type: ctlAdd, ID: id}, f, ctlAdd, byte(d)); err != nil {
		unix.Close(a)
		return -1, err
	}
	return a, nil
}

// waitGone waits until n channels have ended.
func (p *process) waitGone(n int) {
	p.t.Helper()
	for p.gone < n {
		p.must(imsg.Header{}, nil, ctlGone)
	}
}

// trips makes n round trips, all honest channels at once, now and then with a
// file unless it is nil, and returns how long they took. A trip takes at least
// pace.
func trips(t *testing.T, conns []*imsg.Conn, n int, null *os.File, pace time.Duration) time.Duration {
	t.Helper()
	ctx := testutil.DeadlineCtx(t)
	beg := time.Now()
	errs := make(chan error, len(conns))
	for _, c := range conns {
		go func() {
			for i := range n {
				var f *os.File
				if i%16 == 3 {
					f = null
				}
				if err := trip(ctx, c, testutil.Pattern(uint32(i), 64), f); err != nil {
					errs <- fmt.Errorf("trip %d of %d: %w", i, n, err)
					return
				}
				if next := beg.Add(time.Duration(i+1) * pace); pace > 0 {
					<-time.After(time.Until(next))
				}
			}
			errs <- nil
		}()
	}
	for range conns {
		testutil.Must(t, <-errs)
	}
	return time.Since(beg)
}

// trip sends a message, which must come back as it was.
func trip(ctx context.Context, c *imsg.Conn, p []byte, f *os.File) error {
	if err := c.Send(ctx, imsg.Header{Type: sayEcho}, f, p); err != nil {
		return err
	}
	m, err := c.Receive(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if m.HasFile() != (f != nil) || !bytes.Equal(m.Bytes(), p) {
		return fmt.Errorf("%d bytes of %d, file %v", m.Len(), len(p), m.HasFile())
	}
	return nil
}
