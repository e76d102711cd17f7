package relay_test

import (
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/relay"
	"example.org/imsg/internal/testutil"
)

// ways are without a relay, through one, and through one that records.
var ways = []string{"direct", "relay", "relay and pcapng"}

// A counter counts what was written.
type counter struct {
	capture.Writer
	n atomic.Int64
}

func (c *counter) Write(r *capture.Record) error {
	err := c.Writer.Write(r)
	c.n.Add(1)
	return err
}

// connected calls f with the two ends of a connection each way, and with a
// function that waits until all is recorded.
func connected(b *testing.B, f func(b *testing.B, client, server *imsg.Conn, idle func())) {
	for _, way := range ways {
		b.Run(way, func(b *testing.B) {
			client, relayed := imsgtest.Pair(b, nil)
			server := relayed
			idle := func() {}
			if way != "direct" {
				var onward *imsg.Conn
				onward, server = imsgtest.Pair(b, nil)
				cfg := relay.Config{Dialect: imsg.Auto, Report: func(err error) { b.Error(err) }}
				if way != "relay" {
					w := &counter{Writer: capture.NewPcapngWriter(io.Discard)}
					cfg.Record = relay.NewRecorder(w, func(err error) { b.Error(err) })
					idle = func() {
						for w.n.Load() < cfg.Record.Totals().Messages {
							runtime.Gosched()
						}
					}
				}
				r := relay.New(cfg)
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan bool)
				go func() {
					r.Pipe(ctx, relay.End{Conn: relayed}, relay.End{Conn: onward})
					close(done)
				}()
				defer func() {
					cancel()
					<-done
					if cfg.Record != nil {
						cfg.Record.Close()
					}
				}()
			}
			f(b, client, server, idle)
		})
	}
}

// BenchmarkAnswer asks for an answer as large as OpenBGPD's for 3000 routes, one
// at a time: what is recorded is written while it comes, and afterwards.
func BenchmarkAnswer(b *testing.B) {
	const messages, size = 3003, 392
	connected(b, func(b *testing.B, client, server *imsg.Conn, idle func()) {
		ctx := context.Background()
		go func() {
			route := make([]byte, size)
			for m, err := range server.Each(ctx) {
				if err != nil {
					return
				}
				for range messages {
					if server.Compose(m.Header(), nil, route) != nil {
						return
					}
				}
				if server.Flush(ctx) != nil {
					return
				}
			}
		}()
		b.SetBytes(messages * (imsg.HeaderSize + size))
		ms := make([]imsg.Message, 1024)
		for b.Loop() {
			testutil.Must(b, client.Send(ctx, imsg.Header{Type: 16, PID: 7}, nil))
			for got := 0; got < messages; {
				n, err := client.ReceiveBatch(ctx, ms)
				testutil.Must(b, err)
				imsg.CloseAll(ms[:n])
				got += n
			}
			b.StopTimer()
			idle()
			b.StartTimer()
		}
		server.CloseWrite()
		client.CloseWrite()
	})
}

// BenchmarkRoundTrip asks for an answer of one message.
func BenchmarkRoundTrip(b *testing.B) {
	connected(b, func(b *testing.B, client, server *imsg.Conn, _ func()) {
		ctx := context.Background()
		go func() {
			for m, err := range server.Each(ctx) {
				if err != nil || server.Forward(ctx, m) != nil {
					return
				}
			}
		}()
		payload := make([]byte, 64)
		for b.Loop() {
			testutil.Must(b, client.Send(ctx, imsg.Header{Type: 1, PID: 7}, nil, payload))
			m, err := client.Receive(ctx)
			testutil.Must(b, err)
			m.Close()
		}
		client.CloseWrite()
	})
}
