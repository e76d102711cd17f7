package payload

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// A Layout is the struct type T as one ABI lays it out. It may be used by many
// goroutines at a time.
type Layout[T any] struct{ p *program }

// LayoutOf checks T and returns its layout. The error, a [*FieldError] if a
// field is in the way, is the same each time: look at it once, in a test.
func LayoutOf[T any](abi ABI) (*Layout[T], error) {
	p, err := programOf(reflect.TypeFor[T](), abi)
	if err != nil {
		return nil, err
	}
	return &Layout[T]{p}, nil
}

// Size returns sizeof the struct in bytes, without what a tail adds.
func (l *Layout[T]) Size() int { return l.p.size }

// Decode sets v from data, which must be the whole struct, as imsg_get_data
// wants it: another size is a [*SizeError]. data is not kept. A slice that v
// has already is used again if it is long enough. After an error v is partly
// set.
func (l *Layout[T]) Decode(data []byte, v *T) error { return l.p.decode(data, unsafe.Pointer(v)) }

// Append appends the struct to data. The errors are [*FieldError]s; data is
// then returned as it was.
func (l *Layout[T]) Append(data []byte, v *T) ([]byte, error) {
	n, err := l.p.length(unsafe.Pointer(v))
	if err != nil {
		return data, err
	}
	beg := len(data)
	to := slices.Grow(data, n)[:beg+n]
	clear(to[beg:])
	if err := l.p.encode(to[beg:], unsafe.Pointer(v)); err != nil {
		return data, err
	}
	return to, nil
}

// A Source is where GetStruct reads: an imsg.Message, an *ibuf.View, an
// *ibuf.Buffer.
type Source interface {
	Len() int
	Bytes() []byte
	Skip(n int) error
}

// GetStruct takes a struct, laid out as for [Host], from the front of what is
// unread of s; if it has a tail, all that is unread. After an error nothing is
// taken, and v is partly set. Too few bytes are a [*SizeError]. It corresponds
// to imsg_get_buf.
func GetStruct[T any, S Source](s S, v *T) error {
	p, err := programOf(reflect.TypeFor[T](), Host())
	if err != nil {
		return err
	}
	data := s.Bytes()
	if p.tail == nil {
		if len(data) < p.size {
			return p.sizeError(len(data))
		}
		data = data[:p.size]
	}
	if err := p.decode(data, unsafe.Pointer(v)); err != nil {
		return err
	}
	return s.Skip(len(data))
}

// A Sink is where AddStruct writes: an *imsg.Builder, an *ibuf.Buffer.
type Sink interface {
	Reserve(n int) ([]byte, error)
	Len() int
	Truncate(n int) error
}

// AddStruct appends a struct, laid out as for [Host]. After an error, which is
// a [*FieldError] or that of s, nothing is appended. It corresponds to imsg_add.
func AddStruct[T any, S Sink](s S, v *T) error {
	p, err := programOf(reflect.TypeFor[T](), Host())
	if err != nil {
		return err
	}
	n, err := p.length(unsafe.Pointer(v))
	if err != nil {
		return err
	}
	before := s.Len()
	data, err := s.Reserve(n)
	if err != nil {
		return err
	}
	clear(data)
	if err := p.encode(data, unsafe.Pointer(v)); err != nil {
		s.Truncate(before)
		return err
	}
	return nil
}

// Native is a codec of C structs, laid out as for [Host], for package peer:
// peer.CallTyped and peer.HandlerOf with it speak to C programs.
type Native struct{}

// Marshal returns the bytes of v, a struct or a pointer to one. The errors are
// those of [Layout.Append].
func (Native) Marshal(v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer {
		if !rv.IsValid() {
			return nil, fmt.Errorf("payload: %w", invalid("nil has no layout"))
		}
		p := reflect.New(rv.Type())
		p.Elem().Set(rv)
		rv = p
	}
	p, err := pointed(rv)
	if err != nil {
		return nil, err
	}
	n, err := p.length(rv.UnsafePointer())
	if err != nil {
		return nil, err
	}
	data := make([]byte, n)
	if err := p.encode(data, rv.UnsafePointer()); err != nil {
		return nil, err
	}
	return data, nil
}

// Unmarshal sets v, a pointer to a struct, from data, as [Layout.Decode] does.
func (Native) Unmarshal(data []byte, v any) error {
	rv := reflect.ValueOf(v)
	p, err := pointed(rv)
	if err != nil {
		return err
	}
	return p.decode(data, rv.UnsafePointer())
}

// pointed returns the program of what v points to.
func pointed(v reflect.Value) (*program, error) {
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("payload: %w", invalid("a pointer to a struct is wanted"))
	}
	return programOf(v.Type().Elem(), Host())
}
