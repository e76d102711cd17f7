package imsg_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestManyReadsBeforeGet reads, in pieces of every size, small and large
// messages of which few are taken until all have arrived: each once, in order.
func TestManyReadsBeforeGet(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testutil.NoLeak(t)
			rnd := rand.New(rand.NewPCG(seed, 1))
			peer, s := imsgtest.Sockets(t)
			b := imsg.NewBuf(s.FD, nil)
			t.Cleanup(b.Clear)
			if err := b.SetMaxSize(1 << 20); err != nil {
				t.Fatal(err)
			}
			var stream []byte
			var sizes []int
			for len(stream) < 600_000 {
				n := rnd.IntN(2000)
				if rnd.IntN(4) == 0 {
					n = rnd.IntN(200_000)
				}
				stream = append(stream, testutil.Frame(imsg.Current, uint32(len(sizes)+1), n, false)...)
				sizes = append(sizes, n)
			}
			taken := 0
			take := func(n int) {
				for ; n > 0; n-- {
					m, ok := b.Get()
					if !ok {
						return
					}
					testutil.CheckFrame(t, m, uint32(taken+1), sizes[taken])
					m.Close()
					taken++
				}
			}
			piece := 500 + rnd.IntN(3000)
			if seed%4 == 0 {
				piece = 20_000
			}
			for total := uint64(0); len(stream) > 0; {
				n := min(len(stream), 1+rnd.IntN(piece))
				peer.Write(stream[:n])
				stream = stream[n:]
				for total += uint64(n); b.Stats().Received.Bytes < total; {
					if err := b.ReadSocket(); err != nil {
						t.Fatal(err)
					}
				}
				if rnd.IntN(32) == 0 {
					take(rnd.IntN(3))
				}
			}
			take(len(sizes))
			if taken != len(sizes) {
				t.Fatalf("%d messages of %d", taken, len(sizes))
			}
		})
	}
}

// TestOneMessageKept keeps the first message and forgets all others without
// closing them: "slower, never wrong" must not mean that memory grows.
func TestOneMessageKept(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	ctx := testutil.DeadlineCtx(t)
	payload := make([]byte, 16000)
	receive := func() imsg.Message {
		if err := a.Send(ctx, imsg.Header{Type: 1}, nil, payload); err != nil {
			t.Fatal(err)
		}
		m, err := b.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	kept := receive()
	before := testutil.Heap()
	for range 4000 {
		receive()
	}
	if grown := testutil.Heap() - before; grown > 8<<20 {
		t.Errorf("one message of %d bytes kept %d bytes of memory of 4000 forgotten ones", kept.Len(), grown)
	}
	kept.Close()
}

// TestMessageAboveMaxPending receives one message that is larger than
// MaxPendingBytes: nobody can take it before it is whole.
func TestMessageAboveMaxPending(t *testing.T) {
	testutil.NoLeak(t)
	peer, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, &imsg.Config{MaxPendingBytes: 1000})
	t.Cleanup(b.Clear)
	peer.Write(testutil.Frame(imsg.Current, 1, 9000, false))
	for range 10 {
		if err := b.ReadSocket(); err != nil {
			t.Fatalf("nothing to take, but: %v", err)
		}
		if m, ok := b.Get(); ok {
			testutil.CheckFrame(t, m, 1, 9000)
			m.Close()
			return
		}
	}
	t.Fatal("no message")
}

// TestLargeMessageBehindUntaken receives a large message in pieces, and a small
// one, while an older one waits to be taken.
func TestLargeMessageBehindUntaken(t *testing.T) {
	for _, piece := range []int{2900, 7000, 50_000} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			testutil.NoLeak(t)
			peer, s := imsgtest.Sockets(t)
			b := imsg.NewBuf(s.FD, nil)
			t.Cleanup(b.Clear)
			if err := b.SetMaxSize(1 << 20); err != nil {
				t.Fatal(err)
			}
			sizes := []int{100, 1_000_000, 50, 60}
			total := uint64(0)
			for i, n := range sizes {
				for p := testutil.Frame(imsg.Current, uint32(i+1), n, false); len(p) > 0; {
					k := min(piece, len(p))
					peer.Write(p[:k])
					p = p[k:]
					for total += uint64(k); b.Stats().Received.Bytes < total; {
						if err := b.ReadSocket(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			for i, n := range sizes {
				m, ok := b.Get()
				if !ok {
					t.Fatalf("no message %d", i+1)
				}
				testutil.CheckFrame(t, m, uint32(i+1), n)
				m.Close()
			}
		})
	}
}
