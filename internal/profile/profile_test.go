package profile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/testutil"
)

const sample = `# all there is
program sampled other
socket /run/sample /tmp/sample
dialect legacy

type 1 OPEN request|tiny
type 0x2 DONE
type 3 LIST list
type 4 TEXTS texts

enum state {
	IDLE = 0
	BUSY = -1
}

struct inner size 8 {
	int16_t a;
	net uint16 port
	enum state state
}

struct request size 88 {
	char name[8]
	unsigned char key[3]
	double d @16
	struct inner in[2]
	in_addr v4 @48 if kind == 1
	struct in6 v6 @48 if kind == 2|-3
	uint8_t kind @64
	void *p @72
	bool grid[2][3] @80
	char c
}

struct tiny packed size 6 {
	char c
	int n
	uint8 u
}

struct list {
	int n
	inner all[]
}

struct texts {
	string first
	string rest[]
}
`

// full is sample with the struct that request needs before it.
var full = strings.Replace(sample, "struct request", "struct in6 size 16 {\n\tin6_addr a\n}\n\nstruct request", 1)

func parse(t testing.TB, text string) *Profile {
	t.Helper()
	p, err := Parse("x.imsg", text)
	testutil.Must(t, err)
	return p
}

func TestParse(t *testing.T) {
	p := parse(t, full)
	if p.Name != "sampled" || !p.Legacy || p.TypeName(2) != "DONE" || p.TypeText(9) != "9" || !reflect.DeepEqual(p.TypeNames(), []string{"DONE", "LIST", "OPEN", "TEXTS"}) {
		t.Errorf("%+v", p)
	}
	for _, name := range []string{"open", "IMSG_OPEN", "msg_Open"} {
		if n, ok := p.TypeNumber(name); n != 1 || !ok {
			t.Errorf("%s is %d, %v", name, n, ok)
		}
	}
	again := parse(t, p.Text())
	if p.Text() != again.Text() || !reflect.DeepEqual(p.types, again.types) {
		t.Errorf("not the same again:\n%s", p.Text())
	}
}

