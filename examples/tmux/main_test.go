package main

import (
	"slices"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{"  ls ", []string{"ls"}},
		{"list-windows\t-a", []string{"list-windows", "-a"}},
		{`display -p 'two words' "it's" ''`, []string{"display", "-p", "two words", "it's", ""}},
		{`a'b c'd`, []string{"ab cd"}},
		{"set-buffer '\xff ü'", []string{"set-buffer", "\xff ü"}},
	} {
		if got, err := split(tt.line); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("split(%q) = %q, %v, want %q", tt.line, got, err, tt.want)
		}
	}
	if _, err := split(`a "b`); err == nil {
		t.Error("a quote without an end")
	}
}
