package profile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A SyntaxError is a mistake in a profile.
type SyntaxError struct {
	File         string
	Line, Column int // from 1; columns are characters
	Err          error
}

// Error returns for example "my.imsg:3:8: there is no type foo".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", e.File, e.Line, e.Column, e.Err)
}

// Unwrap returns Err.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Parse reads a profile. Each line is one of
//
//	# a comment
//	program NAME [EXECUTABLE...]        the profile's name, and whose messages these are
//	socket PART...                      parts of the paths of its sockets
//	dialect legacy                      what the program speaks; current if there is no such line
//	type NUMBER NAME [STRUCT[|STRUCT]]  a type of message; of its payloads the first that fits counts
//	enum NAME {                         then NAME = NUMBER in each line, and }
//	struct NAME [packed] [size N] {     then the fields, and }; a size is an assertion
//
// and a field is
//
//	[net] TYPE NAME[N] [@OFFSET] [if FIELD == N[|N]]
//
// where TYPE is a C type (int, uint32_t, char, struct NAME, enum NAME, in_addr,
// pointer and so on), bytes, which is shown in hex, or string, which ends with
// its NUL. NAME[] is an array that ends with the payload; strings and these are
// the last fields. What is called _N is not shown. The error is a *SyntaxError.
func Parse(file, text string) (p *Profile, err error) {
	d := &parser{p: newProfile(), structs: make(map[string]*ctype), enums: make(map[string]map[int64]string), uses: make(map[uint32][]use)}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *SyntaxError:
			e.File = file
			p, err = nil, e
		default:
			panic(e)
		}
	}()
	for line := range strings.Lines(text) {
		d.number++
		d.line, d.at, d.end = strings.TrimRight(line, "\r\n"), 0, 0
		if d.next(); d.token != "" {
			d.statement()
		}
	}
	d.line, d.at = "", 0
	if d.in != nil || d.inEnum != nil {
		d.fail("the last brace is not closed")
	}
	if d.p.Name == "" {
		d.fail("there is no line \"program NAME\"")
	}
	for typ, uses := range d.uses {
		for _, u := range uses {
			t := d.structs[u.name]
			if t == nil {
				d.number, d.line, d.at = u.line, u.text, u.at
				d.fail("there is no struct %s", u.name)
			}
			d.p.payloads[typ] = append(d.p.payloads[typ], t)
		}
	}
	d.p.structs = d.order
	return d.p, nil
}

// A use is a struct's name in the line of a type, which may come first.
type use struct {
	name, text string
	line, at   int
}

type parser struct {
	p       *Profile
	structs map[string]*ctype
	order   []*ctype // as they were declared
	enums   map[string]map[int64]string
	uses    map[uint32][]use

	number  int
	line    string
	at, end int // of token
	token   string
	in      *ctype // the struct that is open
	inSize  int    // asserted, or 0
	inEnum  map[int64]string
}

func (d *parser) fail(format string, args ...any) {
	panic(&SyntaxError{Line: d.number, Column: utf8.RuneCountInString(d.line[:d.at]) + 1, Err: fmt.Errorf(format, args...)})
}

const punctuation = "{}[]@=;|*"

// next reads a token; "" is the end of the line.
func (d *parser) next() {
	rest := strings.TrimLeft(d.line[d.end:], " \t")
	d.at = len(d.line) - len(rest)
	n := strings.IndexAny(rest, " \t#"+punctuation)
	switch {
	case n < 0:
		n = len(rest)
	case n == 0 && rest[0] == '#':
	case n == 0 && strings.HasPrefix(rest, "=="):
		n = 2
	case n == 0:
		n = 1
	}
	d.token, d.end = rest[:n], d.at+n
}

func (d *parser) take(token string) bool {
	if d.token != token || token == "" {
		return false
	}
	d.next()
	return true
}

func (d *parser) want(token string) {
	if !d.take(token) {
		d.fail("%q is wanted here, not %q", token, d.token)
	}
}

// word reads a name.
func (d *parser) word(what string) string {
	s := d.token
	if !isWord(s) {
		d.fail("%s is wanted here, not %q", what, s)
	}
	d.next()
	return s
}

// isWord says whether s can be a word in a profile. What a terminal would obey
// cannot: profiles are printed as they are.
func isWord(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return s != "" && !strings.ContainsAny(s, " \t#"+punctuation) && utf8.ValidString(s)
}

