package payload_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/payload"
	"example.org/imsg/peer"
)

var ne = binary.NativeEndian

type value struct {
	Number uint64 `c:"case=1"`
	Text   string `c:"case=2|3,char[16]"`
}

type ctlPeer struct {
	Descr string `c:"char[32]"`
	Addr  [4]byte
	Port  uint16 `c:"net"`
	Up    int64
	Sent  uint64 `c:"long"`
	On    bool
	Kind  int32
	Value value `c:"union=Kind"`
}

func layoutOf[T any](t testing.TB, abi payload.ABI) *payload.Layout[T] {
	t.Helper()
	l, err := payload.LayoutOf[T](abi)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestBytes compares with bytes laid out by hand, for each ABI.
func TestBytes(t *testing.T) {
	v := ctlPeer{Descr: "upstream", Addr: [4]byte{192, 0, 2, 1}, Port: 179, Up: -5, Sent: 1 << 31, On: true, Kind: 2, Value: value{Text: "idle"}}
	for _, c := range []struct {
		abi                                     payload.ABI
		up, sent, long, on, kind, union, length int
	}{
		{payload.LP64, 40, 48, 8, 56, 60, 64, 80},
		{payload.I386, 40, 48, 4, 52, 56, 60, 76},
		{payload.ILP32, 40, 48, 4, 52, 56, 64, 80},
	} {
		want := make([]byte, c.length)
		copy(want, "upstream")
		copy(want[32:], v.Addr[:])
		copy(want[36:], []byte{0, 179})
		ne.PutUint64(want[c.up:], uint64(v.Up))
		if c.long == 8 {
			ne.PutUint64(want[c.sent:], v.Sent)
		} else {
			ne.PutUint32(want[c.sent:], uint32(v.Sent))
		}
		want[c.on] = 1
		ne.PutUint32(want[c.kind:], 2)
		copy(want[c.union:], "idle")
		l := layoutOf[ctlPeer](t, c.abi)
		if l.Size() != c.length {
			t.Errorf("%v: size %d, want %d", c.abi, l.Size(), c.length)
		}
		got, err := l.Append([]byte("before"), &v)
		if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("%v: %v\n got %x\nwant %x", c.abi, err, got[6:], want)
		}
		// Padding is ignored, a bool is anything but 0, and what v was does not matter.
		want[38], want[c.on] = 0xff, 0x80
		back := ctlPeer{Value: value{Number: 7}}
		if err := l.Decode(want, &back); err != nil || back != v {
			t.Errorf("%v: %v\n got %+v\nwant %+v", c.abi, err, back, v)
		}
	}
}

type entry struct {
	A uint8
	B uint32 `c:"net"`
}

type list struct {
	N       uint16
	Entries []entry `c:"tail,count=N"`
}

type flexible struct {
	A    uint64
	N    uint16
	Data []byte `c:"flex"`
}

type texts struct {
	Argc int32
	Args string `c:"tail"`
}

func TestTails(t *testing.T) {
	l := layoutOf[list](t, payload.LP64)
	v := list{2, []entry{{1, 2}, {3, 4}}}
	data, err := l.Append(nil, &v)
	want := append(ne.AppendUint16(nil, 2), 1, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 4)
	if err != nil || !bytes.Equal(data, want) {
		t.Fatalf("%v, %x", err, data)
	}
	var back list
	if err := l.Decode(data, &back); err != nil || !reflect.DeepEqual(back, v) {
		t.Fatalf("%v, %+v", err, back)
	}
	if n := testing.AllocsPerRun(10, func() { l.Decode(data, &back) }); n != 0 {
		t.Errorf("%v allocations for a slice that is there", n)
	}

	f := layoutOf[flexible](t, payload.LP64)
	if f.Size() != 16 {
		t.Errorf("size %d", f.Size())
	}
	for n, length := range map[int]int{0: 16, 3: 16, 6: 16, 7: 17} {
		data, err := f.Append(nil, &flexible{N: uint16(n), Data: bytes.Repeat([]byte{9}, n)})
		if err != nil || len(data) != length {
			t.Errorf("%d: %d bytes, %v", n, len(data), err)
		}
	}
	var fl flexible
	if err := f.Decode(append(make([]byte, 10), 7, 8), &fl); err != nil || !bytes.Equal(fl.Data, []byte{7, 8}) {
		t.Errorf("%v, %+v", err, fl)
	}

	var tx texts
	if err := layoutOf[texts](t, payload.LP64).Decode(append(ne.AppendUint32(nil, 1), "ls\x00"...), &tx); err != nil || tx.Args != "ls\x00" {
		t.Errorf("%v, %+v", err, tx)
	}
}

