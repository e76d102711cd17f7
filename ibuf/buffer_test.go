package ibuf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"example.org/imsg/internal/check"
	"example.org/imsg/internal/stream/streamtest"
)

// intMethods are the accessors of each number, named as in C.
var intMethods = map[string]struct {
	bits int
	get  func(*reader) (uint64, error)
	add  func(*Buffer, uint64) error
	set  func(*Buffer, int, uint64) error
}{
	"n8":  {8, widen((*reader).GetByte), adds((*Buffer).AddByte), sets((*Buffer).SetByte)},
	"n16": {16, widen((*reader).GetNet16), adds((*Buffer).AddNet16), sets((*Buffer).SetNet16)},
	"n32": {32, widen((*reader).GetNet32), adds((*Buffer).AddNet32), sets((*Buffer).SetNet32)},
	"n64": {64, widen((*reader).GetNet64), adds((*Buffer).AddNet64), sets((*Buffer).SetNet64)},
	"h16": {16, widen((*reader).GetHost16), adds((*Buffer).AddHost16), sets((*Buffer).SetHost16)},
	"h32": {32, widen((*reader).GetHost32), adds((*Buffer).AddHost32), sets((*Buffer).SetHost32)},
	"h64": {64, widen((*reader).GetHost64), adds((*Buffer).AddHost64), sets((*Buffer).SetHost64)},
}

func widen[T uint8 | uint16 | uint32 | uint64](get func(*reader) (T, error)) func(*reader) (uint64, error) {
	return func(r *reader) (uint64, error) {
		v, err := get(r)
		return uint64(v), err
	}
}

// adds and sets answer as C does to what does not fit: here it does not compile.
func adds[T uint8 | uint16 | uint32 | uint64](add func(*Buffer, T) error) func(*Buffer, uint64) error {
	return func(b *Buffer, v uint64) error {
		if uint64(T(v)) != v {
			return fmt.Errorf("ibuf: value %d over its width: %w", v, ErrInvalid)
		}
		return add(b, T(v))
	}
}

func sets[T uint8 | uint16 | uint32 | uint64](set func(*Buffer, int, T) error) func(*Buffer, int, uint64) error {
	return func(b *Buffer, pos int, v uint64) error {
		if uint64(T(v)) != v {
			return fmt.Errorf("ibuf: value %d over its width: %w", v, ErrInvalid)
		}
		return set(b, pos, T(v))
	}
}

// checkBuffer fails unless b holds exactly want unread and left bytes of room.
func checkBuffer(t *testing.T, b *Buffer, want string, left int) {
	t.Helper()
	if got := string(b.Bytes()); got != want || b.Len() != len(want) || b.Available() != left {
		t.Errorf("holds %q, Len %d, Available %d; want %q, %d, %d", got, b.Len(), b.Available(), want, len(want), left)
	}
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	check.Is(t, "the call", err, want)
}

// newFilled returns a buffer of n bytes that holds s.
func newFilled(n int, s string) *Buffer {
	b := New(n)
	b.Add([]byte(s))
	return b
}

func newDynamic(t *testing.T, n, max int) *Buffer {
	t.Helper()
	b, err := NewDynamic(n, max)
	check.Must(t, err)
	return b
}

func TestBufferErrors(t *testing.T) {
	b := newFilled(16, "abc")
	_, short := b.GetNet32()
	_, noNUL := b.GetCString(2)
	tests := []struct {
		err, is error
		errno   syscall.Errno
		text    string
	}{
		{b.AddZero(40), ErrTooLarge, syscall.ERANGE, "ibuf: add of 40 bytes to 3 of 16: too large"},
		{b.SetNet16(2, 1), ErrTooLarge, syscall.ERANGE, "ibuf: range of 2 bytes at 2 of 3: too large"},
		{b.SetMaxSize(17), ErrTooLarge, syscall.ERANGE, "ibuf: maximum of 17 bytes with 3 of 16 in use: too large"},
		{short, ErrShort, syscall.EBADMSG, "ibuf: get of 4 bytes from 3: too short"},
		{noNUL, ErrNoNUL, syscall.EOVERFLOW, "ibuf: string field of 2 bytes: no terminating NUL"},
		{b.AddCString("abc", 3), ErrNoNUL, syscall.EOVERFLOW, "ibuf: string of 3 bytes in a field of 3: no terminating NUL"},
		{b.AddCString("a\x00b", 9), ErrInvalid, syscall.EINVAL, "ibuf: string with NUL at 1: invalid argument"},
	}
	for _, tt := range tests {
		if tt.err == nil || tt.err.Error() != tt.text {
			t.Errorf("error %v, want %s", tt.err, tt.text)
		}
		wantIs(t, tt.err, tt.is)
		wantIs(t, tt.err, tt.errno)
		if errors.Is(tt.err, syscall.EPERM) || errors.Is(tt.err, io.EOF) {
			t.Errorf("%v matches what it is not", tt.err)
		}
	}
	checkBuffer(t, b, "abc", 13)
}