// name reads a name as C has them.
func (d *parser) name(what string) string {
	if !isName(d.token) {
		d.fail("%s is wanted here, not %q", what, d.token)
	}
	return d.word(what)
}

// integer reads one of up to 64 bits.
func (d *parser) integer(what string, lowest, highest int64) int64 {
	n, err := strconv.ParseInt(d.token, 0, 64)
	if err != nil || n < lowest || n > highest {
		d.fail("%s from %d to %d is wanted here, not %q", what, lowest, highest, d.token)
	}
	d.next()
	return n
}

func (d *parser) statement() {
	switch {
	case d.in != nil:
		d.member()
	case d.inEnum != nil:
		if d.take("}") {
			d.inEnum = nil
			break
		}
		name := d.name("a name")
		d.want("=")
		d.inEnum[d.integer("a number", -1<<31, 1<<32-1)] = name
	default:
		d.declaration()
	}
	d.take(";")
	if d.token != "" {
		d.fail("%q is not expected here", d.token)
	}
}

func (d *parser) declaration() {
	at := d.at
	switch word := d.word("a declaration"); word {
	case "program":
		d.p.Name = d.word("a name")
		for d.token != "" {
			d.p.programs = append(d.p.programs, d.word("a program"))
		}
	case "socket":
		for d.p.sockets = append(d.p.sockets, d.word("a part of a path")); d.token != ""; {
			d.p.sockets = append(d.p.sockets, d.word("a part of a path"))
		}
	case "dialect":
		if d.p.Legacy = d.token == "legacy"; !d.p.Legacy && d.token != "current" {
			d.fail("legacy or current is wanted here, not %q", d.token)
		}
		d.next()
	case "type":
		typ := uint32(d.integer("a number", 0, 1<<32-1))
		if name := d.p.types[typ]; name != "" {
			d.fail("type %d is %s already", typ, name)
		}
		d.p.name(typ, d.name("a name"))
		for ok := d.token != ""; ok; ok = d.take("|") {
			d.uses[typ] = append(d.uses[typ], use{d.token, d.line, d.number, d.at})
			d.word("a struct")
		}
	case "enum":
		name := d.name("a name")
		if d.enums[name] != nil {
			d.fail("enum %s is there already", name)
		}
		d.inEnum = make(map[int64]string)
		d.enums[name] = d.inEnum
		d.want("{")
	case "struct":
		d.in, d.inSize = &ctype{name: d.name("a name"), kind: kindStruct}, 0
		if d.structs[d.in.name] != nil || scalars[d.in.name] != nil {
			d.fail("struct %s is there already", d.in.name)
		}
		d.in.packed = d.take("packed")
		if d.take("size") {
			d.inSize = int(d.integer("a size", 1, maxSize))
		}
		d.want("{")
	default:
		d.at = at
		d.fail("program, socket, dialect, type, enum or struct is wanted here, not %q", word)
	}
}

// member reads a field, or the end of a struct.
func (d *parser) member() {
	if d.take("}") {
		d.at = 0
		if err := d.in.lay(); err != nil {
			d.fail("struct %s: %w", d.in.name, err)
		}
		if d.inSize != 0 && d.inSize != d.in.size {
			d.fail("struct %s has %d bytes here, not %d", d.in.name, d.in.size, d.inSize)
		}
		d.structs[d.in.name] = d.in
		d.order = append(d.order, d.in)
		d.in = nil
		return
	}
	start := d.at
	net := d.take("net")
	var words []string
	for {
		if d.take("*") {
			words = append(words, "*")
		} else if slices.Contains([]string{"", "[", "@", "if", ";"}, d.token) {
			break
		} else {
			words = append(words, d.name("a type or a name"))
		}
	}
	if len(words) < 2 {
		d.fail("a field is a type and a name")
	}
	f := field{name: words[len(words)-1]}
	if f.name == "*" {
		d.fail("a name is wanted here")
	}
	after := d.at
	d.at = start
	f.typ = d.typeOf(words[:len(words)-1], net)
	d.at = after
	f.typ = d.dimensions(f.typ)
	if d.take("@") {
		f.placed, f.offset = true, int(d.integer("an offset", 0, maxSize))
	}
	if d.take("if") {
		f.when = d.name("a field")
		d.want("==")
		f.values = append(f.values, uint64(d.integer("a number", -1<<63, 1<<63-1)))
		for d.take("|") {
			f.values = append(f.values, uint64(d.integer("a number", -1<<63, 1<<63-1)))
		}
	}
	if len(d.in.fields) == maxFields {
		d.fail("a struct has at most %d fields", maxFields)
	}
	d.in.fields = append(d.in.fields, f)
}

