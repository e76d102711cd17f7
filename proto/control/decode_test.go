package control

import (
	"errors"
	"math"
	"reflect"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/payload"
	"example.org/imsg/proto/internal/fake"
)

type (
	old struct {
		Name string `c:"char[8]"`
		N    uint32
	}
	current struct {
		N    uint64
		Name string `c:"char[16]"`
	}
	thing struct {
		Name string
		N    int
	}
)

var decoder = Decoder[thing]{Program: "faked", Type: item, Name: "ITEM", Variants: []Variant[thing]{
	VariantOf(func(c *current, t *thing) { *t = thing{c.Name, int(c.N)} }),
	VariantOf(func(c *old, t *thing) { *t = thing{c.Name, int(c.N)} }),
}}

func TestDecoder(t *testing.T) {
	a, b := imsgtest.Pair(t, nil)
	decode := decoder.Open()
	try := func(data []byte) (to thing, err error) {
		ctx := fake.Context(t)
		if err := a.Send(ctx, imsg.Header{Type: item}, nil, data); err != nil {
			t.Fatal(err)
		}
		m, err := b.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		return to, decode(m, &to)
	}
	if x, err := try([]byte("abc\x00----\x07\x00\x00\x00")); bigEndian || err == nil && x == (thing{"abc", 7}) {
	} else {
		t.Errorf("%+v, %v", x, err)
	}
	if x, err := try(append([]byte{7, 0, 0, 0, 0, 0, 0, 0}, "efgh\x00 0123456789"...)); bigEndian || err == nil && x == (thing{"efgh", 7}) {
	} else {
		t.Errorf("%+v, %v", x, err)
	}
	_, err := try(make([]byte, 13))
	if want := "faked message ITEM (2) has 13 bytes; known are 24 and 12"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if e := (*SizeError)(nil); !errors.As(err, &e) || !errors.Is(err, syscall.EBADMSG) || !errors.Is(err, ibuf.ErrShort) {
		t.Errorf("%#v", err)
	}
	_, err = try([]byte("12345678\x00\x00\x00\x00"))
	if e := (*payload.FieldError)(nil); !errors.As(err, &e) || e.Field != "Name" {
		t.Errorf("without a NUL: %v", err)
	}
	if typ := decoder.PayloadType(12); typ != reflect.TypeFor[old]() {
		t.Errorf("12 bytes are a %v", typ)
	}
	if typ := decoder.PayloadType(13); typ != nil {
		t.Errorf("13 bytes are a %v", typ)
	}
	bad := Decoder[thing]{Variants: []Variant[thing]{VariantOf(func(*struct{ N int }, *thing) {})}}
	if err := bad.Open()(imsg.Message{}, nil); err == nil {
		t.Error("no error for a type without a layout")
	}
}

func TestValues(t *testing.T) {
	for n, want := range map[int64]time.Duration{
		0: 0, 90: 90 * time.Second, -1: -time.Second, math.MaxInt64: math.MaxInt64, math.MinInt64: math.MinInt64,
		9223372036: 9223372036 * time.Second, 9223372037: math.MaxInt64,
	} {
		if got := Seconds(n); got != want {
			t.Errorf("Seconds(%d) = %d, want %d", n, got, want)
		}
	}
	for f, want := range map[float64]time.Duration{
		0: 0, 1.5: 1500 * time.Microsecond, -0.001: -time.Microsecond, math.Inf(1): math.MaxInt64, math.Inf(-1): math.MinInt64,
		1e300: math.MaxInt64, -1e300: math.MinInt64, math.NaN(): 0, math.MaxInt64: math.MaxInt64,
	} {
		if got := Milliseconds(f); got != want {
			t.Errorf("Milliseconds(%g) = %d, want %d", f, got, want)
		}
	}
	if got := Printable("a\x1b[31m\xffü\n"); got != "a�[31m�ü�" {
		t.Errorf("Printable: %q", got)
	}
}
