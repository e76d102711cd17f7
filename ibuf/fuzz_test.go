package ibuf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"example.org/imsg/internal/check"
)

// script is the fuzzer's input, eaten from the front; past its end it is
// zeros.
type script []byte

func (s *script) byte() byte {
	if len(*s) == 0 {
		return 0
	}
	c := (*s)[0]
	*s = (*s)[1:]
	return c
}

// size is a length or a position: mostly small, sometimes absurd.
func (s *script) size() int {
	switch c := s.byte(); c {
	case 255:
		return -1
	case 254:
		return math.MinInt
	case 253:
		return math.MaxInt
	case 252:
		return math.MaxInt - 7
	default:
		return int(c)
	}
}

// bytes is a string of at most 63 bytes.
func (s *script) bytes() []byte {
	n := min(int(s.byte()%64), len(*s))
	p := (*s)[:n:n]
	*s = (*s)[n:]
	return p
}

// number is one of up to 64 bits.
func (s *script) number() uint64 {
	var v uint64
	for range s.byte() % 9 {
		v = v<<8 | uint64(s.byte())
	}
	return v
}

// model is what a buffer should be, as simple as can be.
type model struct {
	mem []byte
	pos int
	max int
}

func (m *model) unread() []byte { return m.mem[m.pos:] }

// take consumes n bytes.
func (m *model) take(n int) ([]byte, error) {
	if n < 0 || n > len(m.unread()) {
		return nil, ErrShort
	}
	m.pos += n
	return m.mem[m.pos-n : m.pos], nil
}

func (m *model) within(pos, n int) ([]byte, error) {
	if have := len(m.unread()); pos < 0 || n < 0 || pos > have || n > have-pos {
		return nil, ErrTooLarge
	}
	return m.unread()[pos : pos+n], nil
}

func (m *model) add(p []byte) error {
	if len(p) > m.max-len(m.mem) {
		return ErrTooLarge
	}
	m.mem = append(m.mem, p...)
	return nil
}

func (m *model) addZero(n int) error {
	if n < 0 || n > m.max-len(m.mem) {
		return ErrTooLarge
	}
	return m.add(make([]byte, n))
}

var fuzzNumbers = []string{"n8", "n16", "n32", "n64", "h16", "h32", "h64"}

// encode is v as the accessors called name write it.
func encode(name string, v uint64) ([]byte, error) {
	bits := intMethods[name].bits
	if bits < 64 && v>>bits != 0 {
		return nil, ErrInvalid
	}
	p := binary.BigEndian.AppendUint64(nil, v)[8-bits/8:]
	if name[0] == 'h' && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		for i, j := 0, len(p)-1; i < j; i, j = i+1, j-1 {
			p[i], p[j] = p[j], p[i]
		}
	}
	return p, nil
}

// FuzzAccessors runs its input as a script of calls on a Buffer and on Views
// of it, and compares every answer and everything they hold with a model.
func FuzzAccessors(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		s := script(data)
		b, m := fuzzNew(t, &s)
		var memory []byte
		for len(s) > 0 {
			fuzzWrite(t, b, m, &s)
			fuzzCompare(t, &b.reader, m)
			if b.Available() != m.max-len(m.mem) || cap(b.buf) > m.max {
				t.Fatalf("Available %d, capacity %d, want %d of %d", b.Available(), cap(b.buf), m.max-len(m.mem), m.max)
			}
			memory = b.buf[:cap(b.buf)]
		}
		b.Rewind()
		m.pos = 0
		fuzzCompare(t, &b.reader, m)
		check.Must(t, b.Close())
		if b.Len() != 0 || b.Available() != 0 || !bytes.Equal(memory, make([]byte, len(memory))) {
			t.Fatalf("closed, but Len %d, Available %d, memory % x", b.Len(), b.Available(), memory)
		}
	})
}

// fuzzNew makes a buffer in one of the three ways.
func fuzzNew(t *testing.T, s *script) (*Buffer, *model) {
	switch s.byte() % 4 {
	case 0:
		n := int(s.byte())
		return New(n), &model{max: n}
	case 1:
		p := bytes.Clone(s.bytes())
		m := &model{mem: bytes.Clone(p), max: len(p)}
		return newReceived(p, nil, func() { clear(p) }), m
	default:
		n, max := s.size(), s.size()*4
		b, err := NewDynamic(n, max)
		if bad := max <= 0 || n < 0 || n > max; bad {
			fuzzError(t, "NewDynamic", err, ErrInvalid)
			return &Buffer{}, &model{}
		} else if err != nil {
			t.Fatal(err)
		}
		return b, &model{max: max}
	}
}

func fuzzError(t *testing.T, call string, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) || !errors.Is(got, want) {
		t.Fatalf("%s: error %v, want %v", call, got, want)
	}
	if got != nil && !strings.HasPrefix(got.Error(), "ibuf: ") {
		t.Fatalf("%s: error text %q", call, got)
	}
}

func fuzzCompare(t *testing.T, r *reader, m *model) {
	t.Helper()
	p := r.Bytes()
	if r.Len() != len(p) || cap(p) != len(p) || !bytes.Equal(p, m.unread()) {
		t.Fatalf("Len %d, Bytes % x, capacity %d, want % x", r.Len(), p, cap(p), m.unread())
	}
}

