package payload

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// compilers lay out structs for each ABI. They only compile: nothing runs, and
// no header of the system is needed.
var compilers = map[ABI][]string{
	LP64:  {"gcc", "-m64"},
	I386:  {"gcc", "-m32"},
	ILP32: {"arm-linux-gnueabihf-gcc"},
}

// A ctype is one type, in C and in Go.
type ctype struct {
	c   string // a declaration, with %s for the name
	t   reflect.Type
	tag string
}

var scalars = []ctype{
	{"signed char %s", reflect.TypeFor[int8](), ""},
	{"unsigned char %s", reflect.TypeFor[uint8](), ""},
	{"short %s", reflect.TypeFor[int16](), ""},
	{"unsigned short %s", reflect.TypeFor[uint16](), `c:"net"`},
	{"int %s", reflect.TypeFor[int32](), ""},
	{"unsigned %s", reflect.TypeFor[uint32](), `c:"net"`},
	{"long %s", reflect.TypeFor[int64](), `c:"long"`},
	{"void *%s", reflect.TypeFor[uint64](), `c:"long"`},
	{"long long %s", reflect.TypeFor[int64](), ""},
	{"unsigned long long %s", reflect.TypeFor[uint64](), `c:"net"`},
	{"float %s", reflect.TypeFor[float32](), ""},
	{"double %s", reflect.TypeFor[float64](), ""},
	{"_Bool %s", reflect.TypeFor[bool](), ""},
}

// drawField draws the type of one field.
func drawField(r *rand.Rand, depth int) ctype {
	n := 1 + r.IntN(5)
	switch k := r.IntN(10); {
	case k < 6:
		return scalars[r.IntN(len(scalars))]
	case k == 6:
		return ctype{fmt.Sprintf("char %%s[%d]", n*3), reflect.TypeFor[string](), fmt.Sprintf(`c:"char[%d]"`, n*3)}
	case k == 7:
		e := scalars[r.IntN(len(scalars))]
		n-- // none is an array, too
		return ctype{fmt.Sprintf(e.c, fmt.Sprintf("%%s[%d][2]", n)), reflect.ArrayOf(n, reflect.ArrayOf(2, e.t)), e.tag}
	case depth == 0:
		return scalars[r.IntN(len(scalars))]
	case k == 8:
		return drawStruct(r, depth-1, false)
	}
	// An array of structs.
	e := drawStruct(r, depth-1, false)
	return ctype{strings.Replace(e.c, "%s", fmt.Sprintf("%%s[%d]", n), 1), reflect.ArrayOf(n, e.t), ""}
}

// drawStruct draws a struct type, which may be packed and may have a union, and
// at its end a flexible array member, if that is allowed.
func drawStruct(r *rand.Rand, depth int, flex bool) ctype {
	var c strings.Builder
	var fields []reflect.StructField
	c.WriteString("struct { ")
	end := "} %s"
	if r.IntN(5) == 0 {
		fields, end = append(fields, packedMarker), "} __attribute__((packed)) %s"
	}
	for i := range 1 + r.IntN(6) {
		f := drawField(r, depth)
		name := fmt.Sprintf("F%d", i)
		fmt.Fprintf(&c, f.c+"; ", name)
		fields = append(fields, reflect.StructField{Name: name, Type: f.t, Tag: reflect.StructTag(f.tag)})
	}
	if r.IntN(4) == 0 {
		u, by := drawUnion(r, depth), scalars[4]
		fmt.Fprintf(&c, by.c+"; "+u.c+"; ", "Kind", "U")
		fields = append(fields, reflect.StructField{Name: "Kind", Type: by.t}, reflect.StructField{Name: "U", Type: u.t, Tag: `c:"union=Kind"`})
	}
	if e := drawField(r, depth); flex && e.t.Size() > 0 && r.IntN(3) == 0 {
		fmt.Fprintf(&c, e.c+"; ", "Flex[]")
		fields = append(fields, reflect.StructField{Name: "Flex", Type: reflect.SliceOf(e.t), Tag: withTag("flex", e)})
	}
	return ctype{c.String() + end, reflect.StructOf(fields), ""}
}

var packedMarker = reflect.StructField{Name: "_", PkgPath: "payload", Type: reflect.TypeFor[struct{}](), Tag: `c:"packed"`}

func drawUnion(r *rand.Rand, depth int) ctype {
	var c strings.Builder
	var fields []reflect.StructField
	c.WriteString("union { ")
	end := "} %s"
	if r.IntN(5) == 0 {
		fields, end = append(fields, packedMarker), "} __attribute__((packed)) %s"
	}
	for i := range 1 + r.IntN(4) {
		f := drawField(r, depth)
		name := fmt.Sprintf("M%d", i)
		fmt.Fprintf(&c, f.c+"; ", name)
		fields = append(fields, reflect.StructField{Name: name, Type: f.t, Tag: withTag(fmt.Sprintf("case=%d", i), f)})
	}
	return ctype{c.String() + end, reflect.StructOf(fields), ""}
}

