package peer_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// list asks for an answer of many messages.
var list = peer.Request{Type: ask, Items: []uint32{item, note}, Ends: []uint32{answer}}

// counting answers with n items, of two types, and an end.
func counting(n int) peer.Handler {
	return func(_ context.Context, r *peer.Incoming) error {
		for i := range n {
			if err := r.Reply([]uint32{item, note}[i%2], nil, fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return r.Reply(answer, nil, fmt.Append(nil, n))
	}
}

// TestStream takes answers of different lengths to the end.
func TestStream(t *testing.T) {
	matches(t, func(t *testing.T, match peer.Match) {
		for _, n := range []int{0, 1, 63, 64, 65, 1000} {
			p, q := both(t, &peer.Config{Match: match})
			q.Handle(peer.Rule{Type: ask, Handle: counting(n)})
			serve(t, q)
			stream := p.Stream(shortCtx(t), list)
			for range 2 { // each loop is a request of its own
				i := 0
				for m, err := range stream {
					testutil.Must(t, err)
					if string(m.Bytes()) != fmt.Sprint(i) {
						t.Fatalf("%q, want %d", m.Bytes(), i)
					}
					i++
					m.Close()
				}
				testutil.Equal(t, "messages", i, n+1)
			}
		}
	})
}

// TestStreamBroken leaves the loop after each message of a short answer.
func TestStreamBroken(t *testing.T) {
	const n = 3
	matches(t, func(t *testing.T, match peer.Match) {
		p, q := both(t, &peer.Config{Match: match, MaxCalls: 1})
		q.Handle(peer.Rule{Type: ask, Handle: counting(n)})
		serve(t, q)
		for stop := range n + 1 {
			i := 0
			for m, err := range p.Stream(shortCtx(t), list) {
				if err != nil || string(m.Bytes()) != fmt.Sprint(i) {
					t.Fatalf("stop %d, message %d: %q, %v", stop, i, m.Bytes(), err)
				}
				m.Close()
				if i++; i > stop {
					break
				}
			}
		}
	})
}

// TestStreamErrors ends streams with errors, before and in the middle.
func TestStreamErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(*peer.Peer, *imsg.Conn, imsg.Header, context.CancelFunc)
		want error // nil: a RemoteError
		more int   // messages that had come and are still delivered
	}{
		{"failed", func(_ *peer.Peer, c *imsg.Conn, h imsg.Header, _ context.CancelFunc) {
			send(t, c, imsg.Header{Type: failed, ID: h.ID}, nil, "no more")
		}, nil, 1},
		{"cancelled", func(_ *peer.Peer, _ *imsg.Conn, _ imsg.Header, cancel context.CancelFunc) { cancel() }, context.Canceled, 0},
		{"closed", func(p *peer.Peer, _ *imsg.Conn, _ imsg.Header, _ context.CancelFunc) { p.Close() }, net.ErrClosed, 0},
		{"gone", func(p *peer.Peer, c *imsg.Conn, _ imsg.Header, _ context.CancelFunc) {
			c.Close()
			<-p.Done()
		}, io.ErrUnexpectedEOF, 1},
		{"rule broken", func(p *peer.Peer, c *imsg.Conn, h imsg.Header, _ context.CancelFunc) {
			send(t, c, imsg.Header{Type: nest, ID: h.ID}, nil, "")
			<-p.Done()
		}, net.ErrClosed, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := end(t, &peer.Config{ErrorType: failed})
			ctx, cancel := context.WithCancel(shortCtx(t))
			defer cancel()
			w, r := pipe(t)
			got := 0
			var last error
			answering(t, c, func(m imsg.Message) {
				c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, nil)
				c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, w)
				w.Close()
			})
			for m, err := range p.Stream(ctx, list) {
				if last = err; err != nil {
					break
				}
				if got++; got == 1 {
					until(t, "receiving the second", func() bool { return p.Conn().Stats().Received.Messages == 2 })
					tt.then(p, c, imsg.Header{ID: 1}, cancel)
				}
				m.Close()
			}
			testutil.Equal(t, "messages", got, 1+tt.more)
			if tt.want == nil {
				wantRemote(t, "Stream", last, "no more")
			} else {
				check(t, "Stream", last, tt.want)
			}
			allClosed(t, r)
		})
	}
	p, _ := end(t, nil)
	for m, err := range p.Stream(shortCtx(t), peer.Request{Type: ask}) {
		if err == nil {
			t.Error(m.Type())
		}
	}
}

// TestSlowStream does not take an answer of many messages. Reading stops while
// nobody else waits, and goes on when somebody does: then the stream alone
// fails if it falls behind too far.
func TestSlowStream(t *testing.T) {
	for _, tt := range []struct {
		items int
		fails bool
	}{{200, false}, {255, false}, {400, true}} {
		p, c := end(t, nil)
		begun := make(chan struct{}) // nobody sends or waits any more
		answering(t, c, func(m imsg.Message) {
			c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, nil)
			<-begun
			for range tt.items - 1 {
				c.Compose(imsg.Header{Type: item, ID: m.ID()}, nil, make([]byte, 2000))
			}
			c.Compose(imsg.Header{Type: answer, ID: m.ID()}, nil)
			c.Flush(t.Context())
			for m, err := range c.All(t.Context()) {
				if err == nil {
					c.Send(t.Context(), imsg.Header{Type: answer, ID: m.ID()}, nil)
				}
				m.Close()
			}
		})
		got := 0
		var last error
		for m, err := range p.Stream(shortCtx(t), list) {
			if last = err; err != nil {
				break
			}
			m.Close()
			if got++; got > 1 {
				continue
			}
			close(begun)
			stats := func() uint64 { return p.Conn().Stats().Received.Messages }
			until(t, "receiving as many as may be", func() bool { return stats() >= 64 })
			for range 100 {
				if n := stats(); n > 65 {
					t.Fatalf("%d messages were received while the loop waits", n)
				}
			}
			wantAnswer(t, p, "", "")
		}
		if tt.fails {
			if got != 1 || last == nil || !strings.Contains(last.Error(), "256 messages") {
				t.Errorf("%d items: %d messages, %v", tt.items, got, last)
			}
		} else if got != tt.items+1 || last != nil {
			t.Errorf("%d items: %d messages, %v", tt.items, got, last)
		}
		wantAnswer(t, p, "", "")
	}
}

// endless answers the first request of c with items for as long as it can.
func endless(t *testing.T, c *imsg.Conn) {
	answering(t, c, func(m imsg.Message) {
		for c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, nil) == nil {
		}
	})
}

// TestContextFirst ends the context of a call that has messages at hand, and
// will have for ever.
func TestContextFirst(t *testing.T) {
	p, c := end(t, nil)
	endless(t, c)
	ctx, cancel := context.WithCancel(shortCtx(t))
	got := 0
	var last error
	for m, err := range p.Stream(ctx, list) {
		if last = err; err != nil || got == 1000 {
			break
		}
		m.Close()
		if got++; got == 1 {
			until(t, "receiving some", func() bool { return p.Conn().Stats().Received.Messages > 10 })
			cancel()
		}
	}
	check(t, "Stream", last, context.Canceled)
	testutil.Equal(t, "messages before the end of the context", got, 1)

	p, c = end(t, nil)
	endless(t, c)
	ctx, cancel = context.WithCancel(shortCtx(t))
	called := calling(ctx, p, "")
	until(t, "receiving many", func() bool { return p.Conn().Stats().Received.Messages > 1000 })
	cancel()
	check(t, "Call", <-called, context.Canceled)
}
