package peer_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"example.org/imsg"
	"example.org/imsg/peer"
)

// TestStress lets both ends call each other, stream, send notes and cancel,
// from many goroutines and from handlers that call back, over buffers that
// hold less than one message. A caller has up to four requests that are not
// finished: one it waits for, one it gave up, a note, and a stream it has left.
// Of earlier rounds there are as many as workers, and handlers call back for
// each caller: no more than the other end must hold, 4 x MaxRequests + Workers.
func TestStress(t *testing.T) {
	const callers, rounds = 6, 30
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			a, b := smallBuffers(t, &imsg.Config{AllowFDPass: true})
			cfg := &peer.Config{Workers: workers, MaxCalls: 4, MaxRequests: 8, CancelType: uint32(workers / 4 * 98)}
			p, q := closed(t, peer.New(a, cfg)), closed(t, peer.New(b, cfg))
			big := strings.Repeat("x", 9000)
			for _, x := range []*peer.Peer{p, q} {
				back := func(ctx context.Context, r *peer.Incoming) error {
					text, err := call(ctx, x, string(r.Bytes()))
					if err != nil {
						return err
					}
					return r.Reply(answer, nil, []byte(text))
				}
				if workers == 1 { // one at a time cannot call back
					back = echo
				}
				x.Handle(
					peer.Rule{Type: ask, Handle: echo, File: peer.FileOptional},
					peer.Rule{Type: nest, Handle: back},
					peer.Rule{Type: nest + 1, Handle: counting(20)},
					peer.Rule{Type: note, Handle: func(context.Context, *peer.Incoming) error { return errTest }})
			}
			served := []func() error{serve(t, p), serve(t, q)}
			var wg sync.WaitGroup
			for _, x := range []*peer.Peer{p, q} {
				for i := range callers {
					wg.Go(func() {
						w, _ := pipe(t)
						for n := range rounds {
							text := fmt.Sprint(i, n, big[:n*len(big)/rounds])
							if got, err := call(shortCtx(t), x, text); got != text || err != nil {
								t.Errorf("%.9q, want %.9q: %v", got, text, err)
								return
							}
							m, err := x.Call(shortCtx(t), peer.Request{Type: nest, Data: []byte(text), Ends: []uint32{answer}})
							if string(m.Bytes()) != text || err != nil {
								t.Errorf("called back %.9q, want %.9q: %v", m.Bytes(), text, err)
							}
							m.Close()
							m, _ = x.Call(endingAfter(t, 1+n%8), peer.Request{Type: ask, File: w, Data: []byte(big), Ends: []uint32{answer}})
							m.Close()
							x.Send(endingAfter(t, 1+n%8), note, nil, []byte(big))
							i := 0
							for m, err := range x.Stream(shortCtx(t), peer.Request{Type: nest + 1, Items: []uint32{item, note}, Ends: []uint32{answer}}) {
								if string(m.Bytes()) != fmt.Sprint(i) || err != nil {
									t.Errorf("%q in stream, want %d: %v", m.Bytes(), i, err)
									return
								}
								m.Close()
								if i++; i > n {
									break
								}
							}
						}
					})
				}
			}
			wg.Wait()
			p.Close()
			for _, wait := range served {
				wait()
			}
			for _, x := range []*peer.Peer{p, q} {
				if err := x.Err(); err != nil && x == q && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
			}
		})
	}
}
