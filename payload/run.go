package payload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"example.org/imsg/ibuf"
)

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// raw returns n bytes of the Go value v, from off on.
func raw(v unsafe.Pointer, off, n int) []byte { return unsafe.Slice((*byte)(unsafe.Add(v, off)), n) }

// sizeError says that have bytes cannot be the struct.
func (p *program) sizeError(have int) error {
	e := &SizeError{Type: p.name, Len: have, Want: p.size, ABI: p.abi}
	if p.tail != nil {
		e.Want, e.Tail = p.tail.at, p.tail.elem.size
	}
	return e
}

func (p *program) fieldError(field string, err error) error {
	return &FieldError{Type: p.name, Field: field, Err: err}
}

// decode sets the struct at v from the whole of data.
func (p *program) decode(data []byte, v unsafe.Pointer) error {
	if p.tail == nil {
		if len(data) != p.size {
			return p.sizeError(len(data))
		}
		return p.get(p.ops, data, v)
	}
	t := p.tail
	rest, pad := len(data)-t.at, p.size-t.at // bytes of the tail, and of padding that it may begin in
	whole := rest%t.elem.size == 0
	if rest < 0 || t.count == nil && !whole && rest != pad {
		return p.sizeError(len(data))
	}
	if err := p.get(p.ops, data, v); err != nil {
		return err
	}
	n := rest / t.elem.size
	if t.count != nil {
		count := t.count.load(v)
		behind := int64(rest) - min(max(count, 0), int64(n))*int64(t.elem.size) // the last element that counts
		switch {
		case count >= 0 && count <= int64(n) && (behind == 0 || behind == int64(pad) || rest == pad):
			n = int(count)
		case !whole:
			return p.sizeError(len(data))
		default:
			return p.fieldError(t.field, invalid("%d elements, but %s is %d", n, t.count.field, count))
		}
	}
	return p.getTail(data[t.at:], n, v)
}

// getTail sets the tail from n elements.
func (p *program) getTail(data []byte, n int, v unsafe.Pointer) error {
	t := p.tail
	at := unsafe.Add(v, t.g)
	if t.typ.Kind() == reflect.String {
		*(*string)(at) = string(data)
		return nil
	}
	s := reflect.NewAt(t.typ, at).Elem()
	if s.Cap() < n || s.IsNil() {
		s.Set(reflect.MakeSlice(t.typ, n, n))
	} else {
		s.SetLen(n)
	}
	step := int(t.typ.Elem().Size())
	first := s.UnsafePointer()
	if t.elem.plain(step) {
		copy(raw(first, 0, n*step), data)
		return nil
	}
	for i := range n {
		if err := p.get(t.elem.ops, data[i*t.elem.size:], unsafe.Add(first, i*step)); err != nil {
			return err
		}
	}
	return nil
}

