package tmux

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseEvent(t *testing.T) {
	for line, want := range map[string]Event{
		`%output %0 a\033[1m\134\303` + "\xbc\x7f": Output{"%0", []byte("a\x1b[1m\\\xc3\xbc\x7f")},
		`%output %12 `:                                 Output{"%12", []byte{}},
		`%output %0 \8\47\400\12`:                      Output{"%0", []byte(`\8\47\400\12`)},
		`%output 0 x`:                                  Unknown{[]byte(`%output 0 x`)},
		`%output %0`:                                   Unknown{[]byte(`%output %0`)},
		`%extended-output %0 1500 : x : y`:             ExtendedOutput{"%0", 1500 * time.Millisecond, []byte("x : y")},
		`%extended-output %0 1 more : x`:               ExtendedOutput{"%0", time.Millisecond, []byte("x")},
		`%extended-output %0 : x`:                      Unknown{[]byte(`%extended-output %0 : x`)},
		`%extended-output %0 99999999999999999999 : x`: Unknown{[]byte(`%extended-output %0 99999999999999999999 : x`)},
		`%pause %3`:                                    Pause{"%3"},
		`%continue %3`:                                 Continue{"%3"},
		`%pause`:                                       Unknown{[]byte(`%pause`)},
		`%layout-change @1 b25d,80x24,0,0,0 b25d,80x24,0,0,0 *-`: LayoutChange{"@1", "b25d,80x24,0,0,0", "b25d,80x24,0,0,0", "*-"},
		`%layout-change @1 b25d,80x24,0,0,0`:                     LayoutChange{"@1", "b25d,80x24,0,0,0", "", ""},
		`%window-add @4`:                                         WindowAdd{"@4"},
		`%window-close @4`:                                       WindowClose{"@4"},
		`%window-renamed @4 two words`:                           WindowRenamed{"@4", "two words"},
		`%window-renamed @4 `:                                    WindowRenamed{"@4", ""},
		`%window-pane-changed @4 %5`:                             WindowPaneChanged{"@4", "%5"},
		`%unlinked-window-add @4`:                                UnlinkedWindowAdd{"@4"},
		`%unlinked-window-close @4`:                              UnlinkedWindowClose{"@4"},
		`%unlinked-window-renamed @4 x`:                          UnlinkedWindowRenamed{"@4", "x"},
		`%pane-mode-changed %5`:                                  PaneModeChanged{"%5"},
		`%session-changed $1 my session`:                         SessionChanged{"$1", "my session"},
		`%session-renamed $1 new`:                                SessionRenamed{"$1", "new"},
		`%sessions-changed`:                                      SessionsChanged{},
		`%session-window-changed $1 @2`:                          SessionWindowChanged{"$1", "@2"},
		`%client-session-changed /dev/pts/1 $1 x y`:              ClientSessionChanged{"/dev/pts/1", "$1", "x y"},
		`%client-detached /dev/pts/1`:                            ClientDetached{"/dev/pts/1"},
		`%paste-buffer-changed buffer0`:                          PasteBufferChanged{"buffer0"},
		`%paste-buffer-deleted buffer0`:                          PasteBufferDeleted{"buffer0"},
		`%subscription-changed n $1 @2 3 %4 : v : w`:             Subscription{"n", "$1", "@2", "3", "%4", "v : w"},
		`%subscription-changed n $1 - - - : v`:                   Subscription{"n", "$1", "", "", "", "v"},
		`%subscription-changed n $1 : v`:                         Unknown{[]byte(`%subscription-changed n $1 : v`)},
		`%config-error /x:1: unknown`:                            ConfigError{"/x:1: unknown"},
		`%message @1`:                                            Notice{"@1"},
		`%paste-buffer-changed %1`:                               PasteBufferChanged{"%1"},
		`%window-add @1 x`:                                       Unknown{[]byte("%window-add @1 x")},
		`%message hello`:                                         Notice{"hello"},
		`%new-in-tmux-9 x`:                                       Unknown{[]byte(`%new-in-tmux-9 x`)},
		`%`:                                                      Unknown{[]byte(`%`)},
	} {
		if got := parseEvent([]byte(line)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %T%+v, want %T%+v", line, got, got, want, want)
		}
	}
}

// escape does what tmux does with output: control_append_data.
func escape(p []byte) string {
	var s strings.Builder
	for _, c := range p {
		if c < ' ' || c == '\\' {
			s.Write([]byte{'\\', '0' + c>>6, '0' + c>>3&7, '0' + c&7})
		} else {
			s.WriteByte(c)
		}
	}
	return s.String()
}

func FuzzUnescape(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("\x1b[1m\\134\xff\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if got := unescape([]byte(escape(p))); !bytes.Equal(got, p) {
			t.Errorf("%q, want %q", got, p)
		}
		if got := unescape(p); len(got) > len(p) {
			t.Errorf("%q becomes %q", p, got)
		}
	})
}

// Whatever a line is, it is an event that owns its memory.
func FuzzParseEvent(f *testing.F) {
	for _, s := range []string{
		`%output %0 a\033[1m`, `%extended-output %0 5 : x`, `%layout-change @1 a b *`, `%subscription-changed n $1 @2 3 %4 : v`,
		`%session-changed $0 peer`, `%client-session-changed c $1 n`, `%window-renamed @1 n`, `%pause %1`, `x`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e := parseEvent(line)
		if u, ok := e.(Unknown); ok && !bytes.Equal(u.Line, line) {
			t.Errorf("%q, want %q", u.Line, line)
		}
		before := fmt.Sprintf("%T%q", e, e)
		clear(line)
		if after := fmt.Sprintf("%T%q", e, e); after != before {
			t.Errorf("%s became %s with the line", before, after)
		}
	})
}
