package payload

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A program is what was found out about one type: where its bytes go.
type program struct {
	name string
	abi  ABI
	node
	tail *tail
}

// A node is a type in the making: its size and alignment in C, and the steps
// that move its bytes.
type node struct {
	size, align int
	ops         []op
	pointers    bool // its Go value holds some
}

type opKind uint8

const (
	opCopy   opKind = iota // n bytes that are the same on both sides
	opSwap                 // an integer of n bytes in network byte order
	opLong                 // n bytes that are 8 in Go
	opBool                 // a byte
	opString               // n bytes, a string in Go
	opArray                // n times sub
	opUnion                // the steps of one member
)

// An op is one step. c and g are its places in the C bytes and the Go value.
type op struct {
	kind         opKind
	signed       bool // of opLong
	c, g, n      int
	cstep, gstep int  // of opArray
	sub          []op // of opArray
	union        *union
	field        string
}

// A union moves the bytes of the member that another field selects.
type union struct {
	by      number
	members []member
	typ     reflect.Type
	clear   bool // typ has no pointers: its memory can be cleared as bytes
}

type member struct {
	cases []int64 // none: for all others
	ops   []op
}

// A number is an integer field of the Go value.
type number struct {
	g, size int
	signed  bool
	field   string
	typ     reflect.Type
}

// A tail is what follows the struct.
type tail struct {
	at    int // in the C bytes
	g     int
	typ   reflect.Type // the slice, or string
	elem  node
	count *number
	field string
}

var programs sync.Map // of *program or error, by programKey: a type is checked once

type programKey struct {
	t   reflect.Type
	abi ABI
}

// programOf returns the program of a struct type.
func programOf(t reflect.Type, abi ABI) (*program, error) {
	key := programKey{t, abi}
	v, ok := programs.Load(key)
	if !ok {
		p, err := newProgram(t, abi)
		if v = p; err != nil {
			v = err
		}
		v, _ = programs.LoadOrStore(key, v)
	}
	if p, ok := v.(*program); ok {
		return p, nil
	}
	return nil, v.(error)
}

func newProgram(t reflect.Type, abi ABI) (*program, error) {
	p := &program{name: t.String(), abi: abi}
	if t.Name() != "" {
		p.name = t.Name()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("payload: %w", invalid("%v is not a struct", t))
	}
	if abi > ILP32 {
		return nil, fmt.Errorf("payload: %w", invalid("%v is unknown", abi))
	}
	c := compiler{p: p}
	var err error
	p.node, err = c.structure(t, "", true)
	if e := (*FieldError)(nil); errors.As(err, &e) {
		e.Type = p.name
	}
	if p.tail != nil && p.tail.at < 0 {
		p.tail.at = p.size
	}
	return p, err
}

// A compiler makes one program. Its methods return errors with the field in
// them.
type compiler struct{ p *program }

// options are a field's tag.
type options struct {
	net, long, tail, flex bool
	char                  int
	union, count          string
	cases                 []int64
}

func fieldError(field string, err error) error { return &FieldError{Field: field, Err: err} }

// parseTag reads the tag of the field f.
func parseTag(f reflect.StructField) (o options, err error) {
	text := f.Tag.Get("c")
	if text == "" {
		return o, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case word == "net":
			o.net = true
		case word == "long":
			o.long = true
		case word == "tail":
			o.tail = true
		case word == "flex":
			o.flex = true
		case name == "union" && value != "":
			o.union = value
		case name == "count" && value != "":
			o.count = value
		case name == "case" && value != "":
			for s := range strings.SplitSeq(value, "|") {
				n, err := strconv.ParseInt(s, 0, 64)
				if err != nil {
					return o, invalid("case %q is not a number", s)
				}
				o.cases = append(o.cases, n)
			}
		case strings.HasPrefix(word, "char[") && strings.HasSuffix(word, "]"):
			o.char, err = strconv.Atoi(word[len("char[") : len(word)-1])
			if err != nil || o.char < 1 || o.char > maxSize {
				return o, invalid("%q: the size of a char array is from 1 to %d", word, maxSize)
			}
		case name == "bits" || name == "bit":
			return o, invalid("bit fields are laid out as each compiler likes: declare the integer that holds them, and mask")
		default:
			return o, invalid("unknown word %q in its tag", word)
		}
	}
	switch {
	case o.union != "" && (o.net || o.long || o.char != 0 || o.tail || o.flex):
		return o, invalid("net, long, char, tail or flex with union")
	case o.tail && o.flex:
		return o, invalid("tail with flex")
	case o.count != "" && !o.tail && !o.flex:
		return o, invalid("count without tail or flex")
	}
	return o, nil
}

