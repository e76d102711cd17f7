package imsg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg/internal/unixmsg"
)

// FuzzHeader gives any 16 bytes to every dialect's reader. A length is
// accepted within its limits only, an accepted header encodes to the same
// bytes again, and the two dialects never collide for Auto.
func FuzzHeader(f *testing.F) {
	for _, file := range []bool{false, true} {
		for _, d := range []Dialect{Current, Legacy} {
			for _, n := range []int{0, 15, 16, 20, 16384, 16385, 32768, 65535} {
				var p [HeaderSize]byte
				d.Encode(p[:], binary.NativeEndian, Header{1, 2, 3}, n, file)
				f.Add(p[:], uint16(0))
			}
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, payload uint16) {
		if len(p) < HeaderSize {
			return
		}
		p = p[:HeaderSize]
		for _, d := range []Dialect{Current, Legacy, Auto} {
			var c settings
			c.init(-1, &Config{Dialect: d})
			if err := c.setMaxSize(int(payload) % (legacyLimit - HeaderSize + 1)); err != nil {
				t.Fatal(err)
			}
			limit := int(c.limit.Load())
			var in input
			in.init(&c)
			n, file, err := in.framer.Header(p)
			if err != nil {
				var he *HeaderError
				if !errors.As(err, &he) || he.Limit != limit || he.Len >= HeaderSize && he.Len <= limit {
					t.Fatalf("%v: %x: %v, limit %d", d, p, err, limit)
				}
				continue
			}
			if n < HeaderSize || n > limit {
				t.Fatalf("%v: %x: length %d accepted, limit %d", d, p, n, limit)
			}
			spoken := c.spoken()
			if d != Auto && spoken != d {
				t.Fatalf("%v became %v", d, spoken)
			}
			if spoken == Auto {
				spoken = Current // undecided: both must be able to say it
				var q [HeaderSize]byte
				putHeader(q[:], parseHeader(p), Legacy.lengthWord(n, file))
				if file || string(q[:]) != string(p) {
					t.Fatalf("%x is undecided, but legacy for it is %x", p, q)
				}
			}
			if spoken == Legacy && d == Legacy && Legacy.flags(p) > legacyMark {
				continue // flags nobody knows are ignored
			}
			for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
				var q, r [HeaderSize]byte
				spoken.Encode(q[:], order, parseHeader(p), n, file)
				h, n2, file2 := spoken.Decode(q[:], order)
				if h != parseHeader(p) || n2 != n || file2 != file {
					t.Fatalf("%v %v: %+v %d %v became %+v %d %v", spoken, order, parseHeader(p), n, file, h, n2, file2)
				}
				spoken.Encode(r[:], binary.NativeEndian, h, n2, file2)
				if string(r[:]) != string(p) {
					t.Fatalf("%v: %x became %x", spoken, p, r)
				}
			}
		}
	})
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// Every header that a well-behaved writer can produce is told right, if its
// file is there, but for those that a big-endian machine cannot tell apart.
func TestGuess(t *testing.T) {
	for _, limit := range []int{HeaderSize, DefaultMaxSize, 32768, legacyLimit, legacyLimit + 1, 100_000, 1<<20 - 1} {
		for n := HeaderSize; n <= limit; n++ {
			for _, file := range []bool{false, true} {
				for _, d := range []Dialect{Current, Legacy} {
					if int64(n) > d.maxSize() {
						continue
					}
					var p [HeaderSize]byte
					putHeader(p[:], Header{}, d.lengthWord(n, file))
					got, gn, gfile := detectDialect(p[:], limit, file)
					if bigEndian && d == Current && file && n > legacyLimit && n%(1<<16) == 1 {
						d, n := Legacy, 1<<15+n>>16 // the same bytes: see detectDialect
						if got != d || gn != n || gfile != file {
							t.Fatalf("guessed %v %d %v, want %v %d %v", got, gn, gfile, d, n, file)
						}
						continue
					}
					if gn != n || gfile != file || got != d && (got != Auto || file || n > legacyLimit) {
						t.Fatalf("%v, length %d, file %v, limit %d: guessed %v %d %v", d, n, file, limit, got, gn, gfile)
					}
				}
			}
		}
	}
}

