package ibuf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"example.org/imsg/internal/check"
)

func TestViewZero(t *testing.T) {
	var v View
	if v.Len() != 0 || len(v.Bytes()) != 0 || v.View().Len() != 0 {
		t.Errorf("the zero View holds %q", v.Bytes())
	}
	_, err := v.Slice(0, 0)
	check.NoError(t, errors.Join(err, v.Get(nil), v.Skip(0), v.Truncate(0)))
	_, err = v.GetByte()
	wantIs(t, err, ErrShort)
}

func TestViewTruncate(t *testing.T) {
	p := []byte("abcdef")
	v := NewView(p)
	v.Skip(1)
	for _, n := range []int{6, -1, math.MinInt, math.MaxInt} {
		wantIs(t, v.Truncate(n), ErrTooLarge)
	}
	if err := v.Truncate(3); err != nil || string(v.Bytes()) != "bcd" {
		t.Errorf("cut to %q, %v; want bcd", v.Bytes(), err)
	}
	v.Rewind()
	check.Equal(t, "rewound to", string(v.Bytes()), "abcd")
	_ = append(v.Bytes(), 'X')
	check.Equal(t, "memory behind an append", string(p), "abcdef")
}

// TestViewClamped appends to every slice and view that is handed out: the memory
// next to them must not change.
func TestViewClamped(t *testing.T) {
	p := []byte("abcdefgh")
	v := NewView(p[:6])
	got, _ := v.Slice(1, 2)
	inner, _ := v.GetView(3)
	for _, q := range [][]byte{got, inner.Bytes(), inner.View().Bytes(), v.Bytes(), v.View().Bytes()} {
		if len(q) == 0 {
			t.Error("nothing to append to")
		}
		_ = append(q, "XYZ"...)
	}
	b := New(8)
	b.Add(p[:4])
	_ = append(b.Bytes(), "XYZ"...)
	b.Truncate(8)
	checkBuffer(t, b, "abcd\x00\x00\x00\x00", 0)
	check.Equal(t, "the memory is", string(p), "abcdefgh")
}

// TestViewIndependent reads two views and their origin at different speeds.
func TestViewIndependent(t *testing.T) {
	a := NewView([]byte("abcdef"))
	a.Skip(1)
	b := a.View()
	c := a
	b.Skip(2)
	c.Skip(4)
	b.Rewind() // to where it was made
	check.Equal(t, "they hold", string(a.Bytes())+","+string(b.Bytes())+","+string(c.Bytes()), "bcdef,bcdef,f")
}

func TestViewSlice(t *testing.T) {
	v := NewView([]byte("xabc"))
	v.Skip(1)
	tests := []struct {
		pos, n int
		want   string
		err    error
	}{
		{0, 3, "abc", nil},
		{1, 2, "bc", nil},
		{3, 0, "", nil},
		{0, 4, "", ErrTooLarge},
		{4, 0, "", ErrTooLarge},
		{1, 3, "", ErrTooLarge},
		{-1, 1, "", ErrTooLarge},
		{1, -1, "", ErrTooLarge},
		{math.MaxInt, math.MaxInt, "", ErrTooLarge},
		{1, math.MaxInt, "", ErrTooLarge},
		{math.MinInt, math.MinInt, "", ErrTooLarge},
	}
	for _, tt := range tests {
		p, err := v.Slice(tt.pos, tt.n)
		wantIs(t, err, tt.err)
		check.Equal(t, fmt.Sprintf("Slice(%d, %d)", tt.pos, tt.n), string(p), tt.want)
		check.Equal(t, "bytes left", v.Len(), 3)
	}
}