const (
	maxSize  = 1<<31 - 1 // of a struct with its tail: a message cannot be longer
	maxAlign = 8
)

// isMarker reports whether f says that the struct it is in is packed.
func isMarker(f reflect.StructField) bool {
	return f.Name == "_" && f.Tag.Get("c") == "packed" && f.Type.Size() == 0
}

// packed reports whether t has the marker.
func packed(t reflect.Type) bool {
	for f := range t.Fields() {
		if isMarker(f) {
			return true
		}
	}
	return false
}

// structure lays out the struct t. outer says that it may have a tail.
func (c *compiler) structure(t reflect.Type, path string, outer bool) (node, error) {
	n := node{align: 1}
	pack := packed(t)
	var late []op // unions: what selects their members comes first
	for i := range t.NumField() {
		f := t.Field(i)
		name := path + f.Name
		if isMarker(f) {
			continue
		}
		o, err := parseTag(f)
		if err != nil {
			return n, fieldError(name, err)
		}
		if o.cases != nil {
			return n, fieldError(name, invalid("case outside of a union"))
		}
		if o.tail || o.flex {
			if !outer || i != t.NumField()-1 {
				return n, fieldError(name, invalid("only the last field of the whole struct can be a tail"))
			}
			if err := c.tail(&n, t, f, o, name, pack); err != nil {
				return n, err
			}
			break
		}
		var sub node
		if o.union != "" {
			sub, err = c.union(t, f, o, name)
		} else {
			sub, err = c.value(f.Type, o, name)
		}
		if err != nil {
			return n, err
		}
		if !pack {
			n.size = alignUp(n.size, sub.align)
			n.align = max(n.align, sub.align)
		}
		if f.Name != "_" {
			n.pointers = n.pointers || sub.pointers
			for _, o := range sub.ops {
				o.c += n.size
				o.g += int(f.Offset)
				if o.kind == opUnion {
					late = append(late, o)
				} else {
					n.add(o)
				}
			}
		}
		if sub.size > maxSize-n.size-maxAlign {
			return n, fieldError(name, invalid("the struct is longer than %d bytes", maxSize-maxAlign))
		}
		n.size += sub.size
	}
	n.ops = append(n.ops, late...)
	n.size = alignUp(n.size, n.align)
	return n, nil
}

func alignUp(n, align int) int { return (n + align - 1) / align * align }

// add adds a step; copies side by side become one.
func (n *node) add(o op) {
	if last := len(n.ops) - 1; o.kind == opCopy && last >= 0 {
		if l := &n.ops[last]; l.kind == opCopy && l.c+l.n == o.c && l.g+l.n == o.g {
			l.n += o.n
			return
		}
	}
	n.ops = append(n.ops, o)
}