// withTag returns a tag with a word and those of f.
func withTag(word string, f ctype) reflect.StructTag {
	if f.tag != "" {
		word += "," + strings.TrimSuffix(strings.TrimPrefix(f.tag, `c:"`), `"`)
	}
	return reflect.StructTag(`c:"` + word + `"`)
}

// TestCompilers compares sizes, alignments and the place of every byte of 300
// random structs with what C compilers do.
func TestCompilers(t *testing.T) {
	const structs = 300
	for abi, cc := range compilers {
		t.Run(abi.String(), func(t *testing.T) {
			if _, err := exec.LookPath(cc[0]); err != nil {
				t.Skipf("%v; it is in Debian's package gcc or gcc-arm-linux-gnueabihf", err)
			}
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, uint64(abi)))
			var src strings.Builder
			types := make([]ctype, structs)
			for i := range types {
				types[i] = drawStruct(r, 2, true)
				// The alignment is the size of the padding behind a char.
				fmt.Fprintf(&src, "typedef "+types[i].c+";\n", fmt.Sprintf("S%d", i))
				fmt.Fprintf(&src, "S%d v%d; struct { char c; S%d s; } a%d;\n", i, i, i, i)
			}
			vars := compile(t, cc, src.String())
			for i, ct := range types {
				p, err := newProgram(ct.t, abi)
				if err != nil {
					t.Fatalf("seed %d: %v: %v", seed, ct.t, err)
				}
				want := vars[fmt.Sprintf("v%d", i)]
				around := vars[fmt.Sprintf("a%d", i)].(*dwarf.StructType)
				if p.size != int(want.Size()) || p.align != int(around.Field[1].ByteOffset) {
					t.Errorf("seed %d: %v: size %d, alignment %d; the compiler has %d, %d\n%s", seed, abi, p.size, p.align,
						want.Size(), around.Field[1].ByteOffset, ct.c)
				}
				got, should := map[string]int{}, map[string]int{}
				places(p.ops, 0, got)
				if p.tail != nil {
					got["Flex"] = p.tail.at
					fields := want.(*dwarf.TypedefType).Type.(*dwarf.StructType).Field
					if size := fields[len(fields)-1].Type.(*dwarf.ArrayType).Type.Size(); p.tail.elem.size != int(size) {
						t.Errorf("seed %d: %v: elements of %d bytes, the compiler has %d\n%s", seed, abi, p.tail.elem.size, size, ct.c)
					}
				}
				leaves(want, "", 0, should)
				for name, at := range got {
					if c, ok := should[name]; !ok || c != at {
						t.Errorf("seed %d: %v: %s at %d, the compiler has it at %d\n%s", seed, abi, name, at, c, ct.c)
					}
				}
			}
		})
	}
}

// places notes where each named step begins.
func places(ops []op, at int, to map[string]int) {
	for _, o := range ops {
		if o.union != nil {
			for _, m := range o.union.members {
				places(m.ops, at+o.c, to)
			}
			continue
		}
		if _, ok := to[o.field]; !ok {
			to[o.field] = at + o.c
		}
		if o.kind == opArray {
			places(o.sub, at+o.c, to)
		}
	}
}

// leaves notes where each field begins, by its path; of an array it is the first element.
func leaves(t dwarf.Type, path string, at int, to map[string]int) {
	switch t := t.(type) {
	case *dwarf.TypedefType:
		leaves(t.Type, path, at, to)
	case *dwarf.ArrayType:
		to[path] = at
		leaves(t.Type, path, at, to)
	case *dwarf.StructType:
		for _, f := range t.Field {
			name := f.Name
			if path != "" {
				name = path + "." + name
			}
			to[name] = at + int(f.ByteOffset)
			leaves(f.Type, name, at+int(f.ByteOffset), to)
		}
	}
}

// compile returns the types of src's variables.
func compile(t *testing.T, cc []string, src string) map[string]dwarf.Type {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "s.c"), filepath.Join(dir, "s.o")
	if err := os.WriteFile(in, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cc[0], append(cc[1:], "-g", "-c", "-o", out, in)...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, msg)
	}
	f, err := elf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]dwarf.Type{}
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return vars
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if off, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && e.Tag == dwarf.TagVariable {
			if vars[name], err = d.Type(off); err != nil {
				t.Fatal(err)
			}
		}
	}
}