type counted struct {
	A    uint64
	N    uint16
	Data []byte `c:"flex,count=N"`
}

type quads struct {
	A    uint64
	N    uint16
	Data [][4]byte `c:"flex"`
}

// A flexible array member may begin in the padding: then C programs send
// offsetof, sizeof or the larger of the two for an array, or sizeof and more.
func TestFlexInPadding(t *testing.T) {
	l := layoutOf[counted](t, payload.LP64)
	for n := range 9 {
		v := counted{1, uint16(n), bytes.Repeat([]byte{9}, n)}
		data, err := l.Append(nil, &v)
		if err != nil || len(data) != max(16, 10+n) {
			t.Fatalf("%d elements: %d bytes, %v", n, len(data), err)
		}
		data = append(data, make([]byte, 16)...)
		for _, length := range []int{10 + n, max(16, 10+n), 16 + n} {
			var back counted
			if err := l.Decode(data[:length], &back); err != nil || !bytes.Equal(back.Data, v.Data) {
				t.Errorf("%d elements in %d bytes: %v, %v", n, length, back.Data, err)
			}
		}
		if err := l.Decode(data[:17+n], new(counted)); !errors.Is(err, ibuf.ErrInvalid) {
			t.Errorf("%d elements in %d bytes: %v", n, 17+n, err)
		}
		if err := l.Decode(data[:10+n-1], new(counted)); err == nil {
			t.Errorf("%d elements in %d bytes", n, 9+n)
		}
	}
	q := layoutOf[quads](t, payload.LP64)
	for n := range 4 {
		data, err := q.Append(nil, &quads{Data: make([][4]byte, n)})
		if err != nil {
			t.Fatal(err)
		}
		var back quads
		if err := q.Decode(data, &back); err != nil || len(back.Data) != max(1, n) {
			t.Errorf("%d elements without a count: %d, %v", n, len(back.Data), err)
		}
	}
	if err := q.Decode(make([]byte, 17), new(quads)); !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("half an element: %v", err)
	}
	data := make([]byte, 12)
	var f counted
	if n := testing.AllocsPerRun(10, func() { l.Decode(data[:10], &f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type header struct{ Kind, N uint8 }

type withHeader struct {
	header
	U struct {
		A int32 `c:"case=1"`
		_ [8]byte
	} `c:"union=Kind"`
	P struct {
		_ struct{} `c:"packed"`
		A int64    `c:"case=1"`
		B [9]byte  `c:"case=2"`
	} `c:"union=Kind"`
	Data []uint16 `c:"tail,count=N,net"`
}

// A count or a tag may be a field of an embedded struct, a member of a union
// may be nothing but room, and a union may be packed.
func TestEmbedded(t *testing.T) {
	l := layoutOf[withHeader](t, payload.LP64)
	if l.Size() != 24 {
		t.Fatalf("size %d", l.Size())
	}
	data := append([]byte{1, 2, 0, 0, 7, 7, 7, 7, 9, 9, 9, 9}, make([]byte, 12)...)
	data = append(data, 0, 1, 0, 2)
	var v withHeader
	if err := l.Decode(data, &v); err != nil || v.U.A != 0x07070707 || !slices.Equal(v.Data, []uint16{1, 2}) {
		t.Errorf("%+v, %v", v, err)
	}
	data[0] = 2 // nothing of U is read or written then
	if err := l.Decode(data, &v); err != nil || v.U.A != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	clear(data[4:12])
	if out, err := l.Append(nil, &v); err != nil || !bytes.Equal(out, data) {
		t.Errorf("%x, %v", out, err)
	}
}

// TestBadTypes names the field that is in the way, and the cure.
func TestBadTypes(t *testing.T) {
	check := func(err error, text string) {
		t.Helper()
		var fe *payload.FieldError
		if err == nil || !strings.Contains(err.Error(), text) || !errors.Is(err, ibuf.ErrInvalid) || errors.As(err, &fe) != strings.Contains(err.Error(), ".") {
			t.Errorf("%v, want %q", err, text)
		}
	}
	is := func(_ any, err error) error { return err }
	check(is(payload.LayoutOf[int](payload.LP64)), "int is not a struct")
	check(is(payload.LayoutOf[struct{ A int }](payload.LP64)), ".A: int differs from C: int32")
	check(is(payload.LayoutOf[struct{ A *int32 }](payload.LP64)), ".A: *int32 has no size in C")
	check(is(payload.LayoutOf[struct{ A string }](payload.LP64)), ".A: a string needs a size")
	check(is(payload.LayoutOf[struct{ A []byte }](payload.LP64)), ".A: []uint8 has no size in C")
	check(is(payload.LayoutOf[struct {
		Flags uint32 `c:"bits=3"`
	}](payload.LP64)), ".Flags: bit fields are laid out as each compiler likes")
	check(is(payload.LayoutOf[struct {
		A uint32 `c:"nett"`
	}](payload.LP64)), `unknown word "nett"`)
	check(is(payload.LayoutOf[struct {
		A float32 `c:"net"`
	}](payload.LP64)), ".A: net wants an integer")
	check(is(payload.LayoutOf[struct {
		A uint32 `c:"long"`
	}](payload.LP64)), ".A: long wants an int64")
	check(is(payload.LayoutOf[struct {
		A [4]byte `c:"char[4]"`
	}](payload.LP64)), ".A: char[4] wants a string")
	check(is(payload.LayoutOf[struct {
		A string `c:"char[0]"`
	}](payload.LP64)), "from 1 to")
	check(is(payload.LayoutOf[struct {
		A []byte `c:"tail"`
		B int32
	}](payload.LP64)), ".A: only the last field")
	check(is(payload.LayoutOf[struct {
		A struct {
			B []byte `c:"tail"`
		}
	}](payload.LP64)), ".A.B: only the last field")
	check(is(payload.LayoutOf[struct {
		A []byte `c:"tail,count=N"`
	}](payload.LP64)), `.A: no field "N"`)
	check(is(payload.LayoutOf[struct {
		N float64
		U struct{ A int32 } `c:"union=N"`
	}](payload.LP64)), `.U: field "N" is no integer`)
	check(is(payload.LayoutOf[struct {
		N int32
		U struct {
			A int32 `c:"case=1"`
			B int64 `c:"case=2|1"`
		} `c:"union=N"`
	}](payload.LP64)), ".U.B: a second member")
	check(is(payload.LayoutOf[struct {
		A int32 `c:"case=1"`
	}](payload.LP64)), ".A: case outside")
	check(is(payload.LayoutOf[struct {
		N uint8
		U struct {
			A int32 `c:"case=256"`
		} `c:"union=N"`
	}](payload.LP64)), ".U.A: case 256, but N is a uint8")
	check(is(payload.LayoutOf[struct {
		N int8
		U struct {
			A int32 `c:"case=-129"`
		} `c:"union=N"`
	}](payload.LP64)), ".U.A: case -129, but N is a int8")
	check(is(payload.LayoutOf[struct {
		_ int32
		U struct{ A int32 } `c:"union=_"`
	}](payload.LP64)), `.U: no field "_"`)
	check(is(payload.LayoutOf[struct {
		N uint8
		U struct{ A int32 } `c:"union=N,net"`
	}](payload.LP64)), ".U: net, long, char, tail or flex with union")
	check(is(payload.LayoutOf[struct {
		A []byte `c:"tail,flex"`
	}](payload.LP64)), ".A: tail with flex")
	check(is(payload.LayoutOf[struct {
		A string `c:"tail,char[4]"`
	}](payload.LP64)), ".A: net, long or char with a tail that is a string")
	check(is(payload.LayoutOf[struct {
		A int64
		B string `c:"char[2147483639]"`
	}](payload.LP64)), "longer than")
	check(is(payload.LayoutOf[struct {
		A string `c:"char[2147483630]"`
		B string `c:"char[2147483630]"`
	}](payload.LP64)), ".B: the struct is longer than")
	check(is(payload.LayoutOf[struct {
		A [1 << 20]string `c:"char[4096]"`
	}](payload.LP64)), "longer than")
}

// TestBadValues takes what cannot be read or written, and says why.
func TestBadValues(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		is   error
		text string
	}{
		{"short", layoutOf[ctlPeer](t, payload.LP64).Decode(make([]byte, 79), new(ctlPeer)), syscall.EBADMSG, "ctlPeer: 79 bytes, want 80 (LP64)"},
		{"long", layoutOf[ctlPeer](t, payload.I386).Decode(make([]byte, 80), new(ctlPeer)), ibuf.ErrShort, "80 bytes, want 76 (I386)"},
		{"no NUL", layoutOf[ctlPeer](t, payload.LP64).Decode(bytes.Repeat([]byte{'x'}, 80), new(ctlPeer)), ibuf.ErrNoNUL, "ctlPeer.Descr: no NUL in 32 bytes"},
		{"no member", layoutOf[ctlPeer](t, payload.LP64).Decode(make([]byte, 80), new(ctlPeer)), ibuf.ErrInvalid, "ctlPeer.Value: no member for Kind 0"},
		{"half an element", layoutOf[list](t, payload.LP64).Decode(make([]byte, 11), new(list)), ibuf.ErrShort, "11 bytes, want 2 and a multiple of 8"},
		{"hostile count", layoutOf[list](t, payload.LP64).Decode([]byte{255, 255}, new(list)), ibuf.ErrInvalid, "list.Entries: 0 elements, but N is 65535"},
	} {
		if !errors.Is(c.err, c.is) || !strings.Contains(c.err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", c.name, c.err, c.text)
		}
	}
	for _, c := range []struct {
		name string
		v    ctlPeer
		is   error
		text string
	}{
		{"string", ctlPeer{Kind: 1, Descr: strings.Repeat("x", 32)}, ibuf.ErrNoNUL, "Descr: a string of 32 bytes in a field of 32"},
		{"NUL", ctlPeer{Kind: 1, Descr: "a\x00b"}, ibuf.ErrInvalid, "Descr: a string with NUL at 1"},
		{"long", ctlPeer{Kind: 1, Sent: math.MaxUint32 + 1}, ibuf.ErrTooLarge, "Sent: 0x100000000 in a long of 4 bytes"},
	} {
		data, err := layoutOf[ctlPeer](t, payload.I386).Append([]byte("kept"), &c.v)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || string(data) != "kept" {
			t.Errorf("%s: %v, want %q; %q", c.name, err, c.text, data)
		}
	}
}

func TestSourceAndSink(t *testing.T) {
	type pair struct{ A, B uint16 }
	b, err := ibuf.NewDynamic(0, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint16(2) {
		if err := payload.AddStruct(b, &pair{i, i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := payload.AddStruct(b, &pair{}); !errors.Is(err, ibuf.ErrTooLarge) || b.Len() != 8 {
		t.Errorf("%v, %d bytes", err, b.Len())
	}
	v := b.View()
	var p pair
	for i := range uint16(2) {
		if err := payload.GetStruct(&v, &p); err != nil || p != (pair{i, i + 1}) {
			t.Fatal(err, p)
		}
	}
	if err := payload.GetStruct(&v, &p); !errors.Is(err, ibuf.ErrShort) {
		t.Error(err)
	}

	// What fails leaves nothing behind.
	type text struct {
		A string `c:"char[2]"`
	}
	c, err := ibuf.NewDynamic(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := payload.AddStruct(c, &text{"long"}); !errors.Is(err, ibuf.ErrNoNUL) || c.Len() != 0 {
		t.Errorf("%v, %d bytes", err, c.Len())
	}
}

// TestMessage sends a struct in a message.
func TestMessage(t *testing.T) {
	a, b, err := imsg.Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	v := ctlPeer{Descr: "one", Kind: 1}
	m, err := a.Create(imsg.Header{Type: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Discard()
	for range 2 {
		if err := payload.AddStruct(m, &v); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := b.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	for range 2 {
		var back ctlPeer
		if err := payload.GetStruct(got, &back); err != nil || back != v {
			t.Errorf("%v, %+v", err, back)
		}
	}
	if err := payload.GetStruct(got, &v); !errors.Is(err, ibuf.ErrShort) {
		t.Error(err)
	}
}

func TestNative(t *testing.T) {
	v := ctlPeer{Kind: 1, Value: value{Number: 5}}
	for _, in := range []any{v, &v} {
		data, err := payload.Native{}.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var back ctlPeer
		if err := (payload.Native{}).Unmarshal(data, &back); err != nil || back != v {
			t.Errorf("%v, %+v", err, back)
		}
	}
	if data, err := (payload.Native{}).Marshal(ctlPeer{Descr: "a\x00b"}); !errors.Is(err, ibuf.ErrInvalid) || data != nil {
		t.Errorf("%x, %v", data, err)
	}
	for _, bad := range []any{nil, 5, (*ctlPeer)(nil), new(int)} {
		if _, err := (payload.Native{}).Marshal(bad); !errors.Is(err, ibuf.ErrInvalid) {
			t.Errorf("%T: %v", bad, err)
		}
		if err := (payload.Native{}).Unmarshal(nil, bad); !errors.Is(err, ibuf.ErrInvalid) {
			t.Errorf("%T: %v", bad, err)
		}
	}
}

// TestCallTyped asks a peer that speaks C structs.
func TestCallTyped(t *testing.T) {
	const ask, answer = 1, 2
	a, b, err := imsg.Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	client, server := peer.New(a, nil), peer.New(b, nil)
	server.Handle(peer.Rule{Type: ask, Handle: peer.HandlerOf(payload.Native{}, answer, func(_ context.Context, h header) (ctlPeer, error) {
		return ctlPeer{Descr: "one", Kind: 1, Value: value{Number: uint64(h.N)}}, nil
	})})
	served := make(chan error, 1)
	go func() { served <- server.Serve(t.Context()) }()
	got, err := peer.CallTyped[header, ctlPeer](t.Context(), client, payload.Native{}, ask, answer, header{N: 7})
	if err != nil || got.Descr != "one" || got.Value.Number != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = peer.CallTyped[header, status](t.Context(), client, payload.Native{}, ask, answer, header{})
	if size := (*payload.SizeError)(nil); !errors.As(err, &size) || size.Type != "status" {
		t.Errorf("a struct of another size: %v", err)
	}
	client.Close()
	<-served
	server.Close()
}

// A status has 128 bytes, as ntpd's has about.
type status struct {
	A, B   uint32
	Offset float64
	Times  [8]int64
	Port   uint16 `c:"net"`
	Flags  uint8
	On     bool
	Count  [10]uint32
	_      uint32
}

func TestNoAllocs(t *testing.T) {
	l := layoutOf[status](t, payload.LP64)
	if l.Size() != 128 {
		t.Fatal(l.Size())
	}
	buf := make([]byte, 0, 128)
	var v status
	if n := testing.AllocsPerRun(100, func() {
		data, err := l.Append(buf, &v)
		if err == nil {
			err = l.Decode(data, &v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	b, err := ibuf.NewDynamic(128, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var r ibuf.View
	if n := testing.AllocsPerRun(100, func() {
		b.Truncate(0)
		if err := payload.AddStruct(b, &v); err != nil {
			t.Fatal(err)
		}
		r = b.View()
		if err := payload.GetStruct(&r, &v); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	l := layoutOf[status](b, payload.LP64)
	data := make([]byte, l.Size())
	var v status
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Decode(data, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l := layoutOf[status](b, payload.LP64)
	buf := make([]byte, 0, l.Size())
	var v status
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(buf, &v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTail decodes a tail of 16 kB, which costs little more than a copy.
func BenchmarkTail(b *testing.B) {
	l := layoutOf[flexible](b, payload.LP64)
	data := make([]byte, 16368)
	var v flexible
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Decode(data, &v); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzDecode decodes what a peer may send. What can be read must be written as
// it was read, and read again as the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 80))
	f.Add(append(ne.AppendUint16(nil, 1), make([]byte, 8)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, abi := range []payload.ABI{payload.LP64, payload.I386, payload.ILP32} {
			again(t, layoutOf[ctlPeer](t, abi), data)
			again(t, layoutOf[list](t, abi), data)
			again(t, layoutOf[texts](t, abi), data)
			again(t, layoutOf[counted](t, abi), data)
		}
	})
}

func again[T any](t *testing.T, l *payload.Layout[T], data []byte) {
	var v, w T
	if err := l.Decode(data, &v); err != nil {
		return
	}
	out, err := l.Append(nil, &v)
	if err == nil {
		err = l.Decode(out, &w)
	}
	if err != nil || !reflect.DeepEqual(v, w) {
		t.Errorf("%v: %+v, then %+v", err, v, w)
	}
}
