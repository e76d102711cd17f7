package ibuf

import (
	"math"
	"testing"
)

func TestViewZero(t *testing.T) {
	var v View
	if v.Len() != 0 || len(v.Bytes()) != 0 || v.View().Len() != 0 {
		t.Errorf("the zero View holds %q", v.Bytes())
	}
	if _, err := v.Slice(0, 0); err != nil {
		t.Error(err)
	}
	for _, err := range []error{v.Get(nil), v.Skip(0), v.Truncate(0)} {
		if err != nil {
			t.Error(err)
		}
	}
	_, err := v.GetByte()
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
	if string(v.Bytes()) != "abcd" {
		t.Errorf("rewound to %q, want abcd", v.Bytes())
	}
	_ = append(v.Bytes(), 'X')
	if string(p) != "abcdef" {
		t.Errorf("an append reached the memory: %q", p)
	}
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
	if string(p) != "abcdefgh" {
		t.Errorf("the memory is %q now", p)
	}
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
	if got := string(a.Bytes()) + "," + string(b.Bytes()) + "," + string(c.Bytes()); got != "bcdef,bcdef,f" {
		t.Errorf("they hold %s", got)
	}
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
		if string(p) != tt.want {
			t.Errorf("Slice(%d, %d) = %q, want %q", tt.pos, tt.n, p, tt.want)
		}
		if v.Len() != 3 {
			t.Fatalf("Slice(%d, %d) consumed", tt.pos, tt.n)
		}
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
		consumed := func(err error) int {
			if err != nil {
				return 0
			}
			return tt.n
		}
		if got, want := len(tt.in)-s.Len(), consumed(tt.sErr); got != want {
			t.Errorf("%q: GetString consumed %d, want %d", tt.in, got, want)
		}
		if got, want := len(tt.in)-c.Len(), consumed(tt.cErr); got != want {
			t.Errorf("%q: GetCString consumed %d, want %d", tt.in, got, want)
		}
	}
}

// TestViewShort asks for one byte more than there is, and for negative lengths.
func TestViewShort(t *testing.T) {
	v := NewView([]byte("abc"))
	p := []byte("1234")
	wantIs(t, v.Get(p), ErrShort)
	if string(p) != "1234" {
		t.Errorf("a failed Get wrote %q", p)
	}
	for _, n := range []int{4, -1, math.MinInt, math.MaxInt} {
		wantIs(t, v.Skip(n), ErrShort)
		w, err := v.GetView(n)
		wantIs(t, err, ErrShort)
		if w.Len() != 0 {
			t.Errorf("a failed GetView(%d) holds %q", n, w.Bytes())
		}
	}
	if string(v.Bytes()) != "abc" {
		t.Errorf("a failed read consumed: %q are left", v.Bytes())
	}
	if err := v.Get(p[:3]); err != nil || string(p) != "abc4" || v.Len() != 0 {
		t.Errorf("Get: %q, %v, %d left", p, err, v.Len())
	}
}
