package profile

import (
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// FromObject makes a profile of what a compiler wrote into an object file or
// program with -g: the types of messages of an enum, and of the structs that
// payloads names by their types' names. An enum without a name goes by that of
// one of its members; "" is the one whose members are IMSG_ or MSG_ names. The
// profile has the sizes of the compiler's machine.
func FromObject(r io.ReaderAt, name, enum string, payloads map[string][]string) (*Profile, error) {
	if !isWord(name) {
		return nil, fmt.Errorf("%q cannot be the name of a program in a profile: give another with --name", name)
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("no object file: %w", err)
	}
	defer f.Close()
	for _, s := range f.Sections { // the reader makes room for what a section claims
		if strings.Contains(s.Name, "debug_") && s.Size > maxDebug {
			return nil, fmt.Errorf("section %q has %d bytes, %d are possible", s.Name, s.Size, maxDebug)
		}
	}
	data, err := f.DWARF()
	if err != nil {
		return nil, fmt.Errorf("no types, which cc -g writes: %w", err)
	}
	o := &object{p: newProfile(), structs: make(map[string]*dwarf.StructType), made: make(map[string]*ctype), open: make(map[string]bool)}
	o.p.Name = name
	if err := o.read(data); err != nil {
		return nil, err
	}
	e, err := o.enum(enum)
	if err != nil {
		return nil, err
	}
	for _, v := range e.Val {
		if v.Val < 0 || v.Val > 1<<32-1 {
			return nil, fmt.Errorf("%s = %d is no type of a message", v.Name, v.Val)
		}
		if isName(v.Name) && o.p.types[uint32(v.Val)] == "" {
			o.p.name(uint32(v.Val), v.Name)
		}
	}
	for typ, names := range payloads {
		n, ok := o.p.TypeNumber(typ)
		if !ok {
			return nil, fmt.Errorf("the enum has no %q", typ)
		}
		for _, name := range names {
			s := o.structs[strings.TrimPrefix(name, "struct ")]
			if s == nil {
				return nil, fmt.Errorf("the file has no struct %q (cc -fno-eliminate-unused-debug-types keeps all)", name)
			}
			t, err := o.structOf(s, 0)
			if err != nil {
				return nil, err
			}
			o.p.payloads[n] = append(o.p.payloads[n], t)
		}
	}
	return o.p, nil
}

const (
	maxDebug   = 256 << 20 // bytes of a section
	maxEntries = 1 << 22
	maxDepth   = 64
)

// An object is what a file has, and what was made of it.
type object struct {
	p       *Profile
	enums   []*dwarf.EnumType
	structs map[string]*dwarf.StructType // by tag or typedef
	made    map[string]*ctype
	open    map[string]bool // being made
}

// read collects enums and structs.
func (o *object) read(data *dwarf.Data) error {
	r := data.Reader()
	for range maxEntries {
		e, err := r.Next()
		if err != nil || e == nil {
			return err
		}
		switch e.Tag {
		case dwarf.TagEnumerationType, dwarf.TagStructType, dwarf.TagTypedef:
		default:
			continue
		}
		t, err := data.Type(e.Offset)
		if err != nil {
			continue // of a language or a version that debug/dwarf does not know
		}
		name := ""
		if d, ok := t.(*dwarf.TypedefType); ok {
			name, t = d.Name, d.Type
		}
		switch t := t.(type) {
		case *dwarf.EnumType:
			if t.EnumName == "" {
				t.EnumName = name
			}
			o.enums = append(o.enums, t)
		case *dwarf.StructType:
			if name = cmp.Or(t.StructName, name); name != "" && t.Kind == "struct" && !t.Incomplete {
				t.StructName = name
				o.structs[name] = t
			}
		}
	}
	return fmt.Errorf("more than %d entries", maxEntries)
}

// enum finds the types of messages.
func (o *object) enum(name string) (found *dwarf.EnumType, err error) {
	var names []string
	for _, e := range o.enums {
		is := name != "" && e.EnumName == name
		for _, v := range e.Val {
			is = is || v.Name == name || name == "" && (strings.HasPrefix(v.Name, "IMSG_") || strings.HasPrefix(v.Name, "MSG_"))
			if name == "" && v.Name == "MSG_OOB" { // of <sys/socket.h>
				is = false
				break
			}
		}
		if !is || found != nil && found.String() == e.String() {
			continue
		}
		found = e
		if len(e.Val) > 0 {
			names = append(names, cmp.Or(e.EnumName, e.Val[0].Name))
		}
	}
	switch {
	case len(names) > 1:
		slices.Sort(names)
		return nil, fmt.Errorf("which enum has the types of messages? --enum with one of %s", strings.Join(slices.Compact(names), ", "))
	case found == nil && name != "":
		return nil, fmt.Errorf("the file has no enum %q, by its name or that of a member", name)
	case found == nil:
		return nil, fmt.Errorf("no enum has IMSG_ or MSG_ names: --enum with its name, or that of a member")
	}
	return found, nil
}

// structOf makes a struct, and before it those that are in it. Every field has
// its offset: the file may be of another machine, or packed.
func (o *object) structOf(s *dwarf.StructType, depth int) (*ctype, error) {
	name := s.StructName
	if t := o.made[name]; t != nil {
		return t, nil
	}
	if depth > maxDepth || o.open[name] || !isName(name) || s.ByteSize <= 0 || s.ByteSize > maxSize {
		return nil, fmt.Errorf("struct %q of %d bytes cannot be", name, s.ByteSize)
	}
	if scalars[name] != nil {
		return nil, fmt.Errorf("struct %q has the name of a type", name)
	}
	o.open[name] = true
	defer delete(o.open, name)
	t := &ctype{name: name, kind: kindStruct, packed: true}
	for _, m := range s.Field {
		if len(t.fields) == maxFields || m.ByteOffset < 0 || m.ByteOffset > s.ByteSize {
			return nil, fmt.Errorf("struct %s: field %q at %d cannot be", name, m.Name, m.ByteOffset)
		}
		f := field{name: m.Name, placed: true, offset: int(m.ByteOffset)}
		if f.name == "" {
			f.name = fmt.Sprintf("unnamed_%d", m.ByteOffset)
		}
		if !isName(f.name) {
			return nil, fmt.Errorf("struct %s: a field %q cannot be", name, f.name)
		}
		var err error
		switch {
		case m.BitSize > 0: // the number that bit fields are in, once
			size := max(m.Type.Size(), 1)
			if m.DataBitOffset > 0 {
				f.offset = int(m.DataBitOffset / 8 / size * size)
			}
			if f.offset < 0 || int64(f.offset) >= s.ByteSize {
				return nil, fmt.Errorf("struct %s: bits of %q at %d cannot be", name, m.Name, f.offset)
			}
			f.name = fmt.Sprintf("bits_%d", f.offset)
			if slices.ContainsFunc(t.fields, func(o field) bool { return o.name == f.name }) {
				continue
			}
			f.typ, err = o.bytes(min(size, s.ByteSize-int64(f.offset)))
		default:
			f.typ, err = o.typeOf(m.Type, name+"_"+f.name, depth+1)
		}
		if err != nil {
			return nil, fmt.Errorf("struct %s: %s: %w", name, f.name, err)
		}
		if f.typ == nil { // a flexible array of unknown elements
			continue
		}
		if !f.isVariable() && int64(f.offset+f.typ.size) > s.ByteSize {
			return nil, fmt.Errorf("struct %s: %s ends behind its %d bytes", name, f.name, s.ByteSize)
		}
		if f.isVariable() {
			f.placed = false
		}
		t.fields = append(t.fields, f)
	}
	if err := o.fill(t, int(s.ByteSize)); err != nil {
		return nil, err
	}
	if err := t.lay(); err != nil {
		return nil, fmt.Errorf("struct %s: %w", name, err)
	}
	if t.size != int(s.ByteSize) {
		return nil, fmt.Errorf("struct %s has %d bytes, not %d", name, t.size, s.ByteSize)
	}
	o.made[name] = t
	o.p.structs = append(o.p.structs, t)
	return t, nil
}

// fill adds what is behind the last field of a struct.
func (o *object) fill(t *ctype, size int) error {
	end := 0
	last := len(t.fields)
	for i, f := range t.fields {
		if f.isVariable() {
			last = i
			break
		}
		end = max(end, f.offset+f.typ.size)
	}
	if end >= size {
		return nil
	}
	pad, err := o.bytes(int64(size - end))
	t.fields = slices.Insert(t.fields, last, field{name: fmt.Sprintf("_%d", end), typ: pad, placed: true, offset: end})
	return err
}

func (o *object) bytes(n int64) (*ctype, error) {
	if n < 1 || n > maxSize {
		return nil, fmt.Errorf("%d bytes cannot be", n)
	}
	return arrayOf(scalars["bytes"], int(n))
}

// typeOf makes any type; path is the name of a struct that has none.
func (o *object) typeOf(t dwarf.Type, path string, depth int) (*ctype, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("too deep")
	}
	switch t := t.(type) {
	case *dwarf.TypedefType:
		if _, scalar := t.Type.(*dwarf.ArrayType); !scalar {
			if s, ok := t.Type.(*dwarf.StructType); ok && s.StructName == "" {
				path = t.Name
			}
		}
		return o.typeOf(t.Type, path, depth+1)
	case *dwarf.QualType:
		return o.typeOf(t.Type, path, depth+1)
	case *dwarf.StructType:
		if t.Kind != "struct" || t.Incomplete {
			return o.bytes(t.ByteSize) // of a union, nobody knows which member counts
		}
		if ip := scalars[t.StructName]; ip != nil && ip.kind == kindIP && int64(ip.size) == t.ByteSize {
			return ip, nil
		}
		if t.StructName == "" {
			t.StructName = path
		}
		return o.structOf(t, depth+1)
	case *dwarf.ArrayType:
		elem, err := o.typeOf(t.Type, path, depth+1)
		if err != nil || elem == nil {
			return nil, err
		}
		if t.Count > maxSize || t.StrideBitSize > 0 {
			return nil, fmt.Errorf("an array of %d cannot be", t.Count)
		}
		if t.Count < 1 { // flexible, or of GNU's zero length
			return arrayOf(elem, -1)
		}
		return arrayOf(elem, int(t.Count))
	case *dwarf.EnumType:
		if t.ByteSize != 4 {
			return number(kindUint, t.ByteSize)
		}
		return o.enumOf(t)
	case *dwarf.CharType, *dwarf.UcharType:
		if t.Size() == 1 && t.Common().Name == "char" {
			return scalars["char"], nil
		}
		if _, signed := t.(*dwarf.CharType); signed {
			return number(kindInt, t.Size())
		}
		return number(kindUint, t.Size())
	case *dwarf.IntType:
		return number(kindInt, t.ByteSize)
	case *dwarf.UintType, *dwarf.AddrType, *dwarf.PtrType:
		return number(kindUint, t.Size())
	case *dwarf.BoolType:
		return number(kindBool, t.ByteSize)
	case *dwarf.FloatType:
		return number(kindFloat, t.ByteSize)
	}
	return o.bytes(t.Size())
}

// number returns the type of that kind and size.
func number(k kind, size int64) (*ctype, error) {
	for _, name := range []string{"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float", "double", "bool"} {
		t := scalars[name]
		if int64(t.size) == size && (t.kind == k || k == kindUint && t.kind == kindByte) {
			return t, nil
		}
	}
	return (&object{}).bytes(size)
}

// enumOf makes an enum of 4 bytes, with the names of its values.
func (o *object) enumOf(t *dwarf.EnumType) (*ctype, error) {
	if !isName(t.EnumName) || len(t.Val) > maxFields {
		return scalars["int"], nil
	}
	e := *scalars["enum"]
	e.name, e.enum = "enum "+t.EnumName, make(map[int64]string)
	for _, v := range t.Val {
		if isName(v.Name) && v.Val >= -1<<31 && v.Val < 1<<32 && e.enum[v.Val] == "" {
			e.enum[v.Val] = v.Name
		}
	}
	return &e, nil
}

// isName says whether s can be a name in a profile.
func isName(s string) bool {
	for i, r := range s {
		if r > unicode.MaxASCII || r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != "" && s != "if" && len(s) < 256
}
