package profile

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Encode makes the payload of a message from values by name: those that
// encoding/json gives with UseNumber, and strings for everything. Fields that
// are not named are zero. Of the type's structs the first is taken that has
// all the names.
func (p *Profile) Encode(typ uint32, values map[string]any) ([]byte, error) {
	var known []*ctype
	if p != nil {
		known = p.payloads[typ]
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("no profile says what a payload of %s is: hex:, text: or @FILE", p.TypeText(typ))
	}
	var err error
	for _, t := range known {
		b := make([]byte, t.size)
		var e error
		if b, e = t.encodeStruct(b, b, values, ""); e == nil {
			return b, nil
		} else if err == nil {
			err = e
		}
	}
	return nil, err
}

// FieldNames returns the names of the fields that a payload can have.
func (p *Profile) FieldNames(typ uint32) (names []string) {
	if p == nil {
		return nil
	}
	for _, t := range p.payloads[typ] {
		for _, f := range t.fields {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// encodeStruct sets the fields in b, and appends those without a fixed size to
// all, which it returns.
func (t *ctype) encodeStruct(b, all []byte, values map[string]any, path string) ([]byte, error) {
	for name := range values {
		if !slices.ContainsFunc(t.fields, func(f field) bool { return f.name == name }) {
			var names []string
			for _, f := range t.fields {
				names = append(names, f.name)
			}
			return nil, fmt.Errorf("%s has no field %s%s: %s", t.name, path, name, strings.Join(names, ", "))
		}
	}
	for i := range t.fields {
		f := &t.fields[i]
		v, ok := values[f.name]
		var err error
		switch {
		case f.isVariable():
			if ok {
				all, err = f.typ.appendTail(all, v)
			} else if f.typ.kind == kindString {
				all = append(all, 0)
			}
		case ok:
			err = f.typ.encode(b[f.offset:f.offset+f.typ.size], v, path+f.name+".")
		}
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", path, f.name, err)
		}
	}
	return all, nil
}

func (t *ctype) encode(b []byte, v any, path string) error {
	switch t.kind {
	case kindStruct:
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("a struct is wanted: %sNAME=value, or a JSON object", path)
		}
		_, err := t.encodeStruct(b, b, m, path)
		return err
	case kindArray:
		return t.encodeArray(b, v, path)
	case kindIP:
		a, err := netip.ParseAddr(fmt.Sprint(v))
		if err != nil {
			return err
		}
		if len(a.AsSlice()) != t.size {
			return fmt.Errorf("%v has %d bytes, %s has %d", a, len(a.AsSlice()), t.name, t.size)
		}
		copy(b, a.AsSlice())
		return nil
	}
	n, err := t.parse(fmt.Sprint(v))
	if err != nil {
		return err
	}
	order := binary.ByteOrder(binary.NativeEndian)
	if t.net {
		order = binary.BigEndian
	}
	switch t.size {
	case 1:
		b[0] = byte(n)
	case 2:
		order.PutUint16(b, uint16(n))
	case 4:
		order.PutUint32(b, uint32(n))
	default:
		order.PutUint64(b, n)
	}
	return nil
}

// parse returns the bits of a scalar.
func (t *ctype) parse(s string) (uint64, error) {
	switch t.kind {
	case kindInt:
		for n, name := range t.enum {
			if strings.EqualFold(name, s) {
				return uint64(n), nil
			}
		}
		n, err := strconv.ParseInt(s, 0, 8*t.size)
		return uint64(n), numError(err)
	case kindFloat:
		d, err := strconv.ParseFloat(s, 8*t.size)
		if t.size == 4 {
			return uint64(math.Float32bits(float32(d))), numError(err)
		}
		return math.Float64bits(d), numError(err)
	case kindBool:
		ok, err := strconv.ParseBool(s)
		if ok {
			return 1, nil
		}
		return 0, numError(err)
	}
	n, err := strconv.ParseUint(s, 0, 8*t.size)
	return n, numError(err)
}

// numError says less than strconv.
func numError(err error) error {
	if e := new(strconv.NumError); errors.As(err, &e) {
		return fmt.Errorf("%q: %w", e.Num, e.Err)
	}
	return err
}

func (t *ctype) encodeArray(b []byte, v any, path string) error {
	switch t.elem.kind {
	case kindChar:
		s, ok := v.(string)
		if !ok || len(s) >= len(b) || strings.ContainsRune(s, 0) {
			return fmt.Errorf("a text of at most %d bytes is wanted", len(b)-1)
		}
		copy(b, s)
		return nil
	case kindByte:
		p, err := octets(v)
		if err == nil && len(p) > len(b) {
			err = fmt.Errorf("%d bytes, %d are possible", len(p), len(b))
		}
		copy(b, p)
		return err
	}
	values, err := list(v)
	if err == nil && len(values) > t.n {
		err = fmt.Errorf("%d elements, %d are possible", len(values), t.n)
	}
	for i, v := range values {
		if err == nil {
			err = t.elem.encode(b[i*t.elem.size:][:t.elem.size], v, path)
		}
	}
	return err
}

// octets takes hex, or a text behind "text:".
func octets(v any) ([]byte, error) {
	s := fmt.Sprint(v)
	if text, ok := strings.CutPrefix(s, "text:"); ok {
		return []byte(text), nil
	}
	return hex.DecodeString(strings.TrimPrefix(s, "hex:"))
}

// list takes a JSON array, as a value or a text, or a text with commas.
func list(v any) (values []any, err error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case string:
		if strings.HasPrefix(v, "[") {
			d := json.NewDecoder(strings.NewReader(v))
			d.UseNumber()
			return values, d.Decode(&values)
		}
		for s := range strings.SplitSeq(v, ",") {
			values = append(values, s)
		}
		return values, nil
	}
	return nil, fmt.Errorf("an array is wanted: a,b,c or JSON")
}

func (t *ctype) appendTail(b []byte, v any) ([]byte, error) {
	if t.kind == kindString {
		s, ok := v.(string)
		if !ok || strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("a text is wanted")
		}
		return append(append(b, s...), 0), nil
	}
	switch t.elem.kind {
	case kindChar:
		return append(b, fmt.Sprint(v)...), nil
	case kindByte:
		p, err := octets(v)
		return append(b, p...), err
	}
	values, err := list(v)
	for _, v := range values {
		if err != nil {
			break
		}
		if t.elem.kind == kindString {
			b, err = t.elem.appendTail(b, v)
			continue
		}
		p := make([]byte, t.elem.size)
		err = t.elem.encode(p, v, "")
		b = append(b, p...)
	}
	return b, err
}
