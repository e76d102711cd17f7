package peer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// TestPause sends more requests than may wait: reading stops until handlers
// have taken them.
func TestPause(t *testing.T) {
	const most, requests = 5, 300
	p, c := end(t, &peer.Config{MaxRequests: most})
	var handled uint64
	p.Handle(peer.Rule{Type: note, Handle: func(context.Context, *peer.Incoming) error {
		received := func() uint64 { return p.Conn().Stats().Received.Messages }
		handled++
		until(t, "reading on", func() bool { return received() >= min(handled+most, requests) })
		if n := received(); n > handled+most {
			t.Errorf("request %d is handled, %d were read", handled, n)
		}
		return nil
	}})
	served := serve(t, p)
	for range requests {
		send(t, c, imsg.Header{Type: note}, nil, strings.Repeat("x", 2000))
	}
	c.Close()
	check(t, "Serve", served(), nil)
	testutil.Equal(t, "handled", handled, requests)
}

// TestReadOn sends more requests than may wait while somebody waits for an
// answer that comes behind them.
func TestReadOn(t *testing.T) {
	const most = 5
	for _, requests := range []int{most + 1, 4 * most, 4*most + 1} {
		p, c := end(t, &peer.Config{MaxRequests: most})
		answered := make(chan struct{})
		p.Handle(peer.Rule{Type: note, Handle: func(context.Context, *peer.Incoming) error {
			<-answered
			return nil
		}})
		served := serve(t, p)
		called := calling(shortCtx(t), p, "")
		id := receive(t, c).ID()
		for range requests {
			send(t, c, imsg.Header{Type: note}, nil, "")
		}
		send(t, c, imsg.Header{Type: answer, ID: id}, nil, "")
		if requests <= 4*most { // one is with its handler
			check(t, "Call", <-called, nil)
			close(answered)
		} else {
			// One more than may be read before a handler returns.
			until(t, "reading", func() bool { return p.Conn().Stats().Received.Messages >= uint64(4*most+1) })
			for range 100 {
				if n := p.Conn().Stats().Received.Messages; n > 4*most+1 {
					t.Fatalf("%d were read", n)
				}
			}
			close(answered)
			check(t, "Call", <-called, nil)
		}
		c.Close()
		check(t, "Serve", served(), nil)
	}
}

// TestFlood sends requests without end while all handlers wait for an answer.
func TestFlood(t *testing.T) {
	const most = 5
	for _, workers := range []int{1, 3} {
		p, c := end(t, &peer.Config{MaxRequests: most, Workers: workers})
		p.Handle(peer.Rule{Type: note, File: peer.FileOptional, Handle: func(ctx context.Context, r *peer.Incoming) error {
			_, err := call(ctx, p, "never answered")
			return err
		}})
		served := serve(t, p)
		w, r := pipe(t)
		for {
			if err := c.Send(shortCtx(t), imsg.Header{Type: note}, w); err != nil {
				break
			}
		}
		w.Close()
		wantViolation(t, fmt.Sprint(workers, " workers"), served(), "request type 4: one too many, 20 wait")
		allClosed(t, r)
	}
}

// TestStuckReplies sends requests without end and takes no answer.
func TestStuckReplies(t *testing.T) {
	a, c := smallBuffers(t, nil)
	p := closed(t, peer.New(a, &peer.Config{MaxRequests: 2, Workers: 2}))
	p.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		return r.Reply(answer, nil, make([]byte, 16000))
	}})
	served := serve(t, p)
	for c.Send(shortCtx(t), imsg.Header{Type: ask, ID: 1}, nil) == nil {
	}
	wantViolation(t, "Serve", served(), "one too many, 8 wait")
}

// TestNested lets handlers call back, deeper than there are workers.
func TestNested(t *testing.T) {
	const depth = 20
	a, b := smallBuffers(t, nil)
	cfg := &peer.Config{Workers: 2, MaxCalls: 1}
	p, q := closed(t, peer.New(a, cfg)), closed(t, peer.New(b, cfg))
	for _, x := range []*peer.Peer{p, q} {
		x.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
			text := string(r.Bytes())
			if len(text) < depth {
				var err error
				if text, err = call(ctx, x, text+"x"); err != nil {
					return err
				}
			}
			return r.Reply(answer, nil, []byte(text))
		}})
	}
	served := serve(t, q)
	if text, err := call(shortCtx(t), p, ""); len(text) != depth || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	p.Close()
	check(t, "Serve", served(), nil)
}

// TestEndlessNesting ends as a flood.
func TestEndlessNesting(t *testing.T) {
	p, q := both(t, &peer.Config{Workers: 2, MaxRequests: 4})
	for _, x := range []*peer.Peer{p, q} {
		x.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
			_, err := call(ctx, x, "")
			return err
		}})
	}
	served := serve(t, q)
	_, err := call(shortCtx(t), p, "")
	if err == nil {
		t.Error("an answer")
	}
	<-p.Done()
	if errs := errors.Join(p.Err(), served()); !errors.Is(errs, peer.ErrViolation) {
		t.Error(errs)
	}
}

// TestLeftBehind makes calls for handlers that have returned.
func TestLeftBehind(t *testing.T) {
	p, c := end(t, &peer.Config{Workers: 2})
	var left sync.WaitGroup
	p.Handle(peer.Rule{Type: note, Handle: func(ctx context.Context, r *peer.Incoming) error {
		seen := make(chan struct{})
		left.Go(func() {
			close(seen)
			if text, err := call(ctx, p, "behind"); text != "late" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
		})
		<-seen
		check(t, "Send", p.Send(ctx, note, nil), nil)
		return nil
	}}, peer.Rule{Type: ask, Handle: echo})
	served := serve(t, p)
	var ids []uint32
	for range 10 {
		send(t, c, imsg.Header{Type: note}, nil, "")
		for range 2 {
			if m := receive(t, c); m.Type() == ask {
				ids = append(ids, m.ID())
			}
		}
	}
	for i, id := range ids {
		send(t, c, imsg.Header{Type: answer, ID: id}, nil, "late")
		send(t, c, imsg.Header{Type: ask, ID: uint32(1000 + i)}, nil, "")
		if m := receive(t, c); m.ID() != uint32(1000+i) {
			t.Errorf("%+v", m.Header())
		}
	}
	left.Wait()
	c.Close()
	check(t, "Serve", served(), nil)
}
