package tmux

import (
	"strings"
	"testing"
)

// unquote reads a word as tmux's parser does: yylex_token. It is "" and false
// for one in which something would be expanded.
func unquote(s string) (string, bool) {
	s, ok1 := strings.CutPrefix(s, `"`)
	s, ok2 := strings.CutSuffix(s, `"`)
	if !ok1 || !ok2 || strings.ContainsAny(s, "\n\r\x00$~\"") {
		return "", false
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out.WriteByte(s[i])
			continue
		}
		if i+3 >= len(s) || s[i+1] < '0' || s[i+1] > '3' {
			return "", false
		}
		out.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
		i += 3
	}
	return out.String(), true
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "plain", "two words", "~/x", "$HOME", `"\`, "a;", "line\nbreak", "\x01\x7f\xff", "grüße", "#{pane_id}", "%if"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\x00") {
			return
		}
		if got, ok := unquote(string(appendQuoted(nil, s))); !ok || got != s {
			t.Errorf("%q is written as %q", s, appendQuoted(nil, s))
		}
	})
}

func TestNewToken(t *testing.T) {
	a, b := newToken(), newToken()
	if len(a) != 16 || a == b || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%q, %q", a, b)
	}
}
