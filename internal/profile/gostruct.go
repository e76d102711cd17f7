package profile

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// lastType and lastSize are the highest that the packages of programs are asked
// for.
const (
	lastType = 1 << 8
	lastSize = 1 << 12
)

// fromPackage takes over what a package of proto knows of its program: names
// of types, and the structs of payloads of a size, as package payload has them.
func (p *Profile) fromPackage(k known) error {
	for typ := range uint32(lastType) {
		if name := k.typeName(typ); name != "" && p.types[typ] == "" {
			p.name(typ, name)
		}
		for size := 1; size < lastSize && k.payloadType != nil; size++ {
			rt := k.payloadType(typ, size)
			if rt == nil {
				continue
			}
			t, err := p.structOf(rt, "")
			if err == nil && t.size != size && !(t.variable && t.size < size) {
				err = fmt.Errorf("%v has %d bytes, not %d", rt, t.size, size)
			}
			if err != nil {
				return fmt.Errorf("%s: type %d: %w", p.Name, typ, err)
			}
			if !slices.Contains(p.payloads[typ], t) {
				p.payloads[typ] = append(p.payloads[typ], t)
			}
		}
	}
	return nil
}

// structOf makes a struct of a Go type; path is its name if it has none.
func (p *Profile) structOf(rt reflect.Type, path string) (*ctype, error) {
	t := &ctype{name: snake(rt.Name()), kind: kindStruct}
	if t.name == "" {
		t.name = path
	}
	if i := slices.IndexFunc(p.structs, func(s *ctype) bool { return s.name == t.name }); i >= 0 {
		return p.structs[i], nil
	}
	for i := range rt.NumField() {
		f := rt.Field(i)
		name := snake(f.Name)
		if f.Name == "_" {
			name = "_" + strconv.Itoa(i)
			if f.Tag.Get("c") == "packed" {
				t.packed = true
				continue
			}
		}
		if f.Type.Kind() == reflect.Array && f.Type.Len() == 0 {
			continue // for its alignment, which what follows needs in no struct that there is: sizes are compared
		}
		ft, err := p.typeOf(f.Type, f.Tag.Get("c"), t.name+"_"+strings.TrimPrefix(name, "_"))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", t.name, name, err)
		}
		t.fields = append(t.fields, field{name: name, typ: ft})
	}
	p.structs = append(p.structs, t)
	return t, t.lay()
}

// typeOf makes any type that package payload lays out, but unions.
func (p *Profile) typeOf(rt reflect.Type, tag, path string) (*ctype, error) {
	var n int
	if _, err := fmt.Sscanf(tag, "char[%d]", &n); err == nil && rt.Kind() == reflect.String {
		return arrayOf(scalars["char"], n)
	}
	switch rt.Kind() {
	case reflect.Struct:
		return p.structOf(rt, path)
	case reflect.Array:
		elem, err := p.typeOf(rt.Elem(), tag, path)
		if err != nil {
			return nil, err
		}
		return arrayOf(elem, rt.Len())
	case reflect.Slice:
		elem, err := p.typeOf(rt.Elem(), "", path)
		if err != nil || tag != "tail" {
			return nil, fmt.Errorf("%v with %q is not known: %w", rt, tag, err)
		}
		return arrayOf(elem, -1)
	}
	name := strings.NewReplacer("float32", "float", "float64", "double").Replace(rt.Kind().String())
	switch tag + " " + name {
	case "long int64":
		name = "long"
	case "long uint64":
		name = "unsigned long"
	}
	t := scalars[name]
	if t == nil || tag != "" && tag != "long" && tag != "net" {
		return nil, fmt.Errorf("%v with %q is not known", rt, tag)
	}
	if tag == "net" {
		net := *t
		net.net = true
		return &net, nil
	}
	return t, nil
}

// snake writes a Go name as C does: ctlShowRIB88 is ctl_show_rib_88.
func snake(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		begins := unicode.IsUpper(c) && (i > 0 && !unicode.IsUpper(r[i-1]) || i > 0 && i+1 < len(r) && unicode.IsLower(r[i+1]))
		if i > 0 && (begins || unicode.IsDigit(c) && !unicode.IsDigit(r[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}
