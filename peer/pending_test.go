package peer_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"testing"

	"example.org/imsg/peer"
)

// TestPending looks at what is pending, in every state, at both ends.
func TestPending(t *testing.T) {
	p, q := both(t, &peer.Config{MaxCalls: 3, WriteTimeout: -1})
	begun := make(chan bool, 10)
	q.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
		begun <- true
		<-ctx.Done()
		return nil
	}}, peer.Rule{Type: nest, Handle: func(_ context.Context, r *peer.Incoming) error {
		r.ReplyLater()
		begun <- true
		return nil
	}})
	serve(t, q)
	request := func(ctx context.Context, typ uint32) {
		go func() {
			m, _ := p.Call(ctx, peer.Request{Type: typ, Ends: []uint32{answer}})
			m.Close()
		}()
	}
	request(shortCtx(t), nest)
	<-begun
	ctx, cancel := context.WithCancel(shortCtx(t))
	request(ctx, ask)
	<-begun
	cancel()
	until(t, "giving up", func() bool { return p.Pending().Calls[1].State == peer.GivenUp })
	for n := range 3 { // two take the places that are left
		request(shortCtx(t), ask)
		until(t, "calling", func() bool {
			calls := p.Pending().Calls
			return len(calls) == 3+n && (n == 2 || calls[2+n].State == peer.Unanswered)
		})
	}
	until(t, "waiting", func() bool { return len(q.Pending().Requests) == 4 })
	states := func(list []peer.PendingRequest) (s string) {
		for i, r := range list {
			s += r.State.String() + " "
			if i > 0 && r.Age > list[i-1].Age {
				t.Errorf("not the oldest first: %+v", list)
			}
		}
		return s
	}
	got := p.Pending()
	if s := states(got.Calls); s != "unanswered given up unanswered unanswered waiting " || got.Calls[0].Type != nest || got.Calls[0].ID != 1 || got.Calls[4].ID != 0 {
		t.Errorf("%s%+v", s, got)
	}
	if s := states(q.Pending().Requests); s != "later handled waiting waiting " {
		t.Errorf("%s%+v", s, q.Pending())
	}
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	log.Info("here", "pending", got)
	want := `"pending.calls.type 5 unanswered"="1, oldest .*s" "pending.calls.type 1 given up"="1, .*" "pending.calls.type 1 unanswered"="2, .*" "pending.calls.type 1 waiting"="1, `
	if !regexp.MustCompile(want).Match(text.Bytes()) {
		t.Error(text.String())
	}
	p.Close()
	until(t, "ending", func() bool { return len(p.Pending().Calls) == 0 })
}