func TestNilProfile(t *testing.T) {
	var p *Profile
	f, err := p.Decode(1, []byte{1}, nil)
	if _, ok := p.TypeNumber("x"); ok || p.TypeName(1) != "" || p.TypeText(1) != "1" || f != nil || err != nil {
		t.Error("nil knows something")
	}
	if _, err := p.Encode(1, nil); err == nil {
		t.Error("nil encodes")
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct {
		text         string
		line, column int
		want         string
	}{
		{"", 0, 1, `no line "program NAME"`},
		{"program p\x1bc\ntype 1 A", 1, 9, `a name is wanted here, not "p\x1bc"`},
		{"program p\nsocket a\u202e", 2, 8, `not "a\u202e"`},
		{"frob", 1, 1, `not "frob"`},
		{"program", 1, 8, `a name is wanted here, not ""`},
		{"socket", 1, 7, "a part of a path"},
		{"dialect old", 1, 9, `not "old"`},
		{"type x A", 1, 6, `not "x"`},
		{"type 4294967296 A", 1, 6, "from 0 to 4294967295"},
		{"type 1 A\ntype 1 B", 2, 8, "type 1 is A already"},
		{"type 1 A b c", 1, 12, `"c" is not expected`},
		{"program p\ntype 1 A b|c\nstruct b {\nint x\n}", 2, 12, "no struct c"},
		{"enum e {\nA\n}", 2, 2, `"=" is wanted`},
		{"enum e {\n}\nenum e {", 3, 8, "there already"},
		{"program p\nenum e {", 2, 1, "not closed"},
		{"struct int {", 1, 12, "there already"},
		{"struct s {\n}", 2, 1, "has a field"},
		{"struct s size 5 {\nint x\n}", 3, 1, "struct s has 4 bytes here, not 5"},
		{"struct s {\nx\n}", 2, 2, "a type and a name"},
		{"struct s {\nx foo b\n}", 2, 1, `no type "x foo"`},
		{"struct s {\nint ä\n}", 2, 5, `not "ä"`},
		{"struct s {\nint x\nint x\n}", 4, 1, "two fields x"},
		{"struct s {\nint x[0]\n}", 2, 7, "from 1 to"},
		{"struct s {\nint x[16777216]\n}", 2, 6, "bytes times"},
		{"struct s {\nstring x[2]\n}", 2, 9, "has no size"},
		{"struct s {\nint x[][]\n}", 2, 6, "elements have a size"},
		{"struct s {\nstring x\nint y\n}", 4, 1, "fixed size comes first"},
		{"struct s {\nstring x\n}\nstruct r {\ns x\n}", 6, 1, "no fixed size"},
		{"struct s {\nint x @16777216\n}", 3, 1, "ends beyond"},
		{"struct s {\nint x if y == 1\n}", 3, 1, "no field y"},
		{"struct s {\nint x if x == 1\n}", 3, 1, "no other number"},
		{"struct s {\nnet bool b\n}", 2, 1, "no byte order"},
		{"struct s {\nint *\n}", 2, 6, "a name is wanted"},
		{"struct s {\nint a[1][1][1][1][1][1][1][1][1]\n}", 2, 32, "8 dimensions"},
		{"struct s {\nenum nope e\n}", 2, 1, `no type "enum nope"`},
	} {
		_, err := Parse("x", tt.text)
		e := new(SyntaxError)
		if !errors.As(err, &e) || e.Line != tt.line || e.Column != tt.column || !strings.Contains(e.Error(), tt.want) {
			t.Errorf("%q: %v, want x:%d:%d: %s", tt.text, err, tt.line, tt.column, tt.want)
		}
	}
}

func values(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	testutil.Must(t, d.Decode(&v))
	return v
}

// TestFields encodes and decodes, and looks at the bytes.
func TestFields(t *testing.T) {
	p := parse(t, full)
	for _, tt := range []struct {
		typ      uint32
		in, want string
		size     int
	}{
		{1, `{"name":"ab","key":"010203","d":"1.5","in":[{"a":-2,"port":"0x50"},{"state":"busy"}],"kind":1,"v4":"1.2.3.4","grid":[["1",0,1],[0,true,0]],"c":65}`,
			`{"name":"ab","key":"010203","d":1.5,"in":[{"a":-2,"port":80,"state":"IDLE"},{"a":0,"port":0,"state":"BUSY"}],"v4":"1.2.3.4","kind":1,"p":0,"grid":[[true,false,true],[false,true,false]],"c":65}`, 88},
		{1, `{"kind":2,"v6":{"a":"::1"},"d":"NaN"}`,
			`{"name":"","key":"000000","d":"NaN","in":[{"a":0,"port":0,"state":"IDLE"},{"a":0,"port":0,"state":"IDLE"}],"v6":{"a":"::1"},"kind":2,"p":0,"grid":[[false,false,false],[false,false,false]],"c":0}`, 88},
		{1, `{"n":-5,"u":255}`, `{"c":0,"n":-5,"u":255}`, 6},
		{3, `{"n":1}`, `{"n":1,"all":[]}`, 4},
		{3, `{"all":[{"a":1},{"port":2}]}`, `{"n":0,"all":[{"a":1,"port":0,"state":"IDLE"},{"a":0,"port":2,"state":"IDLE"}]}`, 20},
		{4, `{"first":"a","rest":"b,c"}`, `{"first":"a","rest":["b","c"]}`, 6},
		{4, `{}`, `{"first":"","rest":[]}`, 1},
	} {
		b, err := p.Encode(tt.typ, values(t, tt.in))
		if err != nil || len(b) != tt.size {
			t.Errorf("%s: %d bytes, %v", tt.in, len(b), err)
			continue
		}
		f, err := p.Decode(tt.typ, b, nil)
		testutil.Must(t, err)
		got, err := json.Marshal(f)
		if string(got) != tt.want || err != nil {
			t.Errorf("%s\nis   %s\nwant %s (%v)", tt.in, got, tt.want, err)
		}
	}
	f, err := p.Decode(1, []byte{'a', 0, 0, 1, 2, 9}, binary.BigEndian)
	if err != nil || f[1].Value != int64(258) {
		t.Errorf("big-endian: %v, %v", f, err)
	}
	if _, err := p.Decode(1, make([]byte, 7), nil); err == nil || err.Error() != "7 bytes are no request of 88, tiny of 6" {
		t.Errorf("7 bytes: %v", err)
	}
}

func TestEncodeErrors(t *testing.T) {
	p := parse(t, full)
	for in, want := range map[string]string{
		`{"frob":1}`:                  "request has no field frob: name, key,",
		`{"in":[{"b":1}]}`:            "in: inner has no field in.b: a, port, state",
		`{"in":[1,2,3]}`:              "3 elements, 2 are possible",
		`{"in":1}`:                    "an array is wanted",
		`{"in":[1]}`:                  "a struct is wanted",
		`{"name":"12345678"}`:         "at most 7 bytes",
		`{"key":"01020304"}`:          "4 bytes, 3 are possible",
		`{"key":"x"}`:                 "invalid byte",
		`{"kind":256}`:                `"256": value out of range`,
		`{"v4":"::1"}`:                "::1 has 16 bytes, in_addr has 4",
		`{"v4":"x"}`:                  "unable to parse IP",
		`{"d":"x"}`:                   `"x": invalid syntax`,
		`{"grid":"[1"}`:               "unexpected EOF",
		`{"grid":[["maybe"]]}`:        `"maybe": invalid syntax`,
		`{"in":[{"state":"asleep"}]}`: `"asleep": invalid syntax`,
	} {
		if _, err := p.Encode(1, values(t, in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	if _, err := p.Encode(2, nil); err == nil || !strings.Contains(err.Error(), "what a payload of DONE is") {
		t.Error(err)
	}
}

// TestBuiltin compares what is built in with the packages that speak to the
// programs.
func TestBuiltin(t *testing.T) {
	all, err := makeBuiltin()
	testutil.Must(t, err)
	for _, p := range all {
		if again := parse(t, p.Text()); again.Text() != p.Text() {
			t.Errorf("%s is not the same again:\n%s", p.Name, p.Text())
		}
		name := packages[p.Name].typeName
		for typ := range uint32(1 << 12) {
			if p.TypeName(typ) != name(typ) {
				t.Errorf("%s: type %d is %q, and %q in its package", p.Name, typ, p.TypeName(typ), name(typ))
			}
		}
	}
}

func TestChooser(t *testing.T) {
	end := func(exe string) capture.Endpoint { return capture.Endpoint{Exe: exe} }
	ready := imsg.Header{Type: 207, ID: 8, PID: -1}
	for _, tt := range []struct {
		name string
		r    capture.Record
		want string
	}{
		{"program", capture.Record{To: end("/opt/tmux")}, "tmux"},
		{"socket", capture.Record{Name: "/tmp/tmux-1000/default", To: end("/x/y")}, "tmux"},
		{"traffic", capture.Record{Header: ready}, "tmux"},
		{"traffic of another program", capture.Record{Header: ready, From: end("/usr/sbin/smtpd")}, ""},
		{"ntpctl", capture.Record{From: end("/usr/sbin/ntpctl")}, "ntpd"},
		{"nothing", capture.Record{Header: imsg.Header{Type: 9999}}, ""},
	} {
		c, err := Choose("auto")
		testutil.Must(t, err)
		p := c.Of(&tt.r)
		if got := p != nil; got != (tt.want != "") || got && p.Name != tt.want {
			t.Errorf("%s: %v", tt.name, p)
		}
		if p != nil && c.Of(&capture.Record{}) != p {
			t.Errorf("%s: not for the rest of the channel", tt.name)
		}
	}
	request := func(name string) []byte {
		p, err := Load(name)
		testutil.Must(t, err)
		return make([]byte, p.payloads[16][0].size) // the structs have pointers in them
	}
	if strconv.IntSize == 64 && (len(request("bgpd")) != 728 || len(request("bgpd7")) != 616) {
		t.Errorf("requests of %d and %d bytes", len(request("bgpd")), len(request("bgpd7")))
	}
	for _, tt := range []struct {
		name string
		r    capture.Record
		want string
	}{
		{"legacy", capture.Record{Dialect: capture.Legacy}, "bgpd7"},
		{"current", capture.Record{Dialect: capture.Current}, "bgpd"},
		{"a request of 7.7", capture.Record{Header: imsg.Header{Type: 16}, Payload: request("bgpd7")}, "bgpd7"},
		{"a request of 8.8", capture.Record{Header: imsg.Header{Type: 16}, Payload: request("bgpd")}, "bgpd"},
	} {
		c, err := Choose("auto")
		testutil.Must(t, err)
		program := capture.Record{From: end("bgpctl"), Header: imsg.Header{Type: 13}}
		if p := c.Of(&program); p == nil || p.Name != "bgpd" {
			t.Errorf("bgpctl: %v", p)
		}
		tt.r.From = program.From
		if p := c.Of(&tt.r); p.Name != tt.want || c.Of(&program) != p {
			t.Errorf("%s: %s", tt.name, p.Name)
		}
	}
	if _, err := Choose("/nowhere"); err == nil || !strings.Contains(err.Error(), `no profile and no file "/nowhere": `) {
		t.Error(err)
	}
	if _, err := Choose("/dev/zero"); err == nil {
		t.Error("/dev/zero is a profile")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full, []byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Add("program p\ntype 1 A a\nstruct a {\nint n\nstring s[]\n}\n", []byte("\x01\x00\x00\x00a\x00"))
	f.Add("program p\ntype 1 A a\nstruct a {\nlong n[2][3]\nchar c[] \n}\n", make([]byte, 100))
	f.Fuzz(func(t *testing.T, text string, payload []byte) {
		p, err := Parse("x", text)
		if err != nil {
			e := new(SyntaxError)
			if !errors.As(err, &e) || e.Line < 0 || e.Column < 1 {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse("again", p.Text())
		if err != nil || again.Text() != p.Text() {
			t.Fatalf("%v:\n%s\nof\n%s", err, p.Text(), text)
		}
		for typ := range p.types {
			f, err := p.Decode(typ, payload, nil)
			if err == nil {
				if _, err := json.Marshal(f); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
