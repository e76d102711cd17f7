package peer_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// TestCancelEverywhere ends a call's context at each place where it is looked
// at. The next call finds its own answer all the same, and its place.
func TestCancelEverywhere(t *testing.T) {
	matches(t, func(t *testing.T, match peer.Match) {
		cancelled := 0
		for n := 1; ; n++ {
			p, q := both(t, &peer.Config{Match: match, MaxCalls: 1})
			q.Handle(peer.Rule{Type: ask, Handle: echo})
			served := serve(t, q)
			text, err := call(endingAfter(t, n), p, "first")
			wantAnswer(t, p, "second", "second")
			p.Close()
			check(t, "Serve", served(), nil)
			if err == nil {
				if text != "first" || cancelled < 3 {
					t.Errorf("%q at look %d, %d were cancelled", text, n, cancelled)
				}
				break
			}
			cancelled++
			check(t, fmt.Sprint("look ", n), err, context.Canceled)
		}
	})
}

// cancelled makes a call of p and cancels it when the request has come to c,
// whose header it returns.
func cancelled(t *testing.T, p *peer.Peer, c *imsg.Conn) imsg.Header {
	t.Helper()
	ctx, cancel := context.WithCancel(shortCtx(t))
	called := calling(ctx, p, "first")
	first := receive(t, c).Header()
	cancel()
	check(t, "Call", <-called, context.Canceled)
	return first
}

// TestCancelWaiting cancels a call of which everything was sent. Its answer,
// which comes later with files, is closed, and a later call gets its own.
func TestCancelWaiting(t *testing.T) {
	for _, match := range []peer.Match{peer.ByID, peer.InOrder} {
		for _, last := range []uint32{answer, failed} {
			p, c := end(t, &peer.Config{Match: match, ErrorType: failed, MaxCalls: 2})
			first := cancelled(t, p, c)

			var again sync.WaitGroup
			again.Go(func() { wantAnswer(t, p, "second", "second") })
			second := receive(t, c).Header()
			w, r := pipe(t)
			send(t, c, imsg.Header{Type: item, ID: first.ID}, w, "")
			send(t, c, imsg.Header{Type: last, ID: first.ID}, w, "first")
			w.Close()
			allClosed(t, r)
			send(t, c, imsg.Header{Type: answer, ID: second.ID}, nil, "second")
			again.Wait()
		}
	}
}

// TestCancelledHoldsPlace cancels a call that is not answered where answers are
// recognised by their order: the next has to wait, can be cancelled without a
// trace, and says what it has waited for.
func TestCancelledHoldsPlace(t *testing.T) {
	for _, match := range []peer.Match{peer.ByPID, peer.InOrder} {
		p, c := end(t, &peer.Config{Match: match, MaxCalls: 1})
		first := cancelled(t, p, c)
		for range 3 {
			_, err := call(endingAfter(t, 2), p, "never sent")
			check(t, "a call without a place", err, context.Canceled)
			if !strings.Contains(err.Error(), "1 of 1 places are held by calls that were given up") {
				t.Error(err)
			}
		}
		send(t, c, imsg.Header{Type: answer, ID: first.ID, PID: first.PID}, nil, "")
		go call(shortCtx(t), p, "second")
		if m := receive(t, c); string(m.Bytes()) != "second" {
			t.Errorf("match %d: %q was sent", match, m.Bytes())
		}
	}
}

// TestCancelHalfSent cancels calls and sends that are stuck with a part of
// their message written: the rest follows, with nobody else sending.
func TestCancelHalfSent(t *testing.T) {
	big := strings.Repeat("x", 16000)
	for _, match := range []peer.Match{peer.ByID, peer.InOrder} {
		a, c := smallBuffers(t, &imsg.Config{AllowFDPass: true})
		p := closed(t, peer.New(a, &peer.Config{Match: match}))
		ctx, cancel := context.WithCancel(shortCtx(t))
		var wg sync.WaitGroup
		w, _ := pipe(t)
		wg.Go(func() {
			_, err := p.Call(ctx, peer.Request{Type: ask, File: w, Data: []byte(big), Ends: []uint32{answer}})
			check(t, "Call", err, context.Canceled)
		})
		until(t, "writing a part", func() bool { return a.Stats().Sent.Bytes > 0 })
		wg.Go(func() { check(t, "Send", p.Send(ctx, note, nil, []byte("stuck")), context.Canceled) })
		cancel()
		wg.Wait()
		w.Close()
		m := receive(t, c)
		if string(m.Bytes()) != big || m.Type() != ask || !m.HasFile() {
			t.Errorf("match %d: type %d with %d bytes, file %v", match, m.Type(), m.Len(), m.HasFile())
		}
		send(t, c, imsg.Header{Type: answer, ID: m.ID()}, m.TakeFile(), "late")
		wg.Go(func() {
			wantAnswer(t, p, "next", "good")
		})
		m = receive(t, c)
		testutil.Equal(t, fmt.Sprintf("match %d", match), string(m.Bytes()), "next")
		send(t, c, imsg.Header{Type: answer, ID: m.ID()}, nil, "good")
		wg.Wait()
	}
}