const maxFields = 4096

// typeOf finds a type; in network byte order if it is a number.
func (d *parser) typeOf(words []string, net bool) *ctype {
	name := strings.Join(words, " ")
	t := scalars[name]
	if tag, ok := strings.CutPrefix(name, "enum "); ok && d.enums[tag] != nil {
		e := *scalars["enum"]
		e.name, e.enum = name, d.enums[tag]
		t = &e
	} else if words[len(words)-1] == "*" {
		t = scalars["pointer"]
	} else if t == nil || name == "enum" {
		t = d.structs[strings.TrimPrefix(name, "struct ")]
	}
	if t == nil {
		d.fail("there is no type %q", name)
	}
	if net {
		if t.kind > kindFloat && t.kind != kindByte {
			d.fail("%s has no byte order", name)
		}
		n := *t
		n.net = true
		return &n
	}
	return t
}

// dimensions reads what is behind the name of an array, the outermost first.
func (d *parser) dimensions(t *ctype) *ctype {
	var dims []int
	at := d.at
	for d.take("[") {
		n := -1
		if d.token != "]" {
			n = int(d.integer("a number", 1, maxSize))
		}
		if len(dims) == 8 {
			d.fail("more than 8 dimensions")
		}
		dims = append(dims, n)
		d.want("]")
	}
	for _, n := range slices.Backward(dims) {
		var err error
		if t, err = arrayOf(t, n); err != nil {
			d.at = at
			d.fail("%w", err)
		}
	}
	return t
}

// Text returns p as Parse reads it.
func (p *Profile) Text() string {
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(append([]string{"program", p.Name}, p.programs...), " "))
	if len(p.sockets) > 0 {
		fmt.Fprintln(&b, "socket", strings.Join(p.sockets, " "))
	}
	if p.Legacy {
		fmt.Fprintln(&b, "dialect legacy")
	}
	b.WriteString("\n")
	for _, typ := range slices.Sorted(maps.Keys(p.types)) {
		var names []string
		for _, t := range p.payloads[typ] {
			names = append(names, t.name)
		}
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("type %d %s %s", typ, p.types[typ], strings.Join(names, "|")), " "))
	}
	written := make(map[string]bool)
	for _, t := range p.structs {
		for _, f := range t.fields {
			if e := f.typ.base(); e.enum != nil && !written[e.name] {
				written[e.name] = true
				fmt.Fprintf(&b, "\n%s {\n", e.name)
				for _, n := range slices.Sorted(maps.Keys(e.enum)) {
					fmt.Fprintf(&b, "\t%s = %d\n", e.enum[n], n)
				}
				b.WriteString("}\n")
			}
		}
		t.write(&b)
	}
	return b.String()
}

// base is an array's element, or that of its elements.
func (t *ctype) base() *ctype {
	for t.kind == kindArray {
		t = t.elem
	}
	return t
}

func (t *ctype) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nstruct %s ", t.name)
	if t.packed {
		b.WriteString("packed ")
	}
	if t.size > 0 {
		fmt.Fprintf(b, "size %d ", t.size)
	}
	b.WriteString("{\n")
	for _, f := range t.fields {
		b.WriteByte('\t')
		base := f.typ.base()
		if base.net {
			b.WriteString("net ")
		}
		if base.kind == kindStruct {
			b.WriteString("struct ")
		}
		fmt.Fprintf(b, "%s %s", base.name, f.name)
		for e := f.typ; e.kind == kindArray; e = e.elem {
			if e.n < 0 {
				b.WriteString("[]")
			} else {
				fmt.Fprintf(b, "[%d]", e.n)
			}
		}
		if f.placed {
			fmt.Fprintf(b, " @%d", f.offset)
		}
		for i, v := range f.values {
			if i == 0 {
				fmt.Fprintf(b, " if %s ==", f.when)
			}
			fmt.Fprintf(b, "%s%d", [2]string{" ", "|"}[min(i, 1)], int64(v))
		}
		b.WriteByte('\n')
	}
	b.WriteString("}\n")
}