// value lays out one field or element of the type t.
func (c *compiler) value(t reflect.Type, o options, field string) (node, error) {
	abi := c.p.abi
	scalar := func(size int, step op) (node, error) {
		step.field = field
		return node{size: size, align: abi.align(size), ops: []op{step}}, nil
	}
	k := t.Kind()
	if k == reflect.Array {
		return c.array(t, o, field)
	}
	if o.net && (k < reflect.Int8 || k > reflect.Uint64 || k == reflect.Uint) {
		return node{}, fieldError(field, invalid("net wants an integer, not %v", t))
	}
	if o.long && k != reflect.Int64 && k != reflect.Uint64 {
		return node{}, fieldError(field, invalid("long wants an int64 or a uint64, not %v", t))
	}
	if o.char != 0 && k != reflect.String {
		return node{}, fieldError(field, invalid("char[%d] wants a string, not %v; for an array of bytes it is not needed", o.char, t))
	}
	size := int(t.Size())
	switch k {
	case reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64, reflect.Uint64:
		switch {
		case o.long && abi.long() == 4 && o.net:
			return node{}, fieldError(field, invalid("a long in network byte order has no size of its own"))
		case o.long && abi.long() == 4:
			return scalar(4, op{kind: opLong, n: 4, signed: k == reflect.Int64})
		case o.net && size > 1 && !bigEndian:
			return scalar(size, op{kind: opSwap, n: size})
		}
		return scalar(size, op{kind: opCopy, n: size})
	case reflect.Float32, reflect.Float64:
		return scalar(size, op{kind: opCopy, n: size})
	case reflect.Bool:
		return scalar(1, op{kind: opBool})
	case reflect.String:
		if o.char == 0 {
			return node{}, fieldError(field, invalid("a string needs a size: `c:\"char[N]\"`, or `c:\"tail\"`"))
		}
		return node{size: o.char, align: 1, pointers: true, ops: []op{{kind: opString, n: o.char, field: field}}}, nil
	case reflect.Struct:
		return c.structure(t, field+".", false)
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		return node{}, fieldError(field, invalid("%v differs from C: int32 or uint32 is C's int, `c:\"long\"` on an int64 or uint64 its long", t))
	}
	return node{}, fieldError(field, invalid("%v has no size in C", t))
}

// array lays out an array: its tag is that of its elements.
func (c *compiler) array(t reflect.Type, o options, field string) (node, error) {
	elem, err := c.value(t.Elem(), o, field)
	if err != nil {
		return elem, err
	}
	n := node{align: elem.align, pointers: elem.pointers}
	if t.Len() > 0 && elem.size > maxSize/t.Len() {
		return n, fieldError(field, invalid("the array is longer than %d bytes", maxSize))
	}
	n.size = elem.size * t.Len()
	step := int(t.Elem().Size())
	if elem.plain(step) {
		n.ops = []op{{kind: opCopy, n: n.size, field: field}}
	} else if t.Len() > 0 && len(elem.ops) > 0 {
		n.ops = []op{{kind: opArray, n: t.Len(), cstep: elem.size, gstep: step, sub: elem.ops, field: field}}
	}
	return n, nil
}

// plain reports whether values of the type, which take step bytes in Go, are
// the same in C: then one step copies many.
func (n *node) plain(step int) bool {
	return len(n.ops) == 1 && n.ops[0].kind == opCopy && n.ops[0].n == n.size && n.size == step
}

