package main

import (
	"bufio"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkHTTPD serves files to keep-alive clients that do as little as
// possible: a small and a large one, and small ones of so many names that the
// pool has hardly any of them. The daemon and the same handler in one process
// run at the same time and take turns, so that what else the machine does hits
// both.
func BenchmarkHTTPD(b *testing.B) {
	for _, bench := range []struct {
		name        string
		size, names int
	}{
		{"4KiB", 4 << 10, 1},
		{"1MiB", 1 << 20, 1},
		{"4KiB-cold", 4 << 10, 16 * poolSize},
	} {
		b.Run(bench.name, func(b *testing.B) {
			both := map[string]*crowd{
				"split":   newCrowd(b, bench.size, bench.names),
				"unsplit": newCrowd(b, bench.size, bench.names, "-unsplit"),
			}
			for b.Loop() {
				for _, c := range both {
					c.turn(b, max(8<<20/bench.size, 64))
				}
			}
			for name, c := range both {
				b.ReportMetric(c.rate(), name+"-req/s")
			}
			b.ReportMetric(both["split"].rate()/both["unsplit"].rate(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// A crowd is a daemon and its clients.
type crowd struct {
	clients     []*bufio.ReadWriter
	size, names int
	next        atomic.Int64 // of the names
	requests    int
	time        time.Duration
}

func newCrowd(b *testing.B, size, names int, args ...string) *crowd {
	p := start(b, os.Getuid(), args...)
	for i := range names {
		p.write(b, strconv.Itoa(i), make([]byte, size))
	}
	c := &crowd{size: size, names: names}
	for range 16 {
		conn := p.dial(b)
		conn.SetDeadline(time.Time{})
		c.clients = append(c.clients, bufio.NewReadWriter(bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)))
	}
	c.turn(b, 64) // warm
	c.requests, c.time = 0, 0
	return c
}

func (c *crowd) rate() float64 { return float64(c.requests) / c.time.Seconds() }

// turn makes n requests, shared by the clients.
func (c *crowd) turn(b *testing.B, n int) {
	begin := time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	var running sync.WaitGroup
	for _, client := range c.clients {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				if err := fetch(client, int(c.next.Add(1))%c.names, c.size); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	c.requests += n
	c.time += time.Since(begin)
}

// fetch does one request.
func fetch(rw *bufio.ReadWriter, name, size int) error {
	fmt.Fprintf(rw, "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n", name)
	if err := rw.Flush(); err != nil {
		return err
	}
	r := textproto.NewReader(rw.Reader)
	status, err := r.ReadLine()
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadLine()
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if length, err = strconv.Atoi(v); err != nil {
				return err
			}
		}
	}
	if !strings.HasSuffix(status, " 200 OK") || length != size {
		return fmt.Errorf("%s, %d bytes, want %d", status, length, size)
	}
	_, err = io.CopyN(io.Discard, rw, int64(length))
	return err
}
