package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"golang.org/x/sys/unix"
)

// smallPair is a pair with socket buffers of 4 KiB and large messages.
func smallPair(t testing.TB) (a, b *imsg.Conn) {
	t.Helper()
	a, b = imsgtest.Pair(t, nil)
	shrink(t, a, b)
	if err := errors.Join(a.SetMaxSize(2<<20), b.SetMaxSize(2<<20)); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// shrink makes socket buffers as small as they get.
func shrink(t testing.TB, cs ...*imsg.Conn) {
	t.Helper()
	for _, c := range cs {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		rc, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		rc.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
		})
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCancelLargeSend gives up in the middle of a message: its rest goes out
// with whatever is sent next.
func TestCancelLargeSend(t *testing.T) {
	const size = 1 << 20
	for _, how := range []string{"cancel", "deadline"} {
		for _, next := range []string{"flush", "send", "queue and flush", "send of a file", "another cancelled send"} {
			for _, file := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s file %v", how, next, file), func(t *testing.T) {
					testutil.NoLeak(t)
					a, b := smallPair(t)
					var f *os.File
					p := testutil.NewProbe(t)
					if file {
						f = p.W
					}
					ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
					done := make(chan error, 1)
					go func() { done <- a.Send(ctx, imsg.Header{Type: 1}, f, testutil.Pattern(1, size)) }()
					testutil.WaitBlocked(t, 1, "(*Conn).Send")
					want := context.Canceled
					if how == "cancel" {
						cancel()
					} else {
						want = os.ErrDeadlineExceeded
						a.SetWriteDeadline(time.Unix(1, 0))
					}
					defer cancel()
					if err := <-done; !errors.Is(err, want) {
						t.Fatalf("%v, want %v", err, want)
					}
					a.SetWriteDeadline(time.Time{})
					s := a.Stats().Sent
					if a.QueueLen() != 1 || s.Messages != 0 || s.Bytes == 0 || s.Bytes >= size || (s.Files == 1) != file {
						t.Fatalf("%d queued, %+v", a.QueueLen(), s)
					}
					p.W.Close() // it has gone with the first byte
					ctx = testutil.DeadlineCtx(t)
					second := testutil.NewProbe(t)
					if next == "another cancelled send" {
						short, cancel := context.WithTimeout(ctx, time.Millisecond)
						defer cancel()
						err := a.Send(short, imsg.Header{Type: 9}, second.W, testutil.Pattern(9, 10))
						if !errors.Is(err, context.DeadlineExceeded) || a.QueueLen() != 1 {
							t.Fatalf("another send: %v, %d queued", err, a.QueueLen())
						}
					}
					go func() {
						switch next {
						case "flush":
							done <- a.Flush(ctx)
						case "send", "another cancelled send":
							done <- a.Send(ctx, imsg.Header{Type: 2}, nil, testutil.Pattern(2, 100))
						case "send of a file":
							done <- a.Send(ctx, imsg.Header{Type: 2}, second.W, testutil.Pattern(2, 100))
						default:
							done <- errors.Join(a.Compose(imsg.Header{Type: 2}, nil, testutil.Pattern(2, 100)), a.Flush(ctx))
						}
					}()
					m, err := b.Receive(ctx)
					if err != nil {
						t.Fatal(err)
					}
					testutil.CheckFrame(t, m, 1, size)
					if file == p.Closed() || m.HasFile() != file {
						t.Errorf("file %v, closed %v", m.HasFile(), p.Closed())
					}
					m.Close()
					if next != "flush" {
						m, err := b.Receive(ctx)
						if err != nil {
							t.Fatal(err)
						}
						testutil.CheckFrame(t, m, 2, 100)
						if m.HasFile() != (next == "send of a file") {
							t.Errorf("file %v", m.HasFile())
						}
						m.Close()
					}
					if err := <-done; err != nil {
						t.Error(err)
					}
					if a.QueueLen() != 0 {
						t.Errorf("%d queued", a.QueueLen())
					}
				})
			}
		}
	}
}

