package bgpd

import (
	"net/netip"
	"reflect"
	"strings"
)

// fields are those of a C struct that several versions have, each in its place.
// They are looked up by name, which is for messages of which there are few.
type fields struct{ v reflect.Value }

// fieldsOf returns the fields of the struct that c points to.
func fieldsOf(c any) fields { return fields{reflect.ValueOf(c).Elem()} }

// get returns the field with the path, "Stats.LastRead"; one that is not there
// is not valid.
func (f fields) get(path string) reflect.Value {
	v := f.v
	for name := range strings.SplitSeq(path, ".") {
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		if v = v.FieldByName(name); !v.IsValid() {
			return v
		}
	}
	return v
}

func (f fields) has(path string) bool { return f.get(path).IsValid() }

// sub returns the fields of a struct in f.
func (f fields) sub(path string) fields { return fields{f.get(path)} }

// number returns an integer, and NotTold if there is none.
func (f fields) number(path string) int64 { return number(f.get(path)) }

// element returns an element of an array of integers, and NotTold if there is
// none.
func (f fields) element(path string, i int) int64 {
	v := f.get(path)
	if !v.IsValid() || i >= v.Len() {
		return NotTold
	}
	return number(v.Index(i))
}

func number(v reflect.Value) int64 {
	switch {
	case !v.IsValid():
		return NotTold
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(v.Uint())
	}
	return NotTold
}

// unsigned returns the first integer that is there, and 0 if none is.
func (f fields) unsigned(paths ...string) uint64 {
	for _, path := range paths {
		if v := f.get(path); v.IsValid() && v.CanUint() {
			return v.Uint()
		} else if v.IsValid() && v.CanInt() {
			return uint64(max(v.Int(), 0))
		}
	}
	return 0
}

func (f fields) flag(path string) bool { return f.unsigned(path) != 0 }

func (f fields) text(path string) string {
	if v := f.get(path); v.IsValid() {
		return v.String()
	}
	return ""
}

// address returns a struct bgpd_addr.
func (f fields) address(path string) netip.Addr {
	a := f.sub(path)
	if !a.v.IsValid() {
		return netip.Addr{}
	}
	union := a.get("Union")
	if !union.IsValid() {
		union = a.get("Ba")
	}
	b := make([]byte, union.Len())
	reflect.Copy(reflect.ValueOf(b), union)
	return address(Family(a.unsigned("AID")), b)
}
