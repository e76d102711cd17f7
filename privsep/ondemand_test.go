package privsep

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"example.org/imsg/peer"
	"example.org/imsg/privsep/sandbox"
)

// sessionDaemon starts a process for each connection.
var sessionDaemon = register(Daemon{Name: "session", User: "nobody", Chroot: EmptyDir, Roles: []Role{
	{Name: "session", OnDemand: true, Instances: 3, Run: witness},
	{Name: "echo", OnDemand: true, Run: echo, Sandbox: sandbox.Policy{Promises: "stdio recvfd inet"}},
	{Name: "fails", OnDemand: true, Run: witness, Setup: func(context.Context, *Proc) error { return errors.New("no session") }},
	{Name: "static", Run: witness, OnExit: Restart},
}})

// echo answers one line of its connection.
func echo(ctx context.Context, p *Proc) error {
	conn, err := net.FileConn(p.File("conn"))
	if err != nil {
		return err
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "%s %s", p.Config(), line)
	return err
}

// TestOnDemand: processes are started while the daemon runs, with what is given to
// each, and their end is for who asked for them.
func TestOnDemand(t *testing.T) {
	handled := make(chan string, 10)
	r := upWith(t, sessionDaemon, func(p *Proc) {
		p.Handle("session", peer.Rule{Type: reqOwn, Handle: func(_ context.Context, in *peer.Incoming) error { handled <- "asked"; return in.Reply(repOwn, nil) }})
	}, patient)
	if n := len(r.Peers("session")) + len(r.Peers("echo")); n > 0 {
		t.Errorf("%d processes at the start", n)
	}
	var sessions []*Child
	for i := range 3 {
		c, err := r.Start(t.Context(), "session", Given{Config: fmt.Append(nil, "number ", i)})
		if err != nil {
			t.Fatal(err)
		}
		if got := ask[string](t, c.Peer(), "config"); got != sum(fmt.Append(nil, "number ", i)) || c.Instance() != i || c.Status().PID == 0 {
			t.Errorf("session %d is %d, has %q, status %v", i, c.Instance(), got, c.Status())
		}
		ask[any](t, c.Peer(), "own")
		<-handled
		sessions = append(sessions, c)
	}
	if _, err := r.Start(t.Context(), "session", Given{}); err == nil || !strings.Contains(err.Error(), "there are 3 already") {
		t.Errorf("a fourth: %v", err)
	}
	if n := len(r.Status()); n != 2+3 {
		t.Errorf("%d are in the status", n)
	}
	var child *ChildError
	tell(t, sessions[0].Peer(), "exit", "3")
	if err := sessions[0].Wait(t.Context()); !errors.As(err, &child) || child.Role != "session" || child.Step != "run" {
		t.Errorf("exit 3: %v", err)
	}
	sessions[1].Stop()
	if err := sessions[1].Wait(t.Context()); err != nil {
		t.Errorf("Stop: %v", err)
	}
	sessions[2].Kill()
	if err := sessions[2].Wait(t.Context()); !errors.As(err, &child) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Kill: %v", err)
	}
	if n := len(r.Peers("session")); n > 0 {
		t.Errorf("%d channels are left", n)
	}
	if _, err := r.Start(t.Context(), "fails", Given{}); !errors.As(err, &child) || child.Step != "setup" || !strings.Contains(err.Error(), "no session") {
		t.Errorf("a start that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := r.Start(ctx, "session", Given{}); err == nil {
		c.Kill() // it was quicker
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if !panics(func() { r.Start(t.Context(), "static", Given{}) }) {
		t.Error("what is not OnDemand was started")
	}

	// One that breaks the rules ends alone.
	c, err := r.Start(t.Context(), "session", Given{})
	if err != nil {
		t.Fatal(err)
	}
	tell(t, c.Peer(), "request", Parent, "99")
	if err := c.Wait(t.Context()); !errors.Is(err, peer.ErrViolation) {
		t.Errorf("a violation: %v", err)
	}

	// A static one can be started again on purpose.
	q := r.Peer("static")
	if err := r.Stop("static", 0); err != nil {
		t.Error(err)
	}
	ask[any](t, r.next("static", 0, q), "hello")

	// What is there at the daemon's end ends with it.
	if c, err = r.Start(t.Context(), "session", Given{}); err != nil {
		t.Fatal(err)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if err := c.Wait(t.Context()); err != nil {
		t.Errorf("at the end: %v", err)
	}
	if _, err := r.Start(t.Context(), "session", Given{}); !errors.Is(err, ErrEnding) {
		t.Errorf("after the end: %v", err)
	}
}

// TestSessions: one process for each of many connections.
func TestSessions(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // after the daemon's end
	const n = 8
	r := up(t, sessionDaemon, patient)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			conn, err := net.Dial("tcp4", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "hello %d\n", i)
			if got, err := bufio.NewReader(conn).ReadString('\n'); got != fmt.Sprintf("echo: hello %d\n", i) {
				t.Errorf("%d: %q, %v", i, got, err)
			}
		})
	}
	for range n {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		c, err := r.Start(t.Context(), "echo", Given{Config: []byte("echo:"), Files: map[string]*os.File{"conn": f}})
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if err := c.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
