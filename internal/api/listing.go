package main

import (
	"fmt"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// A lister collects the lines of one package.
type lister struct {
	pkg        *types.Package
	prefix     string
	deprecated map[token.Pos]bool
	lines      []string
}

// listing returns one sorted line for each exported name of pkg, in the style
// of Go's own api folder. Names of parameters are not part of the API.
func listing(name string, pkg *types.Package, deprecated map[token.Pos]bool) []string {
	l := &lister{pkg: pkg, prefix: "pkg " + name + ", ", deprecated: deprecated}
	for _, n := range pkg.Scope().Names() {
		obj := pkg.Scope().Lookup(n)
		if !obj.Exported() {
			continue
		}
		switch obj := obj.(type) {
		case *types.Const:
			l.constant(obj)
		case *types.Var:
			l.add(obj, "var %s %s", n, l.typ(obj.Type()))
		case *types.Func:
			l.add(obj, "func %s%s", n, l.signature(obj.Signature()))
		case *types.TypeName:
			l.typeName(obj)
		}
	}
	slices.Sort(l.lines)
	return slices.Compact(l.lines)
}

func (l *lister) add(obj types.Object, format string, args ...any) {
	line := l.prefix + fmt.Sprintf(format, args...)
	if l.deprecated[obj.Pos()] {
		line += " //deprecated"
	}
	l.lines = append(l.lines, line)
}

func (l *lister) constant(c *types.Const) {
	if b, ok := c.Type().(*types.Basic); ok && b.Info()&types.IsUntyped != 0 {
		l.add(c, "const %s = %s", c.Name(), c.Val().ExactString())
		return
	}
	l.add(c, "const %s %s = %s", c.Name(), l.typ(c.Type()), c.Val().ExactString())
}

func (l *lister) typeName(obj *types.TypeName) {
	if a, ok := obj.Type().(*types.Alias); ok {
		l.add(obj, "type %s%s = %s", obj.Name(), l.params(a.TypeParams()), l.typ(a.Rhs()))
		return
	}
	named := obj.Type().(*types.Named)
	name := obj.Name() + l.params(named.TypeParams())
	switch u := named.Underlying().(type) {
	case *types.Struct:
		l.add(obj, "type %s struct", name)
		l.fields(name, u)
		l.methods(named)
	case *types.Interface:
		l.iface(obj, name, u)
	default:
		l.add(obj, "type %s %s", name, l.typ(u))
		l.methods(named)
	}
}

// fields lists the fields of a struct, and those that come with an embedded
// type whose own name others cannot use.
func (l *lister) fields(name string, s *types.Struct) {
	for f := range s.Fields() {
		switch {
		case f.Exported() && f.Embedded():
			l.add(f, "type %s struct, embedded %s", name, l.typ(f.Type()))
		case f.Exported():
			l.add(f, "type %s struct, %s %s", name, f.Name(), l.typ(f.Type()))
		case f.Embedded():
			t := f.Type()
			if p, ok := t.Underlying().(*types.Pointer); ok {
				t = p.Elem()
			}
			if inner, ok := t.Underlying().(*types.Struct); ok {
				l.fields(name, inner)
			}
		}
	}
}

// methods lists a type's methods, and those that come with an embedded type
// whose own name others cannot use. All others are listed where they are.
func (l *lister) methods(t *types.Named) {
	s, _ := t.Underlying().(*types.Struct)
	values := types.NewMethodSet(t)
	for m := range types.NewMethodSet(types.NewPointer(t)).Methods() {
		if !m.Obj().Exported() || len(m.Index()) > 1 && s.Field(m.Index()[0]).Exported() {
			continue
		}
		star := "*"
		if values.Lookup(m.Obj().Pkg(), m.Obj().Name()) != nil {
			star = ""
		}
		l.add(m.Obj(), "method (%s%s) %s%s", star, l.typ(t), m.Obj().Name(), l.signature(m.Type().(*types.Signature)))
	}
}

func (l *lister) iface(obj *types.TypeName, name string, i *types.Interface) {
	if !i.IsMethodSet() { // a constraint
		l.add(obj, "type %s %s", name, l.typ(i))
		return
	}
	var names []string
	hidden := false
	for m := range i.Methods() {
		if m.Exported() {
			names = append(names, m.Name())
			l.add(m, "type %s interface, %s%s", name, m.Name(), l.signature(m.Signature()))
		} else {
			hidden = true
		}
	}
	slices.Sort(names)
	if hidden {
		names = append(names, "unexported methods")
	}
	l.add(obj, "type %s %s", name, strings.ReplaceAll("interface { "+strings.Join(names, ", ")+" }", "{  }", "{}"))
}

func (l *lister) signature(s *types.Signature) string {
	return l.params(s.TypeParams()) + strings.TrimPrefix(l.typ(s), "func")
}

// params are type parameters with their constraints.
func (l *lister) params(list *types.TypeParamList) string {
	if list.Len() == 0 {
		return ""
	}
	var all []string
	for p := range list.TypeParams() {
		all = append(all, p.Obj().Name()+" "+l.typ(p.Constraint()))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// typ names a type as a file of the package would, without parameter names.
func (l *lister) typ(t types.Type) string {
	return types.TypeString(nameless(t), func(p *types.Package) string {
		if p == l.pkg {
			return ""
		}
		return p.Name()
	})
}

// nameless returns t without the names of parameters in the function types
// that it is made of.
func nameless(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.Signature:
		return types.NewSignatureType(nil, nil, nil, tuple(t.Params()), tuple(t.Results()), t.Variadic())
	case *types.Pointer:
		return types.NewPointer(nameless(t.Elem()))
	case *types.Slice:
		return types.NewSlice(nameless(t.Elem()))
	case *types.Array:
		return types.NewArray(nameless(t.Elem()), t.Len())
	case *types.Map:
		return types.NewMap(nameless(t.Key()), nameless(t.Elem()))
	case *types.Chan:
		return types.NewChan(t.Dir(), nameless(t.Elem()))
	}
	return t
}

func tuple(t *types.Tuple) *types.Tuple {
	var vars []*types.Var
	for v := range t.Variables() {
		vars = append(vars, types.NewParam(v.Pos(), v.Pkg(), "", nameless(v.Type())))
	}
	return types.NewTuple(vars...)
}
