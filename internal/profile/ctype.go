package profile

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"

	"example.org/imsg/internal/capture"
)

type kind uint8

const (
	kindInt kind = iota
	kindUint
	kindFloat
	kindBool
	kindChar   // an array of them is a text
	kindByte   // an array of them is shown in hex
	kindIP     // 4 or 16 bytes
	kindString // variable: up to its NUL
	kindArray
	kindStruct
)

// A ctype is a C type with its layout.
type ctype struct {
	name  string // as a profile has it; of an array: its element's
	kind  kind
	size  int // bytes; of a struct with variable fields: of what is in front of them
	align int
	net   bool             // network byte order
	enum  map[int64]string // names of values
	elem  *ctype           // of an array
	n     int              // elements of an array; -1: up to the end of the payload

	fields   []field // of a struct
	packed   bool
	variable bool // a struct with variable fields
}

// A field is a member of a struct.
type field struct {
	name   string
	typ    *ctype
	offset int
	placed bool     // the offset was given
	when   string   // another field, which must have one of these values; or ""
	values []uint64 // of an int: sign-extended
	on     int      // index of that field
}

func (f *field) isVariable() bool {
	return f.typ.kind == kindString || f.typ.kind == kindArray && f.typ.n < 0
}

// Sizes of types that are not the same everywhere are this machine's.
const (
	longSize = strconv.IntSize / 8
	i386     = runtime.GOARCH == "386" // aligns 8 bytes to 4
)

// scalars are the types that need no declaration.
var scalars = func() map[string]*ctype {
	m := make(map[string]*ctype)
	add := func(k kind, size int, names ...string) {
		for _, name := range names {
			align := size
			if size == 8 && i386 {
				align = 4
			}
			m[name] = &ctype{name: name, kind: k, size: size, align: align}
		}
	}
	add(kindChar, 1, "char")
	add(kindInt, 1, "int8", "int8_t", "signed char")
	add(kindByte, 1, "bytes", "uint8", "uint8_t", "u_int8_t", "u_char", "unsigned char", "sa_family_t")
	add(kindInt, 2, "int16", "int16_t", "short")
	add(kindUint, 2, "uint16", "uint16_t", "u_int16_t", "u_short", "unsigned short", "in_port_t")
	add(kindInt, 4, "int32", "int32_t", "int", "pid_t", "enum")
	add(kindUint, 4, "uint32", "uint32_t", "u_int32_t", "u_int", "unsigned", "unsigned int", "uid_t", "gid_t", "mode_t", "in_addr_t", "socklen_t")
	add(kindInt, 8, "int64", "int64_t", "long long", "off_t", "time_t")
	add(kindUint, 8, "uint64", "uint64_t", "u_int64_t", "unsigned long long")
	add(kindInt, longSize, "long", "ssize_t")
	add(kindUint, longSize, "unsigned long", "u_long", "size_t", "pointer")
	add(kindFloat, 4, "float")
	add(kindFloat, 8, "double")
	add(kindBool, 1, "bool", "_Bool")
	m["in_addr"] = &ctype{name: "in_addr", kind: kindIP, size: 4, align: 4}
	m["in6_addr"] = &ctype{name: "in6_addr", kind: kindIP, size: 16, align: 4}
	m["string"] = &ctype{name: "string", kind: kindString, align: 1}
	return m
}()

// maxSize bounds every type: nothing longer is ever captured.
const maxSize = capture.MaxPayload

// arrayOf returns the type of an array; n < 0: up to the end.
func arrayOf(elem *ctype, n int) (*ctype, error) {
	switch {
	case elem.variable || elem.kind == kindArray && elem.n < 0:
		return nil, fmt.Errorf("an array's elements have a size")
	case elem.kind == kindString && n >= 0:
		return nil, fmt.Errorf("string has no size: char NAME[%d] has", n)
	case n == 0 || n > 0 && elem.size > maxSize/n:
		return nil, fmt.Errorf("an array of %d bytes times %d: 1 to %d are possible", elem.size, n, maxSize)
	}
	return &ctype{name: elem.name, kind: kindArray, elem: elem, n: n, size: elem.size * max(n, 0), align: elem.align}, nil
}

// lay gives the fields of a struct their places, and checks them.
func (t *ctype) lay() error {
	end := 0
	t.align = 1
	for i := range t.fields {
		f := &t.fields[i]
		if f.typ.variable {
			return fmt.Errorf("%s: %s has no fixed size", f.name, f.typ.name)
		}
		if slices.ContainsFunc(t.fields[:i], func(o field) bool { return o.name == f.name }) {
			return fmt.Errorf("there are two fields %s", f.name)
		}
		if f.isVariable() {
			t.variable = true
			continue
		}
		if t.variable {
			return fmt.Errorf("%s: what has a fixed size comes first", f.name)
		}
		align := f.typ.align
		if t.packed {
			align = 1
		}
		if !f.placed {
			f.offset = (end + align - 1) / align * align
		}
		if f.offset > maxSize-f.typ.size {
			return fmt.Errorf("%s: ends beyond %d bytes", f.name, maxSize)
		}
		t.align = max(t.align, align)
		end = max(end, f.offset+f.typ.size)
	}
	t.size = (end + t.align - 1) / t.align * t.align
	if t.size == 0 && !t.variable {
		return fmt.Errorf("a struct has a field")
	}
	for i := range t.fields {
		if err := t.depend(i); err != nil {
			return err
		}
	}
	return nil
}

// depend finds the field that another one depends on.
func (t *ctype) depend(i int) error {
	f := &t.fields[i]
	if f.when == "" {
		return nil
	}
	f.on = slices.IndexFunc(t.fields, func(o field) bool { return o.name == f.when })
	if f.on < 0 {
		return fmt.Errorf("%s: there is no field %s", f.name, f.when)
	}
	if k := t.fields[f.on].typ.kind; f.on == i || k != kindInt && k != kindUint && k != kindByte {
		return fmt.Errorf("%s: %s is no other number", f.name, f.when)
	}
	return nil
}