func TestViewStrings(t *testing.T) {
	tests := []struct {
		in         string
		n          int
		str, cstr  string
		sErr, cErr error
	}{
		{"abc\x00\x00x", 5, "abc", "abc", nil, nil},
		{"abc\x00zz", 6, "abc", "abc", nil, nil},
		{"\x00", 1, "", "", nil, nil},
		{"abc\x00", 3, "abc", "", nil, ErrNoNUL},
		{"abc", 3, "abc", "", nil, ErrNoNUL},
		{"abc", 0, "", "", nil, ErrInvalid},
		{"", 0, "", "", nil, ErrInvalid},
		{"ab\x00", 4, "", "", ErrShort, ErrShort},
		{"ab\x00", -1, "", "", ErrShort, ErrShort},
		{"ab\x00", math.MinInt, "", "", ErrShort, ErrShort},
	}
	for _, tt := range tests {
		s, c := NewView([]byte(tt.in)), NewView([]byte(tt.in))
		str, sErr := s.GetString(tt.n)
		cstr, cErr := c.GetCString(tt.n)
		if str != tt.str || cstr != tt.cstr {
			t.Errorf("%q: GetString %q, GetCString %q; want %q, %q", tt.in, str, cstr, tt.str, tt.cstr)
		}
		wantIs(t, sErr, tt.sErr)
		wantIs(t, cErr, tt.cErr)
		left := func(err error) int {
			if err != nil {
				return len(tt.in)
			}
			return len(tt.in) - tt.n
		}
		check.Equal(t, fmt.Sprintf("%q: left by GetString", tt.in), s.Len(), left(tt.sErr))
		check.Equal(t, fmt.Sprintf("%q: left by GetCString", tt.in), c.Len(), left(tt.cErr))
	}
}

// TestViewShort asks for one byte more than there is, and for negative lengths.
func TestViewShort(t *testing.T) {
	v := NewView([]byte("abc"))
	p := []byte("1234")
	wantIs(t, v.Get(p), ErrShort)
	check.Equal(t, "memory behind a failed Get", string(p), "1234")
	for _, n := range []int{4, -1, math.MinInt, math.MaxInt} {
		wantIs(t, v.Skip(n), ErrShort)
		w, err := v.GetView(n)
		wantIs(t, err, ErrShort)
		check.Equal(t, fmt.Sprintf("held by a failed GetView(%d)", n), string(w.Bytes()), "")
	}
	check.Equal(t, "left by a failed read", string(v.Bytes()), "abc")
	if err := v.Get(p[:3]); err != nil || string(p) != "abc4" || v.Len() != 0 {
		t.Errorf("Get: %q, %v, %d left", p, err, v.Len())
	}
}

// TestViewTerminated reads strings that end where their NUL is.
func TestViewTerminated(t *testing.T) {
	v := NewView([]byte("one\x00\x00two"))
	for _, want := range []string{"one", ""} {
		if s, err := v.GetTerminated(); s != want || err != nil {
			t.Errorf("%q, %v, want %q", s, err, want)
		}
	}
	_, err := v.GetTerminated()
	wantIs(t, err, ErrNoNUL)
	check.Equal(t, "left by a failed read", string(v.Bytes()), "two")
}

// TestViewAt reads numbers at every position, also where not all of them is.
func TestViewAt(t *testing.T) {
	p := []byte{0xff, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0x09}
	v := NewView(p)
	v.Skip(1)
	p = p[1:]
	number := func(n int, order binary.ByteOrder, p []byte) uint64 {
		switch n {
		case 2:
			return uint64(order.Uint16(p))
		case 4:
			return uint64(order.Uint32(p))
		case 8:
			return order.Uint64(p)
		}
		return uint64(p[0])
	}
	for _, tt := range []struct {
		n     int
		order binary.ByteOrder
		at    func(int) (uint64, error)
	}{
		{1, binary.BigEndian, func(i int) (uint64, error) { x, err := v.ByteAt(i); return uint64(x), err }},
		{2, binary.BigEndian, func(i int) (uint64, error) { x, err := v.Net16At(i); return uint64(x), err }},
		{2, binary.NativeEndian, func(i int) (uint64, error) { x, err := v.Host16At(i); return uint64(x), err }},
		{4, binary.BigEndian, func(i int) (uint64, error) { x, err := v.Net32At(i); return uint64(x), err }},
		{4, binary.NativeEndian, func(i int) (uint64, error) { x, err := v.Host32At(i); return uint64(x), err }},
		{8, binary.BigEndian, v.Net64At},
		{8, binary.NativeEndian, v.Host64At},
	} {
		for i := -1; i <= len(p); i++ {
			x, err := tt.at(i)
			switch {
			case i < 0 || i > len(p)-tt.n:
				wantIs(t, err, ErrTooLarge)
			case err != nil || x != number(tt.n, tt.order, p[i:]):
				t.Errorf("%d bytes, %v, at %d: %#x, %v", tt.n, tt.order, i, x, err)
			}
		}
	}
	check.Equal(t, "bytes left", v.Len(), len(p))
}
