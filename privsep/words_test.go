package privsep

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/peer"
)

const lastWords = 100

// The middle one has much to say at the end, to its parent and to the one after
// it, which serves it to its end.
var wordsDaemon = register(Daemon{Name: "words", Roles: []Role{
	{Name: "middle", Run: talkative, Peers: []string{"after"}},
	{Name: "after", Run: listening},
}})

func talkative(ctx context.Context, p *Proc) error {
	peers := []*peer.Peer{p.Peer("after"), p.Parent()}
	for _, q := range peers { // who answers is in Serve; then the parent ends the daemon
		m, err := q.Call(context.Background(), peer.Request{Type: reqDo, Ends: []uint32{repDo}})
		if err != nil {
			return err
		}
		m.Close()
	}
	<-ctx.Done()
	for range lastWords {
		for _, q := range peers {
			if err := q.Send(context.Background(), reqOwn, nil, []byte("x")); err != nil {
				return err
			}
		}
	}
	return nil
}

func listening(ctx context.Context, p *Proc) error {
	p.Handle("middle",
		peer.Rule{Type: reqDo, Handle: func(_ context.Context, in *peer.Incoming) error { return in.Reply(repDo, nil) }},
		peer.Rule{Type: reqOwn, Handle: func(_ context.Context, in *peer.Incoming) error {
			_, err := p.File("words").Write(in.Bytes())
			return err
		}})
	return p.Serve(ctx)
}

// TestLastWords: what a child says at the end is heard, by the parent and by the
// roles that are declared after it.
func TestLastWords(t *testing.T) {
	heard := 0
	log, pipes := &records{}, make(chan *os.File, 1)
	ctx, cancel := context.WithCancel(t.Context())
	wait := begin(t, ctx, wordsDaemon, patient, func(d *Daemon) {
		d.Logger = log.logger(0)
		d.Prepare = func(_ context.Context, p *Proc) error {
			words, end, err := os.Pipe()
			if err != nil {
				return err
			}
			p.AddFile("after", "words", end)
			pipes <- words
			return nil
		}
		d.Parent = func(ctx context.Context, p *Proc) error {
			p.Handle("middle",
				peer.Rule{Type: reqDo, Handle: func(_ context.Context, in *peer.Incoming) error { cancel(); return in.Reply(repDo, nil) }},
				peer.Rule{Type: reqOwn, Handle: func(context.Context, *peer.Incoming) error { heard++; return nil }})
			return p.Serve(ctx)
		}
	})
	words := <-pipes
	words.SetDeadline(time.Now().Add(limit))
	written, err := io.ReadAll(words)
	if err != nil || len(written) != lastWords {
		t.Errorf("the role after it has heard %d words of %d, %v", len(written), lastWords, err)
	}
	words.Close()
	if err := wait(); err != nil || heard != lastWords {
		t.Errorf("the parent has heard %d words of %d, %v\n%s", heard, lastWords, err, log)
	}
}

// TestPrepareDeclares: Prepare may change what is declared.
func TestPrepareDeclares(t *testing.T) {
	dir := rootDir(t)
	r := up(t, pairDaemon, func(d *Daemon) {
		d.Prepare = func(context.Context, *Proc) error {
			d.User, d.Roles[1].Chroot, d.Roles[1].Instances = "daemon", dir, 3
			d.Roles[1].Sandbox.Promises = "stdio"
			return nil
		}
	})
	if n := len(r.Peers("b")); n != 3 {
		t.Fatalf("%d instances", n)
	}
	for i, q := range r.Peers("b") {
		s := r.status("b", i)
		if s.Sandbox.System == "" || isRoot() != (s.UID == 1) || isRoot() != (s.Chroot == dir) {
			t.Errorf("status %v", s)
		}
		name := "/a"
		if !isRoot() {
			name = "/etc/passwd"
		}
		if _, err := try[string](t.Context(), q, nil, "open", name); !refused(err, syscall.EPERM, syscall.EACCES) {
			t.Errorf("open without rpath: %v", err)
		}
	}
}

var farewellDaemon = register(Daemon{Name: "farewell", Roles: []Role{{Name: "a", Run: func(ctx context.Context, p *Proc) error {
	p.Logger().Info("it runs")
	<-ctx.Done()
	return p.Parent().Send(context.Background(), reqOwn, nil)
}}}})

// TestServeAtEnd: the parent hears its children to their end, even if it begins to
// listen only then.
func TestServeAtEnd(t *testing.T) {
	heard, log := 0, make(lines, 100)
	r := up(t, farewellDaemon, func(d *Daemon) {
		d.Logger = log.logger()
		d.Parent = func(ctx context.Context, p *Proc) error {
			p.Handle("a", peer.Rule{Type: reqOwn, Handle: func(context.Context, *peer.Incoming) error { heard++; return nil }})
			<-ctx.Done()
			return p.Serve(ctx)
		}
	})
	log.wait(t, "it runs")
	if err := r.end(); err != nil || heard != 1 {
		t.Errorf("the parent has heard %d words, %v", heard, err)
	}
}