// TestCloseHalfSent closes the peer while the rest of a message is on its way.
func TestCloseHalfSent(t *testing.T) {
	a, c := smallBuffers(t, nil)
	p := closed(t, peer.New(a, nil))
	ctx, cancel := context.WithCancel(shortCtx(t))
	sent := testutil.Go(func() error { return p.Send(ctx, note, nil, make([]byte, 16000)) })
	until(t, "writing a part", func() bool { return a.Stats().Sent.Bytes > 0 })
	cancel()
	check(t, "Send", <-sent, context.Canceled)
	testutil.Check(t, p.Close())
	_, err := c.Receive(shortCtx(t))
	check(t, "Receive", err, io.ErrUnexpectedEOF)
	<-p.Done()
}

// TestGone makes requests of an end that is gone, without reading first.
func TestGone(t *testing.T) {
	p, c := end(t, nil)
	c.Close()
	check(t, "Send", p.Send(shortCtx(t), note, nil), io.ErrUnexpectedEOF)
	_, err := call(shortCtx(t), p, "")
	check(t, "Call", err, io.ErrUnexpectedEOF)
	check(t, "Serve", p.Serve(shortCtx(t)), nil)
}

// TestServeContext lets Serve's context end at once.
func TestServeContext(t *testing.T) {
	p, _ := end(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(t, "Serve", p.Serve(ctx), context.Canceled)
	check(t, "Err", p.Err(), context.Canceled)
}

// TestAbandoned gives up many calls that are never answered: others have room.
// What comes for those is closed, also if they are not remembered; an answer
// that nobody has ever asked for ends the peer.
func TestAbandoned(t *testing.T) {
	p, c := end(t, &peer.Config{MaxCalls: 2})
	var ids []uint32
	for range 30 {
		ids = append(ids, cancelled(t, p, c).ID)
	}
	if n := len(p.Pending().Calls); n > 8 {
		t.Errorf("%d are remembered", n)
	}
	w, r := pipe(t)
	for _, id := range ids {
		send(t, c, imsg.Header{Type: item, ID: id}, w, "")
		send(t, c, imsg.Header{Type: answer, ID: id}, w, "")
	}
	w.Close()
	allClosed(t, r)
	got := calling(shortCtx(t), p, "")
	m := receive(t, c)
	send(t, c, imsg.Header{Type: answer, ID: m.ID()}, nil, "")
	check(t, "a call behind", <-got, nil)
	send(t, c, imsg.Header{Type: answer, ID: m.ID() + 1}, nil, "")
	<-p.Done()
	check(t, "Err", p.Err(), peer.ErrViolation)
}

// TestCancelType gives up calls whose handlers have begun, and some that wait:
// the handler's context ends, and what waits is not handled.
func TestCancelType(t *testing.T) {
	p, q := both(t, &peer.Config{CancelType: nest, MaxCalls: 2})
	began := make(chan string, 10)
	q.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
		began <- string(r.Bytes())
		if string(r.Bytes()) == "last" {
			return echo(ctx, r)
		}
		for r.Reply(item, nil) == nil && string(r.Bytes()) == "stream" && ctx.Err() == nil {
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	served := serve(t, q)
	var cancels []context.CancelFunc
	results := make(chan error, 2)
	for n, text := range []string{"begun", "waits"} {
		ctx, cancel := context.WithCancel(shortCtx(t))
		cancels = append(cancels, cancel)
		go func() {
			_, err := call(ctx, p, text)
			results <- err
		}()
		until(t, "receiving", func() bool { return q.Conn().Stats().Received.Messages == uint64(n+1) })
	}
	<-began
	for _, cancel := range []context.CancelFunc{cancels[1], cancels[0]} {
		cancel()
		check(t, "Call", <-results, context.Canceled)
	}
	until(t, "answering both", func() bool { return len(p.Pending().Calls)+len(q.Pending().Requests) == 0 })
	for m, err := range p.Stream(shortCtx(t), peer.Request{Type: ask, Data: []byte("stream"), Items: []uint32{item}, Ends: []uint32{answer}}) {
		if m.Close(); err != nil {
			t.Error(err)
		}
		break
	}
	wantAnswer(t, p, "last", "last")
	p.Close()
	check(t, "Serve", served(), nil)
	close(began)
	n := 0
	for range began {
		n++
	}
	testutil.Equal(t, "handled, of the stream and the last", n, 2)
}