// BenchmarkDecode cuts a stream that is in memory already into messages, and
// closes them: no system call.
func BenchmarkDecode(b *testing.B) {
	benchDecode(b, func(in *input) {
		for m, ok := in.next(); ok; m, ok = in.next() {
			m.Close()
		}
	})
}

func benchDecode(b *testing.B, take func(in *input)) {
	for _, n := range []int{0, 64, 1024, 16368} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var c settings
			c.init(-1, nil)
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
					k := copy(in.framer.Buffer(), p)
					in.got = append(in.got[:0], unixmsg.Part{N: int32(k), File: -1})
					if err := in.deliver(); err != nil {
						b.Fatal(err)
					}
					p = p[k:]
				}
				take(&in)
			}
		})
	}
}

// BenchmarkEncode queues messages, 64 KiB at a time, as if they were then
// written: no system call.
func BenchmarkEncode(b *testing.B) {
	benchEncode(b, func(out *output, p []byte, count int) error {
		for range count {
			if err := out.compose(Header{Type: 1}, nil, false, [][]byte{p}); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkEncodeBatch is BenchmarkEncode with 64 messages at a time.
func BenchmarkEncodeBatch(b *testing.B) {
	var ms [64]Outgoing
	benchEncode(b, func(out *output, p []byte, count int) (err error) {
		for i := range ms {
			ms[i] = Outgoing{Header: Header{Type: 1}, Data: p}
		}
		for n := 0; count > 0 && err == nil; count -= n {
			n, err = out.composeBatch(ms[:min(count, len(ms))])
		}
		return err
	})
}

func benchEncode(b *testing.B, queue func(out *output, p []byte, count int) error) {
	for _, n := range []int{0, 64, 1024, 16368} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var c settings
			c.init(-1, nil)
			out := output{c: &c}
			p := make([]byte, n)
			count := 64 << 10 / (HeaderSize + n)
			b.SetBytes(int64(HeaderSize + n))
			b.ReportAllocs()
			for i := 0; i < b.N; i += count {
				if err := queue(&out, p, count); err != nil {
					b.Fatal(err)
				}
				out.q.Pending(maxGather)
				out.wrote(out.q.Size())
			}
		})
	}
}

// TestBusyPollYields polls busily on every core: others get their turn
// nevertheless, and not only when the scheduler takes a core away.
func TestBusyPollYields(t *testing.T) {
	if oneCore() {
		t.Skip("nobody polls busily on one core")
	}
	var stop atomic.Bool
	var started, wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		started.Add(1)
		var once sync.Once
		wg.Go(func() {
			s := spinner{busy: time.Hour}
			s.until(func() bool {
				once.Do(started.Done)
				return stop.Load()
			}, never)
		})
	}
	started.Wait()
	turns := make(chan struct{})
	go func() {
		for range 5000 {
			runtime.Gosched()
		}
		close(turns)
	}()
	select {
	case <-turns:
	case <-time.After(10 * time.Second):
		t.Error("others do not get their turn")
	}
	stop.Store(true)
	wg.Wait()
}

// BenchmarkDecodeBatch is BenchmarkDecode with messages that are taken and
// closed many at a time.
func BenchmarkDecodeBatch(b *testing.B) {
	var ms [64]Message
	benchDecode(b, func(in *input) {
		for n := in.take(ms[:], 0); n > 0; n = in.take(ms[:], 0) {
			CloseAll(ms[:n])
		}
	})
}

// TestNothingIsKept: a payload that was copied because its sender had to wait is
// cleared when that is over.
func TestNothingIsKept(t *testing.T) {
	x := sendings.Get().(*sending)
	x.size = 6
	x.keep(letter{f: os.Stdin}, [][]byte{[]byte("sec"), nil, []byte("ret")})
	p := x.payload[0]
	if !x.kept || string(p) != "secret" {
		t.Fatalf("%q", p)
	}
	x.free()
	if string(p) != "\x00\x00\x00\x00\x00\x00" || x.kept || x.letter.f != nil || x.size != 0 || len(x.payload[0]) != 0 {
		t.Errorf("%q, %+v", p, x)
	}
}
