package tmux

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"example.org/imsg"
)

func TestDialectOf(t *testing.T) {
	for version, want := range map[string]imsg.Dialect{
		"2.9":         imsg.Legacy,
		"3.3a":        imsg.Legacy,
		"3.5a":        imsg.Legacy,
		"next-3.5":    imsg.Legacy,
		"next-3.6":    imsg.Auto,
		"3.6-rc":      imsg.Current,
		"3.6":         imsg.Current,
		"3.7c":        imsg.Current,
		"3.10":        imsg.Current,
		"next-3.8":    imsg.Current,
		"4.0":         imsg.Current,
		"openbsd-7.6": imsg.Legacy,
		"openbsd-7.7": imsg.Current,
		"openbsd-8.0": imsg.Current,
		"":            imsg.Auto,
		"master":      imsg.Auto,
		"3":           imsg.Auto,
	} {
		if got := dialectOf(version); got != want {
			t.Errorf("dialectOf(%q) = %v, want %v", version, got, want)
		}
	}
}

func TestDefaultSocket(t *testing.T) {
	t.Setenv("TMUX", "/run/x/s,123,0")
	if s := DefaultSocket(); s != "/run/x/s" {
		t.Errorf("inside a pane: %s", s)
	}
	t.Setenv("TMUX", "")
	t.Setenv("TMUX_TMPDIR", "/run/y")
	uid := os.Getuid()
	if s, want := DefaultSocket(), fmt.Sprintf("/run/y/tmux-%d/default", uid); s != want {
		t.Errorf("with TMUX_TMPDIR: %s, want %s", s, want)
	}
	t.Setenv("TMUX_TMPDIR", "")
	if s, want := DefaultSocket(), fmt.Sprintf("/tmp/tmux-%d/default", uid); s != want {
		t.Errorf("by default: %s, want %s", s, want)
	}
}

func TestLiteral(t *testing.T) {
	for _, tt := range []struct{ args, want []string }{
		{[]string{"a", "b;c"}, []string{"a", "b;c"}},
		{[]string{"a;", ";"}, []string{`a\;`, `\;`}},
		{[]string{`a\;`}, []string{`a\\;`}},
	} {
		before := slices.Clone(tt.args)
		if got := literal(tt.args); !slices.Equal(got, tt.want) || !slices.Equal(tt.args, before) {
			t.Errorf("literal(%q) = %q, want %q", before, got, tt.want)
		}
	}
}