// fuzzWrite makes one call, which may be one that only reads.
func fuzzWrite(t *testing.T, b *Buffer, m *model, s *script) {
	t.Helper()
	switch s.byte() % 12 {
	case 0, 1:
		fuzzRead(t, &b.reader, m, s)
	case 2:
		p := s.bytes()
		fuzzError(t, "Add", b.Add(p), m.add(p))
	case 3: // a part of itself
		v, _ := b.GetView(s.size())
		m.pos += v.Len()
		fuzzError(t, "AddView", b.AddView(v), m.add(bytes.Clone(m.mem[m.pos-v.Len():m.pos])))
	case 4:
		n := s.size()
		fuzzError(t, "AddZero", b.AddZero(n), m.addZero(n))
	case 5:
		n, fill := s.size(), s.byte()
		p, err := b.Reserve(n)
		fuzzError(t, "Reserve", err, m.addZero(n))
		fuzzBytes(t, "Reserve", p, make([]byte, len(p)))
		for i := range p {
			p[i] = fill
			m.mem[len(m.mem)-len(p)+i] = fill
		}
	case 6:
		str, n := string(s.bytes()), s.size()
		var want error
		switch {
		case strings.Contains(str, "\x00"):
			want = ErrInvalid
		case n < 0 || n > m.max-len(m.mem):
			want = ErrTooLarge
		case len(str) >= n:
			want = ErrNoNUL
		default:
			m.add(append([]byte(str), make([]byte, n-len(str))...))
		}
		fuzzError(t, "AddCString", b.AddCString(str, n), want)
	case 7:
		name, v := fuzzNumbers[int(s.byte())%len(fuzzNumbers)], s.number()
		p, want := encode(name, v)
		if want == nil {
			want = m.add(p)
		}
		fuzzError(t, "add_"+name, intMethods[name].add(b, v), want)
	case 8:
		name, pos, v := fuzzNumbers[int(s.byte())%len(fuzzNumbers)], s.size(), s.number()
		p, want := encode(name, v)
		if want == nil {
			var dst []byte
			dst, want = m.within(pos, len(p))
			copy(dst, p)
		}
		fuzzError(t, "set_"+name, intMethods[name].set(b, pos, v), want)
	case 9:
		pos, p := s.size(), s.bytes()
		dst, want := m.within(pos, len(p))
		copy(dst, p)
		fuzzError(t, "Set", b.Set(pos, p), want)
	case 10:
		n := s.size()
		var want error
		if have := len(m.unread()); n > have {
			want = m.addZero(n - have)
		} else if n < 0 {
			want = ErrTooLarge
		} else {
			m.mem = m.mem[:m.pos+n]
		}
		fuzzError(t, "Truncate", b.Truncate(n), want)
	case 11:
		n := s.size()
		var want error
		if n < len(m.mem) || n > m.max {
			want = ErrTooLarge
		} else {
			m.max = n
		}
		fuzzError(t, "SetMaxSize", b.SetMaxSize(n), want)
	}
}

func fuzzBytes(t *testing.T, call string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: % x, want % x", call, got, want)
	}
}

// fuzzRead makes one call that reads.
func fuzzRead(t *testing.T, r *reader, m *model, s *script) {
	t.Helper()
	switch s.byte() % 9 {
	case 0:
		r.Rewind()
		m.pos = 0
	case 1:
		n := s.size()
		_, want := m.take(n)
		fuzzError(t, "Skip", r.Skip(n), want)
	case 2:
		p := make([]byte, s.byte())
		src, want := m.take(len(p))
		fuzzError(t, "Get", r.Get(p), want)
		fuzzBytes(t, "Get", p, append(slices.Clip(src), make([]byte, len(p)-len(src))...))
	case 3:
		pos, n := s.size(), s.size()
		want, wantErr := m.within(pos, n)
		p, err := r.Slice(pos, n)
		fuzzError(t, "Slice", err, wantErr)
		fuzzBytes(t, "Slice", p, want)
	case 4:
		n := s.size()
		want, wantErr := m.take(n)
		str, err := r.GetString(n)
		fuzzError(t, "GetString", err, wantErr)
		want, _, _ = bytes.Cut(want, []byte{0})
		fuzzBytes(t, "GetString", []byte(str), want)
	case 5:
		n, pos := s.size(), m.pos
		want, wantErr := m.take(n)
		want, _, found := bytes.Cut(want, []byte{0})
		if n == 0 {
			wantErr = ErrInvalid
		} else if wantErr == nil && !found {
			want, m.pos, wantErr = nil, pos, ErrNoNUL
		}
		str, err := r.GetCString(n)
		fuzzError(t, "GetCString", err, wantErr)
		fuzzBytes(t, "GetCString", []byte(str), want)
	case 6:
		name := fuzzNumbers[int(s.byte())%len(fuzzNumbers)]
		p, wantErr := m.take(intMethods[name].bits / 8)
		v, err := intMethods[name].get(r)
		fuzzError(t, "get_"+name, err, wantErr)
		if err == nil {
			got, _ := encode(name, v)
			fuzzBytes(t, "get_"+name, got, p)
		} else if v != 0 {
			t.Fatalf("get_%s: %d with an error", name, v)
		}
	case 7:
		n := s.size()
		want, wantErr := m.take(n)
		v, err := r.GetView(n)
		fuzzError(t, "GetView", err, wantErr)
		fuzzView(t, v, want, s)
	case 8:
		fuzzView(t, r.View(), m.unread(), s)
	}
}

// fuzzView makes a few calls on a View that should hold want.
func fuzzView(t *testing.T, v View, want []byte, s *script) {
	t.Helper()
	m := &model{mem: want}
	for range s.byte() % 4 {
		fuzzCompare(t, &v.reader, m)
		if s.byte()%4 > 0 {
			fuzzRead(t, &v.reader, m, s)
			continue
		}
		n := s.size()
		p, wantErr := m.within(0, n)
		if wantErr == nil {
			m.mem = m.mem[:m.pos+len(p)]
		}
		fuzzError(t, "View.Truncate", v.Truncate(n), wantErr)
	}
	fuzzCompare(t, &v.reader, m)
}
