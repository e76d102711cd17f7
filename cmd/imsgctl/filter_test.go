package main

import (
	"errors"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
	"example.org/imsg/internal/testutil"
)

func TestFilter(t *testing.T) {
	auto, err := profile.Choose("auto")
	testutil.Must(t, err)
	other := &capture.Record{Header: imsg.Header{Type: 300, ID: 0x10, PID: 77}, Len: 16, Dir: capture.DirOut, Channel: 5, Name: "/run/b sock"}
	for _, tt := range []struct {
		expr       string
		exit, rest bool // whether they pass
	}{
		{"type == EXIT", true, false},
		{"type == msg_exit", true, false},
		{"type != IMSG_EXIT", false, true},
		{"type == 0xcb", true, false},
		{"type >= EXIT", true, false},
		{"type > EXIT", false, false},
		{"type > 203", false, true},
		{"type <= 203 and type<300", true, false},
		{"type ~ ^EX", true, false},
		{"name == EXIT", true, false},
		{"name == '300'", false, true},
		{"name ~ 'EX|300'", true, true},
		{"dir == in", true, false},
		{"dir != in", false, true},
		{"size > 16", true, false},
		{"size == 16", false, true},
		{"file", true, false},
		{"not file", false, true},
		{"file and dir == in", true, false},
		{"(file)", true, false},
		{"file == pipe", true, false},
		{"file ~ pipe:", true, false},
		{"file == lost", false, false},
		{"pid == 12", true, false},
		{"pid == -1", true, false},
		{"pid != 77", true, false},
		{"id == 0x10", false, true},
		{"chan == 5", false, true},
		{"chan ~ tmux", true, false},
		{`chan == "/run/b sock"`, false, true},
		{"size > 16 or id == 16 and chan == 6", true, false},
		{"(size > 16 or id == 16) and chan == 5", false, true},
		{"! size > 16 && ! chan == 6 || chan == 2", true, true},
	} {
		f, err := parseFilter(tt.expr, auto)
		if err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		if got := f.match(&exit, auto.Of(&exit)); got != tt.exit {
			t.Errorf("%s: %v for EXIT", tt.expr, got)
		}
		if got := f.match(other, auto.Of(other)); got != tt.rest {
			t.Errorf("%s: %v for the other", tt.expr, got)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	auto, err := profile.Choose("auto")
	testutil.Must(t, err)
	for _, tt := range []struct {
		expr   string
		column int
		text   string
	}{
		{"", 1, "a field is missing"},
		{"frob == 1", 1, `"frob" is no field`},
		{"'type' == 1", 1, `"type" is no field`},
		{"type", 5, "an operator must follow type"},
		{"type = 1", 6, `"=" is no operator`},
		{"type ==", 8, "a value must follow =="},
		{"type == == 1", 9, "a value must follow =="},
		{"type == FROB", 9, `no profile has a type "FROB"`},
		{"type == 'EXIT' or type < 'a'", 24, "type is a text"},
		{"size == a", 9, "size is a number"},
		{"size ~ a", 6, "size is a number"},
		{"name < a", 6, "name is a text"},
		{"dir == up", 8, "dir is in or out"},
		{"name ~ (", 8, "a value must follow ~"},
		{"name ~ '('", 8, "missing closing )"},
		{"(size == 1", 1, "the parenthesis is not closed"},
		{"size == 1)", 10, `")" is not expected`},
		{"size == 1 size == 2", 11, `"size" is not expected`},
		{"size == 1 and", 14, "a field is missing"},
		{"name == 'ä' and x", 17, `"x" is no field`},
		{"name == 'a", 9, "the quote is not closed"},
	} {
		_, err := parseFilter(tt.expr, auto)
		e := new(filterError)
		if !errors.As(err, &e) {
			t.Errorf("%q: %v", tt.expr, err)
		} else if e.column != tt.column || !strings.Contains(e.text, tt.text) || !strings.HasSuffix(e.Error(), "\n  "+strings.Repeat(" ", tt.column-1)+"^") {
			t.Errorf("%q: %v", tt.expr, err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"type == EXIT and (size > 0x10 or not file)", "name ~ '^a' || chan == \"b\"", "dir == in", "(((", "size == 1 )"} {
		f.Add(s)
	}
	auto, err := profile.Choose("auto")
	testutil.Must(f, err)
	f.Fuzz(func(t *testing.T, expr string) {
		c, err := parseFilter(expr, auto)
		if err != nil {
			e := new(filterError)
			if !errors.As(err, &e) || e.column < 1 || e.column > len(expr)+1 || strings.Count(e.Error(), "\n") != 2 {
				t.Fatalf("%q: %v", expr, err)
			}
			return
		}
		p := auto.Of(&exit)
		not, err := parseFilter("not ("+expr+")", auto)
		testutil.Must(t, err)
		if c.match(&exit, p) == not.match(&exit, p) {
			t.Fatalf("%q is as its opposite", expr)
		}
	})
}
