package privsep

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestParentGone: a child whose parent is gone ends by itself, whatever it was doing.
func TestParentGone(t *testing.T) {
	gate, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	defer keep.Close()
	rows := []struct {
		name, role string
		until      func(*fakeParent)
		status     int
	}{
		{"before hello", "open", func(*fakeParent) {}, 1},
		{"in the middle of hello", "open", func(p *fakeParent) { p.raw([]byte{byte(ctlHello), 0, 0, 0, 100, 0}) }, 1},
		{"after hello", "open", func(p *fakeParent) { p.send(ctlHello, nil, p.hello("open")) }, 1},
		{"in Setup", "patient", func(p *fakeParent) { p.send(ctlHello, nil, p.hello("patient")); p.connect() }, 1},
		{"in a Setup that does not look", "stuck", func(p *fakeParent) {
			h := p.hello("stuck")
			h.Files = 1
			p.send(ctlHello, nil, h)
			p.send(ctlFile, gate, []byte("gate"))
			p.connect()
		}, 1},
		{"after ready", "open", func(p *fakeParent) { p.ready("open") }, 0},
		{"after ready, confined", "closed", func(p *fakeParent) { p.ready("closed") }, 0},
		{"after go", "open", func(p *fakeParent) { p.ready("open"); p.send(ctlGo, nil, []byte{}) }, 0},
		{"after a wrong message", "open", func(p *fakeParent) { p.ready("open"); p.send(99, nil, []byte{}); p.eof() }, 0},
		{"after go twice", "open", func(p *fakeParent) {
			p.ready("open")
			p.send(ctlGo, nil, []byte{})
			p.send(ctlGo, nil, []byte{})
			p.eof()
		}, 0},
		{"after stop", "open", func(p *fakeParent) { p.ready("open"); p.send(ctlStop, nil, []byte{}); p.eof() }, 0},
		{"after go and stop", "open", func(p *fakeParent) {
			p.ready("open")
			p.send(ctlGo, nil, []byte{})
			p.send(ctlStop, nil, []byte{})
			p.eof()
		}, 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			defer leaveNothing(t)()
			p := fakeAdopt(t, r.role)
			r.until(p)
			p.ctl.Close()
			if status := p.exit(); status != r.status {
				t.Errorf("exit status %d instead of %d: %s", status, r.status, p.err)
			}
		})
	}
}

// TestEarlyStop: a parent that ends at once says so in the same breath as all
// the rest. The child must hear it, also one that makes its channel anew.
func TestEarlyStop(t *testing.T) {
	for _, role := range []string{"open", "closed", "patient"} {
		t.Run(role, func(t *testing.T) {
			defer leaveNothing(t)()
			p := fakeAdopt(t, role)
			near, far := imsgtest.Pair(t, nil)
			p.held = append(p.held, near)
			f, err := far.File()
			if err != nil {
				t.Fatal(err)
			}
			far.Close()
			for _, m := range []struct {
				typ  uint32
				file *os.File
				data []byte
			}{
				{ctlHello, nil, marshal(p.hello(role))},
				{ctlPeer, f, marshal(peerName{Role: Parent})},
				{ctlStop, nil, nil},
			} {
				if err := p.ctl.Compose(imsg.Header{Type: m.typ}, m.file, m.data); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.ctl.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.eof()
			p.exit()
		})
	}
}

// TestNotChild: neither the environment nor a descriptor alone makes a child.
func TestNotChild(t *testing.T) {
	socket := func(family, typ int) func() (*os.File, error) {
		return func() (*os.File, error) {
			fd, err := unix.Socket(family, typ, 0)
			unix.CloseOnExec(fd)
			return os.NewFile(uintptr(fd), "socket"), err
		}
	}
	rows := []struct {
		name string
		file func() (*os.File, error)
		main bool
		role string
		want string
	}{
		{"closed", nil, false, "fostered/open/0", ErrNotChild.Error()},
		{"device", func() (*os.File, error) { return os.Open(os.DevNull) }, false, "fostered/open/0", ErrNotChild.Error()},
		{"directory", func() (*os.File, error) { return os.Open("/") }, false, "fostered/open/0", ErrNotChild.Error()},
		{"pipe", func() (*os.File, error) {
			r, w, err := os.Pipe()
			if err == nil {
				w.Close()
			}
			return r, err
		}, false, "fostered/open/0", ErrNotChild.Error()},
		{"TCP socket", socket(unix.AF_INET, unix.SOCK_STREAM), false, "fostered/open/0", ErrNotChild.Error()},
		{"TCP listener", func() (*os.File, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer l.Close()
			return l.(*net.TCPListener).File()
		}, false, "fostered/open/0", ErrNotChild.Error()},
		{"datagram socket", socket(unix.AF_UNIX, unix.SOCK_DGRAM), false, "fostered/open/0", ErrNotChild.Error()},
		{"packet socket", socket(unix.AF_UNIX, unix.SOCK_SEQPACKET), false, "fostered/open/0", ErrNotChild.Error()},
		{"unconnected socket", socket(unix.AF_UNIX, unix.SOCK_STREAM), false, "fostered/open/0", ErrNotChild.Error()},
		{"closed, Main", nil, true, "fostered/open/0", ErrNotChild.Error()},
		{"another daemon, Main", nil, true, "other/open/0", ErrNotChild.Error()},
		{"no number, Main", nil, true, "fostered/open/x", ErrNotChild.Error()},
		{"one word, Main", nil, true, "open", ErrNotChild.Error()},
		{"empty, Main", nil, true, "", ErrNotChild.Error()},
		{"unknown role", func() (*os.File, error) { return fakeOrphan(t) }, false, "fostered/none/0", "hello"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			defer leaveNothing(t)()
			env := []string{envRole + "=" + r.role}
			if r.main {
				env = append(env, envMiddle+"=fostered")
			}
			var f *os.File
			if r.file != nil {
				var err error
				if f, err = r.file(); err != nil {
					t.Fatal(err)
				}
			}
			p := foster(t, f, env...)
			status := p.exit()
			said, _ := io.ReadAll(p.err)
			if status != 1 || !strings.Contains(string(said), r.want) {
				t.Errorf("exit status %d, %q; want 1 and %q", status, said, r.want)
			}
		})
	}
}

// fakeOrphan returns a channel whose other end is closed.
func fakeOrphan(t *testing.T) (*os.File, error) {
	a, b := imsgtest.Pair(t, nil)
	a.Close()
	f, err := b.File()
	b.Close()
	return f, err
}