// TestCancelSome cancels every subset of five waiting messages, two of them
// with a file, behind a full socket.
func TestCancelSome(t *testing.T) {
	sizes := []int{10, 0, 5000, 16000, 300}
	for subset := range 1 << len(sizes) {
		t.Run(fmt.Sprintf("%05b", subset), func(t *testing.T) {
			testutil.NoLeak(t)
			a, b := imsgtest.Pair(t, nil)
			n := testutil.FillConn(t, a)
			probes := map[int]*testutil.Probe{1: testutil.NewProbe(t), 3: testutil.NewProbe(t)}
			cancels := make([]func(), len(sizes))
			done := make([]chan error, len(sizes))
			for i, size := range sizes {
				ctx, cancel := context.WithCancel(testutil.DeadlineCtx(t))
				defer cancel()
				cancels[i], done[i] = cancel, make(chan error, 1)
				var f *os.File
				if p := probes[i]; p != nil {
					f = p.W
				}
				go func() {
					done[i] <- a.Send(ctx, imsg.Header{Type: uint32(i + 1)}, f, testutil.Pattern(uint32(i+1), size))
				}()
				testutil.WaitQueue(t, a, i+1)
			}
			// The middle first, then the others, so that holes meet.
			for _, i := range []int{2, 1, 3, 0, 4} {
				if subset>>i&1 == 0 {
					continue
				}
				cancels[i]()
				if err := <-done[i]; !errors.Is(err, context.Canceled) {
					t.Errorf("message %d: %v", i+1, err)
				}
				if p := probes[i]; p != nil {
					if _, err := p.W.Stat(); err != nil {
						t.Errorf("the file of message %d: %v", i+1, err)
					}
				}
			}
			testutil.DrainConn(t, b, n)
			for i, size := range sizes {
				if subset>>i&1 == 1 {
					continue
				}
				m, err := b.Receive(testutil.DeadlineCtx(t))
				if err != nil {
					t.Fatal(err)
				}
				testutil.CheckFrame(t, m, uint32(i+1), size)
				if p := probes[i]; p != nil {
					f := m.TakeFile()
					if err := p.Works(f); err != nil {
						t.Errorf("message %d: %v", i+1, err)
					}
					f.Close()
				} else if m.HasFile() {
					t.Errorf("message %d has a file", i+1)
				}
				m.Close()
				if err := <-done[i]; err != nil {
					t.Errorf("message %d: %v", i+1, err)
				}
			}
			if a.QueueLen() != 0 {
				t.Errorf("%d queued", a.QueueLen())
			}
			if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 6}, nil, testutil.Pattern(6, 9)); err != nil {
				t.Error(err)
			}
			testutil.ReceiveAll(t, b, 6)
		})
	}
}

// TestCancelAnyTime cancels sends at any moment. A send that returned nil
// delivered its message once; one that failed once or never; none is torn.
func TestCancelAnyTime(t *testing.T) {
	const senders, each = 4, 150
	testutil.NoLeak(t)
	a, b := smallPair(t)
	f := testutil.DevNull(t)
	defer f.Close()
	var wg sync.WaitGroup
	var sent [senders][each]bool
	for s := range senders {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(s), 2))
			for i := range each {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(3000))*time.Microsecond)
				file := f
				if rnd.IntN(3) > 0 {
					file = nil
				}
				err := a.Send(ctx, imsg.Header{Type: uint32(s + 1), ID: uint32(i)}, file, testutil.Pattern(uint32(s+1), rnd.IntN(20_000)))
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("sender %d message %d: %v", s, i, err)
					return
				}
				sent[s][i] = err == nil
			}
		})
	}
	var got [senders][each]int
	read := make(chan error, 1)
	go func() {
		last := [senders]int{-1, -1, -1, -1}
		for {
			m, err := b.Receive(context.Background())
			if err != nil || m.Type() == 99 {
				m.Close()
				read <- err
				return
			}
			s, i := m.Type()-1, int(m.ID())
			if string(m.Bytes()) != string(testutil.Pattern(m.Type(), m.Len())) || i <= last[s] {
				read <- fmt.Errorf("sender %d message %d of %d bytes is torn, or not behind message %d", s, i, m.Len(), last[s])
				return
			}
			last[s] = i
			got[s][i]++
			m.Close()
		}
	}()
	wg.Wait()
	if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 99}, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	whole, failed := 0, 0
	for s := range senders {
		for i := range each {
			if sent[s][i] && got[s][i] != 1 || got[s][i] > 1 {
				t.Errorf("sender %d message %d: sent %v, received %d times", s, i, sent[s][i], got[s][i])
			}
			whole += got[s][i]
			if !sent[s][i] {
				failed++
			}
		}
	}
	if n := a.Stats().Sent; a.QueueLen() != 0 || n.Messages != uint64(whole+1) {
		t.Errorf("%d queued, %+v, received %d", a.QueueLen(), n, whole)
	}
	t.Logf("%d of %d cancelled", failed, senders*each)
}
