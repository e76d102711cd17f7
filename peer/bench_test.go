package peer_test

import (
	"context"
	"sync"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// pong answers every message of c until it is closed.
func pong(c *imsg.Conn) {
	for m, err := range c.All(context.Background()) {
		if err != nil {
			return
		}
		c.Send(context.Background(), imsg.Header{Type: answer, ID: m.ID()}, nil, m.Bytes())
		m.Close()
	}
}

var payload = make([]byte, 64)

// BenchmarkRaw is a ping-pong without peers, to compare with.
func BenchmarkRaw(b *testing.B) {
	x, y := imsgtest.Pair(b, nil)
	go pong(y)
	b.ReportAllocs()
	for b.Loop() {
		testutil.Must(b, x.Send(context.Background(), imsg.Header{Type: ask, ID: 1}, nil, payload))
		m, err := x.Receive(context.Background())
		testutil.Must(b, err)
		m.Close()
	}
}

func ping(b *testing.B, p *peer.Peer) {
	m, err := p.Call(context.Background(), peer.Request{Type: ask, Data: payload, Ends: []uint32{answer}})
	testutil.Check(b, err)
	m.Close()
}

// BenchmarkCall calls a bare channel that answers.
func BenchmarkCall(b *testing.B) {
	p, c := end(b, nil)
	go pong(c)
	b.ReportAllocs()
	for b.Loop() {
		ping(b, p)
	}
}

// BenchmarkServe asks a peer that answers from a bare channel.
func BenchmarkServe(b *testing.B) {
	p, c := end(b, nil)
	p.Handle(peer.Rule{Type: ask, Handle: echo})
	serve(b, p)
	b.ReportAllocs()
	for b.Loop() {
		testutil.Must(b, c.Send(context.Background(), imsg.Header{Type: ask, ID: 1}, nil, payload))
		m, err := c.Receive(context.Background())
		testutil.Must(b, err)
		m.Close()
	}
}

// BenchmarkBoth has a peer at each end, and one or many callers.
func BenchmarkBoth(b *testing.B) {
	for name, callers := range map[string]int{"1": 1, "32": 32} {
		b.Run(name, func(b *testing.B) {
			p, q := both(b, &peer.Config{Workers: 2})
			q.Handle(peer.Rule{Type: ask, Handle: echo})
			serve(b, q)
			b.ReportAllocs()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range b.N/callers + 1 {
						ping(b, p)
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkStream takes answers of many messages.
func BenchmarkStream(b *testing.B) {
	p, q := both(b, nil)
	q.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		for range b.N {
			if err := r.Reply(item, nil, payload); err != nil {
				return err
			}
		}
		return r.Reply(answer, nil)
	}})
	serve(b, q)
	b.ReportAllocs()
	for m, err := range p.Stream(context.Background(), list) {
		testutil.Must(b, err)
		m.Close()
	}
}
