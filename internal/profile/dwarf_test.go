package profile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.org/imsg/internal/testutil"
)

// header is what a program's header could be.
const header = `
typedef unsigned short u16;
struct in_addr { unsigned s_addr; };
enum imsg_type { IMSG_NONE, IMSG_OPEN, IMSG_DATA = 7, };
enum { MSG_OOB = 1, MSG_PEEK = 2 };
enum color { RED, GREEN = -5 };
typedef struct { char name[16]; int n; } item;
struct inner { u16 port; const unsigned char key[3]; };
struct open {
	long l; char c; double d; void *p; struct inner in[2]; enum color color; struct in_addr a;
	union { int i; char text[8]; } u; unsigned b1 : 3, b2 : 9; item items[2]; signed char sc; _Bool yes; float f; char end;
};
struct data { unsigned long long n; struct inner rest[]; } __attribute__((packed));
`

// compile returns the object file of a header.
func compile(t testing.TB, cc ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(cc[0]); err != nil {
		t.Skipf("%v; it is in Debian's package gcc or gcc-arm-linux-gnueabihf", err)
	}
	dir := t.TempDir()
	h, o := filepath.Join(dir, "x.h"), filepath.Join(dir, "x.o")
	testutil.Must(t, os.WriteFile(h, []byte(header), 0o600))
	cmd := exec.Command(cc[0], append(cc[1:], "-g", "-fno-eliminate-unused-debug-types", "-x", "c", "-c", "-o", o, h)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(o)
	testutil.Must(t, err)
	return data
}

var mapped = map[string][]string{"open": {"open"}, "DATA": {"struct data", "item"}}

// TestFromObject shows that each compiler's sizes are kept, and that what is
// made can be read again.
func TestFromObject(t *testing.T) {
	for _, tt := range []struct {
		cc    []string
		sizes []int // of open, data, item
		item  int   // offset of items
	}{
		{[]string{"gcc", "-m64"}, []int{120, 8, 20}, 64},
		{[]string{"gcc", "-m64", "-gdwarf-4"}, []int{120, 8, 20}, 64},
		{[]string{"gcc", "-m32"}, []int{104, 8, 20}, 52},
		{[]string{"arm-linux-gnueabihf-gcc"}, []int{104, 8, 20}, 52},
	} {
		t.Run(strings.Join(tt.cc, " "), func(t *testing.T) {
			p, err := FromObject(bytes.NewReader(compile(t, tt.cc...)), "x", "", mapped)
			testutil.Must(t, err)
			if p, err = Parse("x", p.Text()); err != nil {
				t.Fatal(err)
			}
			var sizes []int
			for _, typ := range []uint32{1, 7} {
				for _, s := range p.payloads[typ] {
					sizes = append(sizes, s.size)
				}
			}
			if fmt.Sprint(sizes) != fmt.Sprint(tt.sizes) {
				t.Errorf("sizes %v, want %v\n%s", sizes, tt.sizes, p.Text())
			}
			for _, want := range []string{"type 1 IMSG_OPEN open\n", "type 7 IMSG_DATA data|item\n", "\tstruct inner rest[]\n", "\tGREEN = -5\n",
				"\tenum color color @", "\tin_addr a @", "\tuint8 u[8] @", "\tuint8 key[3] @2\n", "\tchar name[16] @0\n", fmt.Sprintf("\tstruct item items[2] @%d\n", tt.item)} {
				if !strings.Contains(strings.ReplaceAll(p.Text(), "bytes ", "uint8 "), want) {
					t.Errorf("no %q in\n%s", want, p.Text())
				}
			}
		})
	}
}

func TestFromObjectErrors(t *testing.T) {
	o := compile(t, "gcc", "-m64")
	for _, tt := range []struct {
		name string
		data []byte
		enum string
		maps map[string][]string
		want string
	}{
		{"no object", []byte("#!/bin/sh"), "", nil, "no object file"},
		{"no enum", o, "nope", nil, `no enum "nope"`},
		{"negative", o, "color", nil, "GREEN = -5 is no type of a message"},
		{"no type", o, "IMSG_OPEN", map[string][]string{"FROB": {"open"}}, `the enum has no "FROB"`},
		{"no struct", o, "imsg_type", map[string][]string{"OPEN": {"nope"}}, `no struct "nope"`},
	} {
		if _, err := FromObject(bytes.NewReader(tt.data), "x", tt.enum, tt.maps); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// TestFromObjectLies changes many bytes of what a compiler wrote about types:
// nothing may panic, nor take the memory that a lie asks for, and what comes
// out is a profile.
func TestFromObjectLies(t *testing.T) {
	good := compile(t, "gcc", "-m64")
	step := 5
	if testing.Short() {
		step = 16
	}
	for i := 0; i < len(good); i += step {
		for _, v := range []byte{0, 1, 0x7f, 0xff} {
			lie := bytes.Clone(good)
			lie[i] = v
			lies(t, lie)
		}
	}
}

func lies(t *testing.T, data []byte) {
	p, err := FromObject(bytes.NewReader(data), "x", "", mapped)
	if err != nil {
		return
	}
	if _, err := Parse("x", p.Text()); err != nil {
		t.Fatalf("%v:\n%s", err, p.Text())
	}
}

func FuzzFromObject(f *testing.F) {
	if _, err := exec.LookPath("gcc"); err == nil {
		f.Add(compile(f, "gcc", "-m64"))
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) { lies(t, data) })
}
