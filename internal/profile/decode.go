package profile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Field is a member of a struct, and its value: a string, int64, uint64,
// float64, bool, []any, or Fields.
type Field struct {
	Name  string
	Value any
}

// Fields are what a payload says, in the order of the struct. It marshals to a
// JSON object in that order.
type Fields []Field

// MarshalJSON implements json.Marshaler.
func (f Fields) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range f {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(m.Name)
		value, err := json.Marshal(m.Value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// Decode tells what is in the payload of a message: by the first of the type's
// structs that fits it exactly. Nothing is known of an empty one, nor of a type
// without structs. The error says which sizes would fit.
func (p *Profile) Decode(typ uint32, payload []byte, order binary.ByteOrder) (Fields, error) {
	if p == nil || len(payload) == 0 || len(p.payloads[typ]) == 0 {
		return nil, nil
	}
	order = nativeOr(order)
	var sizes []string
	for _, t := range p.payloads[typ] {
		if f, err := t.decodeAll(payload, order); err == nil {
			return f, nil
		}
		s := fmt.Sprintf("%s of %d", t.name, t.size)
		if t.variable {
			s += " or more"
		}
		sizes = append(sizes, s)
	}
	return nil, fmt.Errorf("%d bytes are no %s", len(payload), strings.Join(sizes, ", "))
}

func nativeOr(order binary.ByteOrder) binary.ByteOrder {
	if order == nil {
		return binary.NativeEndian
	}
	return order
}

var errUnfit = fmt.Errorf("does not fit")

// decodeAll decodes a struct that b must be, no byte less or more.
func (t *ctype) decodeAll(b []byte, order binary.ByteOrder) (Fields, error) {
	if len(b) < t.size || len(b) > t.size && !t.variable {
		return nil, errUnfit
	}
	f := t.members(b, order)
	rest := b[t.size:]
	for i := range t.fields {
		m := &t.fields[i]
		if !m.isVariable() || !m.present(t, b, order) {
			continue
		}
		v, n, ok := m.typ.decodeTail(rest, order)
		if !ok {
			return nil, errUnfit
		}
		rest = rest[n:]
		f = append(f, Field{m.name, v})
	}
	if len(rest) > 0 {
		return nil, errUnfit
	}
	return f, nil
}

// members decodes what has a fixed size.
func (t *ctype) members(b []byte, order binary.ByteOrder) (f Fields) {
	for i := range t.fields {
		m := &t.fields[i]
		if !m.isVariable() && !m.hidden() && m.present(t, b, order) {
			f = append(f, Field{m.name, m.typ.decode(b[m.offset:], order)})
		}
	}
	return f
}

// hidden says whether nobody wants to see the field: padding is called _N.
func (f *field) hidden() bool {
	return len(f.name) > 1 && f.name[0] == '_' && f.name[1] >= '0' && f.name[1] <= '9'
}

// present says whether the struct has the field.
func (f *field) present(t *ctype, b []byte, order binary.ByteOrder) bool {
	return f.when == "" || slices.Contains(f.values, t.fields[f.on].typ.number(b[t.fields[f.on].offset:], order))
}

// number reads an integer; a negative one is sign-extended.
func (t *ctype) number(b []byte, order binary.ByteOrder) (n uint64) {
	if t.net {
		order = binary.BigEndian
	}
	switch t.size {
	case 1:
		n = uint64(b[0])
	case 2:
		n = uint64(order.Uint16(b))
	case 4:
		n = uint64(order.Uint32(b))
	default:
		n = order.Uint64(b)
	}
	if t.kind == kindInt {
		shift := 64 - 8*t.size
		n = uint64(int64(n<<shift) >> shift)
	}
	return n
}

// decode decodes a type with a fixed size.
func (t *ctype) decode(b []byte, order binary.ByteOrder) any {
	switch t.kind {
	case kindInt:
		n := int64(t.number(b, order))
		if name := t.enum[n]; name != "" {
			return name
		}
		return n
	case kindUint, kindByte, kindChar:
		return t.number(b, order)
	case kindFloat:
		d := math.Float64frombits(t.number(b, order))
		if t.size == 4 {
			d = float64(math.Float32frombits(uint32(t.number(b, order))))
		}
		if math.IsNaN(d) || math.IsInf(d, 0) { // JSON has none
			return strconv.FormatFloat(d, 'g', -1, 64)
		}
		return d
	case kindBool:
		return b[0] != 0
	case kindIP:
		a, _ := netip.AddrFromSlice(b[:t.size])
		return a.String()
	case kindStruct:
		return t.members(b, order)
	}
	return t.array(b[:t.size], order)
}

// array decodes all of b.
func (t *ctype) array(b []byte, order binary.ByteOrder) any {
	switch t.elem.kind {
	case kindChar:
		s, _, _ := bytes.Cut(b, []byte{0})
		return string(s)
	case kindByte:
		return hex.EncodeToString(b)
	}
	values := []any{}
	for ; len(b) > 0; b = b[t.elem.size:] {
		values = append(values, t.elem.decode(b, order))
	}
	return values
}

// decodeTail decodes what has no fixed size, of n bytes.
func (t *ctype) decodeTail(b []byte, order binary.ByteOrder) (v any, n int, ok bool) {
	if t.kind == kindString {
		n = bytes.IndexByte(b, 0) + 1
		return string(b[:max(n-1, 0)]), n, n > 0
	}
	switch t.elem.kind {
	case kindString:
	case kindChar:
		return string(b), len(b), true
	default:
		if len(b)%t.elem.size != 0 {
			return nil, 0, false
		}
		return t.array(b, order), len(b), true
	}
	values := []any{}
	for n < len(b) {
		v, m, ok := t.elem.decodeTail(b[n:], order)
		if !ok {
			return nil, 0, false
		}
		values, n = append(values, v), n+m
	}
	return values, n, true
}