func TestNewDynamicInvalid(t *testing.T) {
	for _, tt := range []struct{ n, max int }{{0, 0}, {-1, 4}, {0, -1}, {5, 4}, {math.MinInt, math.MinInt}} {
		b, err := NewDynamic(tt.n, tt.max)
		wantIs(t, err, ErrInvalid)
		if b != nil {
			t.Errorf("NewDynamic(%d, %d) returned a buffer with its error", tt.n, tt.max)
		}
	}
}

func TestNewNegativePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New(-1) did not panic")
		}
	}()
	New(-1)
}

// TestBufferGrow fills a dynamic buffer to its maximum in small steps: what was
// added stays, the moves are few, and the memory left behind is cleared.
func TestBufferGrow(t *testing.T) {
	const max = 1000
	b := newDynamic(t, 1, max)
	var want []byte
	moves := 0
	for i := range max {
		old := b.buf
		if err := b.AddByte(byte(i%255 + 1)); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		want = append(want, byte(i%255+1))
		if cap(b.buf) != cap(old) {
			moves++
			if !bytes.Equal(old, make([]byte, len(old))) {
				t.Fatalf("byte %d: the old memory still holds % x", i, old)
			}
		}
		if cap(b.buf) > max {
			t.Fatalf("byte %d: capacity %d over the maximum", i, cap(b.buf))
		}
	}
	checkBuffer(t, b, string(want), 0)
	if moves < 2 || moves > 10 {
		t.Errorf("moved %d times for %d bytes", moves, max)
	}
	wantIs(t, b.AddByte(1), ErrTooLarge)
	wantIs(t, b.AddZero(math.MaxInt), ErrTooLarge)
	checkBuffer(t, b, string(want), 0)
}

// TestBufferAddItself adds parts of a buffer to it, once with room and once while
// it has to move.
func TestBufferAddItself(t *testing.T) {
	for _, n := range []int{64, 6} {
		b := newDynamic(t, n, 64)
		b.Add([]byte("abcdef"))
		b.Skip(2)
		check.Must(t, b.Add(b.Bytes()))
		check.Must(t, b.AddView(b.View()))
		checkBuffer(t, b, "cdefcdefcdefcdef", 64-18)
	}
}

func TestBufferReserve(t *testing.T) {
	b := newFilled(8, "secret")
	b.Truncate(0)
	p, err := b.Reserve(4)
	if err != nil || string(p) != "\x00\x00\x00\x00" {
		t.Fatalf("Reserve: %q, %v", p, err)
	}
	copy(p, "head")
	b.AddZero(2)
	_ = append(p, "over"...)
	checkBuffer(t, b, "head\x00\x00", 2)
	for _, n := range []int{3, -1, math.MinInt, math.MaxInt} {
		_, err := b.Reserve(n)
		wantIs(t, err, ErrTooLarge)
		wantIs(t, b.AddZero(n), ErrTooLarge)
	}
	checkBuffer(t, b, "head\x00\x00", 2)
}

func TestBufferAddCString(t *testing.T) {
	tests := []struct {
		s    string
		n    int
		err  error
		want string
	}{
		{"abc", 4, nil, "abc\x00"},
		{"abc", 6, nil, "abc\x00\x00\x00"},
		{"", 1, nil, "\x00"},
		{"abc", 3, ErrNoNUL, ""},
		{"", 0, ErrNoNUL, ""},
		{"a\x00c", 8, ErrInvalid, ""},
		{"a\x00c", 2, ErrInvalid, ""},
		{"abc", 9, ErrTooLarge, ""},
		{"a long string", 9, ErrTooLarge, ""},
		{"abc", -1, ErrTooLarge, ""},
		{"abc", math.MinInt, ErrTooLarge, ""},
	}
	for _, tt := range tests {
		b := New(8)
		wantIs(t, b.AddCString(tt.s, tt.n), tt.err)
		checkBuffer(t, b, tt.want, 8-len(tt.want))
	}
}

