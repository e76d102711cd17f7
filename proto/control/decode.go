package control

import (
	"reflect"

	"example.org/imsg"
	"example.org/imsg/payload"
)

// A Variant is one version's layout of a message that is a T for the user.
type Variant[T any] struct {
	size int
	typ  reflect.Type
	err  error
	open func() func(data []byte, to *T) error
}

// VariantOf returns the layout of the struct type C, as package payload lays it
// out on this machine, whose values convert turns into a T.
func VariantOf[C, T any](convert func(from *C, to *T)) Variant[T] {
	l, err := payload.LayoutOf[C](payload.Host())
	v := Variant[T]{typ: reflect.TypeFor[C](), err: err}
	if err != nil {
		return v
	}
	v.size = l.Size()
	v.open = func() func([]byte, *T) error {
		c := new(C) // once for all messages of an answer
		return func(data []byte, to *T) error {
			if err := l.Decode(data, c); err != nil {
				return err
			}
			convert(c, to)
			return nil
		}
	}
	return v
}

// A Decoder decodes messages of one type, whose layout differs between versions
// of a daemon: the size of the payload tells which one it is. It may be used by
// many goroutines at a time.
type Decoder[T any] struct {
	Program  string
	Type     uint32
	Name     string // of the type
	Variants []Variant[T]
}

// Open returns a function that decodes the messages of one answer, for one
// goroutine. It reads m's payload and keeps nothing of it. The errors are
// *SizeError and *payload.FieldError.
func (d *Decoder[T]) Open() func(m imsg.Message, to *T) error {
	decode := make([]func([]byte, *T) error, len(d.Variants))
	return func(m imsg.Message, to *T) error {
		data := m.Bytes()
		for i := range d.Variants {
			v := &d.Variants[i]
			if v.err != nil {
				return v.err
			}
			if v.size != len(data) {
				continue
			}
			if decode[i] == nil {
				decode[i] = v.open()
			}
			return decode[i](data, to)
		}
		return d.SizeError(len(data))
	}
}

// SizeError returns the error for a payload of n bytes.
func (d *Decoder[T]) SizeError(n int) error {
	e := &SizeError{Program: d.Program, Type: d.Type, Name: d.Name, Size: n}
	for _, v := range d.Variants {
		e.Known = append(e.Known, v.size)
	}
	return e
}

// PayloadType returns the struct type that lays out a payload of n bytes, or
// nil: for programs that show messages field by field.
func (d *Decoder[T]) PayloadType(n int) reflect.Type {
	for _, v := range d.Variants {
		if v.size == n && v.err == nil {
			return v.typ
		}
	}
	return nil
}

// SizeOf returns the size of the variant whose payload has the struct type t,
// and -1 if there is none.
func (d *Decoder[T]) SizeOf(t reflect.Type) int {
	for _, v := range d.Variants {
		if v.typ == t && v.err == nil {
			return v.size
		}
	}
	return -1
}
