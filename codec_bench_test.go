package imsg

import (
	"fmt"
	"testing"

	"example.org/imsg/internal/unixmsg"
)

// BenchmarkDecode cuts a stream that is in memory already into messages, and
// closes them: no system call.
func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{0, 64, 1024, 16368} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var c settings
			c.init(nil)
			var in input
			in.init(&c)
			stream := make([]byte, 0, 64<<10)
			count := cap(stream) / (HeaderSize + n)
			for range count {
				p := stream[len(stream) : len(stream)+HeaderSize+n]
				putHeader(p, Header{Type: 1}, uint32(len(p)))
				stream = stream[:len(stream)+len(p)]
			}
			b.SetBytes(int64(HeaderSize + n))
			b.ReportAllocs()
			for i := 0; i < b.N; i += count {
				for p := stream; len(p) > 0; {
					k := copy(in.framer.Space(), p)
					in.got = append(in.got[:0], unixmsg.Part{N: int32(k), File: -1})
					if err := in.fed(); err != nil {
						b.Fatal(err)
					}
					p = p[k:]
				}
				for m, ok := in.next(); ok; m, ok = in.next() {
					m.Close()
				}
			}
		})
	}
}

// BenchmarkEncode queues messages, 64 KiB at a time, as if they were then
// written: no system call.
func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{0, 64, 1024, 16368} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var c settings
			c.init(nil)
			out := output{c: &c}
			p := make([]byte, n)
			count := 64 << 10 / (HeaderSize + n)
			b.SetBytes(int64(HeaderSize + n))
			b.ReportAllocs()
			for i := 0; i < b.N; i += count {
				for range count {
					if err := out.compose(Header{Type: 1}, nil, false, [][]byte{p}); err != nil {
						b.Fatal(err)
					}
				}
				out.q.Gather(maxGather)
				out.wrote(out.q.Size())
			}
		})
	}
}