// union lays out the field f of in, which is a union.
func (c *compiler) union(in reflect.Type, f reflect.StructField, o options, field string) (node, error) {
	n := node{align: 1}
	by, err := findNumber(in, o.union)
	if err != nil {
		return n, fieldError(field, err)
	}
	if f.Type.Kind() != reflect.Struct {
		return n, fieldError(field, invalid("a union is a struct of its members, not %v", f.Type))
	}
	by.g -= int(f.Offset) // it is moved with the union
	u := &union{by: by, typ: f.Type}
	pack := packed(f.Type)
	for m := range f.Type.Fields() {
		name := field + "." + m.Name
		if isMarker(m) {
			continue
		}
		mo, err := parseTag(m)
		if err != nil {
			return n, fieldError(name, err)
		}
		if mo.tail || mo.flex {
			return n, fieldError(name, invalid("a tail inside a union"))
		}
		sub, err := c.value(m.Type, mo, name)
		if mo.union != "" {
			sub, err = node{}, fieldError(name, invalid("a union as a member of a union: put it into a struct with what selects it"))
		}
		if err != nil {
			return n, err
		}
		for _, v := range mo.cases {
			if !by.holds(v) {
				return n, fieldError(name, invalid("case %d, but %s is a %v", v, by.field, by.typ))
			}
		}
		if m.Name == "_" {
			sub.ops = nil
		}
		for j := range sub.ops {
			sub.ops[j].g += int(m.Offset)
		}
		if n.size = max(n.size, sub.size); !pack {
			n.align = max(n.align, sub.align)
		}
		n.pointers = n.pointers || sub.pointers
		for _, other := range u.members {
			if mo.cases == nil && other.cases == nil || slices.ContainsFunc(mo.cases, func(v int64) bool { return slices.Contains(other.cases, v) }) {
				return n, fieldError(name, invalid("a second member for the same case"))
			}
		}
		u.members = append(u.members, member{mo.cases, sub.ops})
	}
	n.size = alignUp(n.size, n.align)
	u.clear = !n.pointers
	n.ops = []op{{kind: opUnion, union: u, field: field}}
	return n, nil
}

// findNumber finds the integer field with the given path below t.
func findNumber(t reflect.Type, path string) (number, error) {
	n := number{field: path}
	for name := range strings.SplitSeq(path, ".") {
		if t.Kind() != reflect.Struct {
			return n, invalid("no field %q", path)
		}
		f, ok := t.FieldByName(name)
		if !ok || name == "_" {
			return n, invalid("no field %q", path)
		}
		for _, i := range f.Index { // more than one for a field of an embedded struct
			if t.Kind() != reflect.Struct {
				return n, invalid("no field %q", path)
			}
			n.g += int(t.Field(i).Offset)
			t = t.Field(i).Type
		}
	}
	switch k := t.Kind(); {
	case k >= reflect.Int8 && k <= reflect.Int64:
		n.signed = true
	case k >= reflect.Uint8 && k <= reflect.Uint64:
	default:
		return n, invalid("field %q is no integer of a fixed size, but %v", path, t)
	}
	n.typ, n.size = t, int(t.Size())
	return n, nil
}

// holds reports whether the field can be v.
func (n *number) holds(v int64) bool {
	bits := 8 * n.size
	switch {
	case bits == 64:
		return true // as load returns it
	case n.signed:
		return v>>(bits-1) == 0 || v>>(bits-1) == -1
	}
	return v>>bits == 0
}

// tail notes the field f of in, at the end of what n has so far.
func (c *compiler) tail(n *node, in reflect.Type, f reflect.StructField, o options, field string, pack bool) (err error) {
	t := &tail{at: -1, g: int(f.Offset), typ: f.Type, field: field}
	switch f.Type.Kind() {
	case reflect.Slice:
		if t.elem, err = c.value(f.Type.Elem(), options{net: o.net, long: o.long, char: o.char}, field+"[]"); err != nil {
			return err
		}
		if t.elem.size == 0 {
			return fieldError(field, invalid("elements without a size"))
		}
	case reflect.String:
		if o.net || o.long || o.char != 0 {
			return fieldError(field, invalid("net, long or char with a tail that is a string"))
		}
		t.elem = node{size: 1, align: 1}
	default:
		return fieldError(field, invalid("a tail is a slice or a string, not %v", f.Type))
	}
	if o.flex {
		if !pack {
			n.align = max(n.align, t.elem.align)
		}
		t.at = n.size
		if !pack {
			t.at = alignUp(n.size, t.elem.align)
		}
	}
	if o.count != "" {
		count, err := findNumber(in, o.count)
		if err != nil {
			return fieldError(field, err)
		}
		t.count = &count
	}
	c.p.tail = t
	return nil
}
