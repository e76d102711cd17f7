package relay_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/relay"
)

// child, if not nil, is what a second run of this binary does, if it is told to.
var child func()

func TestMain(m *testing.M) {
	if child != nil {
		child()
	}
	imsgtest.Main(m)
}

// bounded returns a context for one test.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// shortDir returns a directory whose name leaves room for a socket's.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "imsg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A log keeps what a Relay reports, and the records.
type log struct {
	t    testing.TB
	mu   sync.Mutex
	errs chan error
	list []capture.Record
}

func (l *log) report(err error) {
	l.t.Log(err)
	l.errs <- err
}

func (l *log) Write(r *capture.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := *r
	c.Payload, c.Files = slices.Clone(r.Payload), slices.Clone(r.Files)
	l.list = append(l.list, c)
	return nil
}

func (l *log) Close() error { return nil }

// A proxy is a Relay between the clients of a path and a listener of the test.
type proxy struct {
	*log
	relay        *relay.Relay
	record       *relay.Recorder
	path, target string
	daemon       *imsg.Listener
}

// start starts one. All of it has ended when the test has.
func start(t testing.TB, cfg relay.Config) *proxy {
	dir := shortDir(t)
	p := &proxy{log: &log{t: t, errs: make(chan error, 1000)}, path: filepath.Join(dir, "p"), target: filepath.Join(dir, "t")}
	p.record = relay.NewRecorder(p, func(err error) { t.Error(err) })
	cfg.Record, cfg.Report = p.record, p.report
	p.relay = relay.New(cfg)
	p.listen()
	l, err := imsg.Listen(p.path, p.relay.ConnConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.relay.Serve(ctx, l, p.target) }()
	t.Cleanup(func() {
		cancel()
		<-done
		l.Close()
		p.record.Close()
		p.daemon.Close()
	})
	return p
}

// listen makes the daemon's socket.
func (p *proxy) listen() {
	var err error
	if p.daemon, err = imsg.Listen(p.target, &imsg.Config{Dialect: imsg.Auto, AllowFDPass: true}); err != nil {
		p.t.Fatal(err)
	}
}

// connect returns the two ends of a connection through the proxy. With a nil
// cfg the client takes files.
func (p *proxy) connect(ctx context.Context, cfg *imsg.Config) (client, server *imsg.Conn) {
	p.t.Helper()
	if cfg == nil {
		cfg = &imsg.Config{AllowFDPass: true}
	}
	client, err := imsg.Dial(ctx, p.path, cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { client.Close() })
	server, err = p.daemon.Accept(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { server.Close() })
	return client, server
}

// echo answers what clients send until the test ends.
func (p *proxy) echo(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() {
		done <- p.daemon.Serve(ctx, func(ctx context.Context, c *imsg.Conn) {
			for m, err := range c.Each(ctx) {
				if err != nil || c.Forward(ctx, m) != nil {
					return
				}
			}
		})
	}()
	p.t.Cleanup(func() { cancel(); <-done })
}

// records returns what was recorded, which is all there will be.
func (p *proxy) records() []capture.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

// expectEnd receives until the end, which must be io.EOF.
func expectEnd(t testing.TB, ctx context.Context, c *imsg.Conn) {
	t.Helper()
	if m, err := c.Receive(ctx); err != io.EOF {
		t.Errorf("type %d, %v, want the end", m.Type(), err)
		m.Close()
	}
}