// TestBufferNumbers writes, overwrites and reads every kind of number: the largest,
// one that is too large, and one that does not fit.
func TestBufferNumbers(t *testing.T) {
	for name, m := range intMethods {
		size := m.bits / 8
		max := uint64(math.MaxUint64) >> (64 - m.bits)
		b := New(1 + size)
		b.AddByte('x')
		b.GetByte() // positions count from the read position
		if m.bits < 64 {
			wantIs(t, m.add(b, max+1), ErrInvalid)
			wantIs(t, m.set(b, 99, max+1), ErrInvalid)
		}
		check.Is(t, name, m.add(b, max-1), nil)
		wantIs(t, m.add(b, 1), ErrTooLarge)
		for _, pos := range []int{1, size, -1, math.MinInt, math.MaxInt} {
			wantIs(t, m.set(b, pos, 1), ErrTooLarge)
		}
		if v, err := m.get(&b.reader); err != nil || v != max-1 {
			t.Errorf("%s: got %#x, %v; want %#x", name, v, err, max-1)
		}
		_, err := m.get(&b.reader)
		wantIs(t, err, ErrShort)
		b.Rewind()
		b.Skip(1)
		check.Is(t, name, m.set(b, 0, 0), nil)
		checkBuffer(t, b, string(make([]byte, size)), 0)
	}
}