// get carries out the steps from data to v. data has room for all of them.
func (p *program) get(ops []op, data []byte, v unsafe.Pointer) error {
	for i := range ops {
		o := &ops[i]
		src := data[o.c:]
		switch o.kind {
		case opCopy:
			copy(raw(v, o.g, o.n), src)
		case opSwap:
			swap(raw(v, o.g, o.n), src)
		case opLong:
			n := binary.NativeEndian.Uint32(src)
			if o.signed {
				*(*int64)(unsafe.Add(v, o.g)) = int64(int32(n))
			} else {
				*(*uint64)(unsafe.Add(v, o.g)) = uint64(n)
			}
		case opBool:
			*(*bool)(unsafe.Add(v, o.g)) = src[0] != 0
		case opString:
			n := bytes.IndexByte(src[:o.n], 0)
			if n < 0 {
				return p.fieldError(o.field, fmt.Errorf("no NUL in %d bytes: %w", o.n, ibuf.ErrNoNUL))
			}
			*(*string)(unsafe.Add(v, o.g)) = string(src[:n])
		case opArray:
			for j := range o.n {
				if err := p.get(o.sub, src[j*o.cstep:], unsafe.Add(v, o.g+j*o.gstep)); err != nil {
					return err
				}
			}
		case opUnion:
			at := unsafe.Add(v, o.g)
			ops, err := p.member(o, at)
			if err != nil {
				return err
			}
			o.union.zero(at)
			if err := p.get(ops, src, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// zero clears the members of the union at v.
func (u *union) zero(v unsafe.Pointer) {
	if u.clear {
		clear(raw(v, 0, int(u.typ.Size())))
		return
	}
	reflect.NewAt(u.typ, v).Elem().SetZero()
}

// member returns the steps of the member that the union at v has now.
func (p *program) member(o *op, v unsafe.Pointer) ([]op, error) {
	n := o.union.by.load(v)
	for i := range o.union.members {
		m := &o.union.members[i]
		if slices.Contains(m.cases, n) {
			return m.ops, nil
		}
	}
	for i := range o.union.members {
		if m := &o.union.members[i]; m.cases == nil {
			return m.ops, nil
		}
	}
	return nil, p.fieldError(o.field, invalid("no member for %s %d", o.union.by.field, n))
}

// load returns the field of the struct at v.
func (n *number) load(v unsafe.Pointer) int64 {
	at := unsafe.Add(v, n.g)
	switch {
	case n.size == 1 && n.signed:
		return int64(*(*int8)(at))
	case n.size == 1:
		return int64(*(*uint8)(at))
	case n.size == 2 && n.signed:
		return int64(*(*int16)(at))
	case n.size == 2:
		return int64(*(*uint16)(at))
	case n.size == 4 && n.signed:
		return int64(*(*int32)(at))
	case n.size == 4:
		return int64(*(*uint32)(at))
	}
	return *(*int64)(at)
}

// swap moves an integer between host and network byte order.
func swap(to, from []byte) {
	ne := binary.NativeEndian
	switch len(to) {
	case 2:
		ne.PutUint16(to, bits.ReverseBytes16(ne.Uint16(from)))
	case 4:
		ne.PutUint32(to, bits.ReverseBytes32(ne.Uint32(from)))
	case 8:
		ne.PutUint64(to, bits.ReverseBytes64(ne.Uint64(from)))
	}
}

// length returns how many bytes the struct at v has in C.
func (p *program) length(v unsafe.Pointer) (int, error) {
	if p.tail == nil {
		return p.size, nil
	}
	t := p.tail
	n := t.elements(v)
	if t.count != nil && t.count.load(v) != int64(n) {
		return 0, p.fieldError(t.field, invalid("%d elements, but %s is %d", n, t.count.field, t.count.load(v)))
	}
	if n > (maxSize-t.at)/t.elem.size {
		return 0, p.fieldError(t.field, fmt.Errorf("%d elements of %d bytes: %w", n, t.elem.size, ibuf.ErrTooLarge))
	}
	return max(p.size, t.at+n*t.elem.size), nil
}

// elements returns how many elements the tail of the struct at v has.
func (t *tail) elements(v unsafe.Pointer) int {
	at := unsafe.Add(v, t.g)
	if t.typ.Kind() == reflect.String {
		return len(*(*string)(at))
	}
	return len(*(*[]struct{})(at)) // whatever its elements are
}

// encode writes the struct at v to data, which is zero and of its length.
func (p *program) encode(data []byte, v unsafe.Pointer) error {
	if err := p.put(p.ops, data, v); err != nil || p.tail == nil {
		return err
	}
	t := p.tail
	at := unsafe.Add(v, t.g)
	if t.typ.Kind() == reflect.String {
		copy(data[t.at:], *(*string)(at))
		return nil
	}
	first, step := unsafe.Pointer(unsafe.SliceData(*(*[]byte)(at))), int(t.typ.Elem().Size())
	if t.elem.plain(step) {
		copy(data[t.at:], raw(first, 0, t.elements(v)*step))
		return nil
	}
	for i := range t.elements(v) {
		if err := p.put(t.elem.ops, data[t.at+i*t.elem.size:], unsafe.Add(first, i*step)); err != nil {
			return err
		}
	}
	return nil
}

// put carries out the steps from v to data, which is zero.
func (p *program) put(ops []op, data []byte, v unsafe.Pointer) error {
	for i := range ops {
		o := &ops[i]
		dst := data[o.c:]
		switch o.kind {
		case opCopy:
			copy(dst, raw(v, o.g, o.n))
		case opSwap:
			swap(dst[:o.n], raw(v, o.g, o.n))
		case opLong:
			n := *(*int64)(unsafe.Add(v, o.g))
			if o.signed && int64(int32(n)) != n || !o.signed && uint64(n) > math.MaxUint32 {
				return p.fieldError(o.field, fmt.Errorf("%#x in a long of 4 bytes: %w", n, ibuf.ErrTooLarge))
			}
			binary.NativeEndian.PutUint32(dst, uint32(n))
		case opBool:
			if *(*bool)(unsafe.Add(v, o.g)) {
				dst[0] = 1
			}
		case opString:
			s := *(*string)(unsafe.Add(v, o.g))
			if i := strings.IndexByte(s, 0); i >= 0 {
				return p.fieldError(o.field, invalid("a string with NUL at %d", i))
			}
			if len(s) >= o.n {
				return p.fieldError(o.field, fmt.Errorf("a string of %d bytes in a field of %d: %w", len(s), o.n, ibuf.ErrNoNUL))
			}
			copy(dst, s)
		case opArray:
			for j := range o.n {
				if err := p.put(o.sub, dst[j*o.cstep:], unsafe.Add(v, o.g+j*o.gstep)); err != nil {
					return err
				}
			}
		case opUnion:
			at := unsafe.Add(v, o.g)
			ops, err := p.member(o, at)
			if err == nil {
				err = p.put(ops, dst, at)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
