package imsg_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/internal/unixmsg"
	"golang.org/x/sys/unix"
)

var benchSizes = []int{0, 64, 1024, 16368}

// batchOf is how many messages of n bytes are sent with one flush.
func batchOf(n int) int { return max(1, 64<<10/(n+imsg.HeaderSize)) }

// A benchmark's other process is this binary again, on descriptor 3.
const benchRole = "IMSG_BENCH_ROLE"

func init() {
	if role := os.Getenv(benchRole); role != "" {
		if err := benchPeer(role); err != nil {
			fmt.Fprintln(os.Stderr, "benchmark's peer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// benchPeer receives until the channel is closed; as "echo" it answers each
// message, and it closes files.
func benchPeer(role string) error {
	ctx := context.Background()
	c, err := imsg.NewConn(3, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return err
	}
	for m, err := range c.All(ctx) {
		if err != nil {
			return err
		}
		if role == "echo" || m.Type() == typeSync {
			if err := c.Send(ctx, m.Header(), nil, m.Bytes()); err != nil {
				return err
			}
		}
		m.Close()
	}
	return nil
}

const (
	typeData = 1
	typeSync = 2 // the peer answers
)

// startPeer starts the other process and returns our side's descriptor.
func startPeer(b *testing.B, role string) int {
	ours, theirs, err := unixmsg.Pair(true)
	testutil.Must(b, err)
	f := os.NewFile(uintptr(theirs), "peer")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchRole+"="+role)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{f}
	testutil.Must(b, cmd.Start())
	f.Close()
	b.Cleanup(func() { testutil.Check(b, cmd.Wait()) })
	return ours
}

func startPeerConn(b *testing.B, role string) *imsg.Conn {
	return testutil.NewConn(b, startPeer(b, role), &imsg.Config{AllowFDPass: true})
}

// syncPeer waits until the peer has received everything.
func syncPeer(b *testing.B, c *imsg.Conn) {
	ctx := context.Background()
	testutil.Must(b, c.Send(ctx, imsg.Header{Type: typeSync}, nil))
	m, err := c.Receive(ctx)
	testutil.Must(b, err)
	m.Close()
}

// Messages to another process, 64 KiB a flush.
func BenchmarkConnStream(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ctx, c, p := context.Background(), startPeerConn(b, "sink"), make([]byte, n)
			syncPeer(b, c)
			b.SetBytes(int64(n + imsg.HeaderSize))
			b.ReportAllocs()
			batch, i := batchOf(n), 0
			for b.Loop() {
				testutil.Must(b, c.Compose(imsg.Header{Type: typeData}, nil, p))
				if i++; i%batch == 0 {
					testutil.Must(b, c.Flush(ctx))
				}
			}
			syncPeer(b, c)
		})
	}
}

// The same through the event-loop API.
func BenchmarkBufStream(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			fd := startPeer(b, "sink")
			b.Cleanup(func() { unix.Close(fd) })
			buf, p := imsg.NewBuf(fd, nil), make([]byte, n)
			b.SetBytes(int64(n + imsg.HeaderSize))
			b.ReportAllocs()
			batch, i := batchOf(n), 0
			for b.Loop() {
				testutil.Must(b, buf.Compose(imsg.Header{Type: typeData}, nil, p))
				if i++; i%batch == 0 {
					testutil.Must(b, buf.Flush())
				}
			}
			testutil.Must(b, buf.Compose(imsg.Header{Type: typeSync}, nil))
			testutil.Must(b, buf.Flush())
			for got := false; !got; {
				testutil.Must(b, unixmsg.Poll(fd, false, -1))
				testutil.Must(b, buf.ReadSocket())
				for m := range buf.All() {
					got = true
					m.Close()
				}
			}
		})
	}
}

// One flush for each message, to another process.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{64, 16368} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ctx, c, p := context.Background(), startPeerConn(b, "sink"), make([]byte, n)
			b.ReportAllocs()
			for b.Loop() {
				testutil.Must(b, c.Send(ctx, imsg.Header{Type: typeData}, nil, p))
			}
			syncPeer(b, c)
		})
	}
}

// There and back between two processes.
func BenchmarkPingPong(b *testing.B) {
	ctx, c, p := context.Background(), startPeerConn(b, "echo"), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		testutil.Must(b, c.Send(ctx, imsg.Header{Type: typeData}, nil, p))
		m, err := c.Receive(ctx)
		testutil.Must(b, err)
		m.Close()
	}
}

// A descriptor passed to another process, which closes it.
func BenchmarkPassFile(b *testing.B) {
	f := testutil.OwnFile(b)
	ctx, c := context.Background(), startPeerConn(b, "sink")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		testutil.Must(b, c.Send(ctx, imsg.Header{Type: typeData}, f))
		if i++; i%1024 == 0 {
			syncPeer(b, c) // files in flight are limited
		}
	}
	syncPeer(b, c)
}

// Both directions of one process's own work, without the other process: what
// a message costs to encode, write, read, cut and close.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, y := imsgtest.Sockets(b)
			out, in, p := imsg.NewBuf(x.FD, nil), imsg.NewBuf(y.FD, nil), make([]byte, n)
			b.SetBytes(int64(n + imsg.HeaderSize))
			b.ReportAllocs()
			batch, i := batchOf(n), 0
			for b.Loop() {
				testutil.Must(b, out.Compose(imsg.Header{Type: typeData}, nil, p))
				if i++; i%batch != 0 {
					continue
				}
				for out.QueueLen() > 0 {
					testutil.Must(b, out.WriteSocket())
					testutil.Must(b, in.ReadSocket())
					for m := range in.All() {
						m.Close()
					}
				}
			}
		})
	}
}

// A Receive, there and back within one process, while others wait too.
func BenchmarkWaitingReceivers(b *testing.B) {
	for _, waiting := range []int{1, 1000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			x, y := imsgtest.Pair(b, nil)
			ctx, cancel := context.WithCancel(context.Background())
			got := make(chan struct{})
			var wg sync.WaitGroup
			for range waiting {
				wg.Go(func() {
					for m, err := range y.All(ctx) {
						if err != nil {
							return
						}
						m.Close()
						got <- struct{}{}
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				testutil.Must(b, x.Send(ctx, imsg.Header{Type: typeData}, nil))
				<-got
			}
			cancel()
			wg.Wait()
		})
	}
}

// Many goroutines that send, through a queue of 64 KiB.
func BenchmarkManySenders(b *testing.B) {
	for _, senders := range []int{1, 8, 100, 4000} {
		b.Run(fmt.Sprint(senders), func(b *testing.B) {
			c := testutil.NewConn(b, startPeer(b, "sink"), &imsg.Config{MaxQueueBytes: 64 << 10})
			p := make([]byte, 64)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := c.Send(context.Background(), imsg.Header{Type: typeData}, nil, p); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			syncPeer(b, c)
		})
	}
}

// Descriptors that belong to the queue, 64 a flush, to another process.
func BenchmarkComposeFiles(b *testing.B) {
	f := testutil.OwnFile(b)
	ctx, c := context.Background(), startPeerConn(b, "sink")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		fd, err := unixmsg.Dup(int(f.Fd()))
		testutil.Must(b, err)
		testutil.Must(b, c.Compose(imsg.Header{Type: typeData}, os.NewFile(uintptr(fd), "null")))
		if i++; i%64 == 0 {
			testutil.Must(b, c.Flush(ctx))
		}
		if i%1024 == 0 {
			syncPeer(b, c) // files in flight are limited
		}
	}
	syncPeer(b, c)
}