// TestHostOrder compares with the number's bytes in memory, so it holds for
// machines of both byte orders.
func TestHostOrder(t *testing.T) {
	n16, n32, n64 := uint16(0x0102), uint32(0x01020304), uint64(0x0102030405060708)
	tests := []struct {
		name string
		v    uint64
		want []byte
	}{
		{"h16", uint64(n16), (*[2]byte)(unsafe.Pointer(&n16))[:]},
		{"h32", uint64(n32), (*[4]byte)(unsafe.Pointer(&n32))[:]},
		{"h64", n64, (*[8]byte)(unsafe.Pointer(&n64))[:]},
		{"n16", uint64(n16), []byte{1, 2}},
		{"n32", uint64(n32), []byte{1, 2, 3, 4}},
		{"n64", n64, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
	}
	for _, tt := range tests {
		m := intMethods[tt.name]
		b := New(8)
		m.add(b, tt.v)
		checkBuffer(t, b, string(tt.want), 8-len(tt.want))
		m.set(b, 0, 0)
		m.set(b, 0, tt.v)
		checkBuffer(t, b, string(tt.want), 8-len(tt.want))
		if v, err := m.get(&b.reader); v != tt.v || err != nil {
			t.Errorf("%s: got %#x, %v; want %#x", tt.name, v, err, tt.v)
		}
	}
}

func TestBufferTruncate(t *testing.T) {
	b := newDynamic(t, 4, 10)
	b.Add([]byte("abcdef"))
	b.Skip(1)
	b.Truncate(3)
	checkBuffer(t, b, "bcd", 6)
	b.Truncate(6)
	checkBuffer(t, b, "bcd\x00\x00\x00", 3)
	for _, n := range []int{10, -1, math.MinInt, math.MaxInt} {
		wantIs(t, b.Truncate(n), ErrTooLarge)
	}
	checkBuffer(t, b, "bcd\x00\x00\x00", 3)
}

func TestBufferSetMaxSize(t *testing.T) {
	b := New(16)
	memory := b.buf[:16]
	b.Add([]byte("abcdefgh"))
	b.Skip(2)
	b.Truncate(2) // leaves "efgh" behind the end
	for _, n := range []int{3, 17, -1} {
		wantIs(t, b.SetMaxSize(n), ErrTooLarge)
	}
	checkBuffer(t, b, "cd", 12)
	check.Must(t, b.SetMaxSize(6))
	check.Equal(t, "memory over the maximum", string(memory[6:]), string(make([]byte, 10)))
	wantIs(t, b.AddZero(3), ErrTooLarge)
	b.Add([]byte("xy"))
	checkBuffer(t, b, "cdxy", 0)
}

func TestBufferClose(t *testing.T) {
	b := New(16)
	memory := b.buf[:16]
	b.Add([]byte("secret, more"))
	b.Truncate(6)
	b.Skip(3)
	r, w := streamtest.Pipe(t)
	b.SetFile(w)
	for range 2 {
		check.Must(t, b.Close())
		checkBuffer(t, b, "", 0)
	}
	if !bytes.Equal(memory, make([]byte, 16)) {
		t.Errorf("the memory still holds %q", memory)
	}
	check.EOF(t, "the other end of the pipe", r)
	wantIs(t, b.AddByte(1), ErrTooLarge)
	var none *Buffer
	var zero Buffer
	check.NoError(t, errors.Join(none.Close(), zero.Close()))
	wantIs(t, zero.AddByte(1), ErrTooLarge)
	w.Close()
	zero.SetFile(w)
	wantIs(t, zero.Close(), os.ErrClosed)
	check.NoError(t, zero.Close())
}

func TestBufferFile(t *testing.T) {
	r, w, err := os.Pipe()
	check.Must(t, err)
	b := New(0)
	if b.HasFile() || b.TakeFile() != nil {
		t.Error("a new buffer has a file")
	}
	b.SetFile(r)
	b.SetFile(r) // the same again is still open
	if f := b.TakeFile(); f != r || b.HasFile() || r.Close() != nil {
		t.Errorf("took %v, which should be open and gone from the buffer", f)
	}
	b.SetFile(w)
	if !b.HasFile() {
		t.Error("the file set is not there")
	}
	b.SetFile(nil)
	if b.HasFile() {
		t.Error("SetFile(nil) left a file")
	}
	wantIs(t, w.Close(), os.ErrClosed)
}

// TestBufferReceived is a buffer over a part of memory that others use.
func TestBufferReceived(t *testing.T) {
	memory := []byte("beforemessageafter")
	_, w := streamtest.Pipe(t)
	released := 0
	b := newReceived(memory[6:13], w, func() { released++ })
	checkBuffer(t, b, "message", 0)
	wantIs(t, b.AddByte(1), ErrTooLarge)
	b.Truncate(0)
	b.Add([]byte("1234567"))
	wantIs(t, b.AddByte(1), ErrTooLarge)
	for range 2 {
		check.Must(t, b.Close())
	}
	check.Equal(t, "times released", released, 1)
	check.Equal(t, "the memory holds", string(memory), "before1234567after")
	wantIs(t, w.Close(), os.ErrClosed)
	checkBuffer(t, b, "", 0)
}

// TestBufferAllocs says that the accessors cost no allocation while nothing
// fails and nothing has to grow. Only those that return a string copy it.
func TestBufferAllocs(t *testing.T) {
	b := New(64)
	v := NewView(make([]byte, 8))
	p := make([]byte, 8)
	run := func(f func()) {
		t.Helper()
		check.Equal(t, "allocations a run", testing.AllocsPerRun(100, func() { b.Rewind(); b.Truncate(0); f() }), 0)
	}
	for _, m := range intMethods {
		run(func() {
			check.Must(t, m.add(b, 1))
			check.Must(t, m.set(b, 0, 2))
			if got, err := m.get(&b.reader); got != 2 || err != nil {
				panic(err)
			}
		})
	}
	run(func() {
		check.Must(t, b.Add(p))
		check.Must(t, b.AddView(v))
		check.Must(t, b.AddZero(8))
		check.Must(t, b.AddCString("seven b", 8))
		q, err := b.Reserve(8)
		check.Must(t, err)
		q[0] = 1
		check.Must(t, b.Set(0, p))
		check.Must(t, b.Get(p))
		check.Must(t, b.Skip(8))
		w, err := b.GetView(8)
		check.Must(t, err)
		check.Must(t, w.Skip(8))
		_, err = b.Slice(8, 8)
		check.Must(t, err)
		x := b.View()
		check.Must(t, x.Truncate(8))
	})
}

// What the runtime could not give ends neither the program nor the buffer.
func TestBufferEnormous(t *testing.T) {
	b, err := NewDynamic(4, math.MaxInt)
	check.Must(t, err)
	b.Add([]byte("abcd"))
	sizes := []int{math.MaxInt, math.MaxInt - 3}
	if math.MaxInt > math.MaxInt32 {
		sizes = append(sizes, math.MaxInt>>17, math.MaxInt>>31) // 64 TiB, 4 GiB
		_, err := NewDynamic(math.MaxInt>>17, math.MaxInt)
		wantIs(t, err, ErrTooLarge)
	}
	for _, n := range sizes {
		_, err := b.Reserve(n)
		for _, err := range []error{err, b.AddZero(n), b.AddCString("x", n)} {
			wantIs(t, err, ErrTooLarge)
		}
		if n > maxDynamic { // on 32 bits none is
			wantIs(t, b.Truncate(n), ErrTooLarge)
		}
		check.Equal(t, "left", string(b.Bytes()), "abcd")
	}
}
