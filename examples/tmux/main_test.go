package main

import (
	"fmt"
	"os"
	"testing"

	"example.org/imsg"
)

func TestDialectOf(t *testing.T) {
	const unknown = imsg.Auto
	for version, want := range map[string]imsg.Dialect{
		"2.9":         imsg.Legacy,
		"3.3a":        imsg.Legacy,
		"3.5a":        imsg.Legacy,
		"next-3.5":    imsg.Legacy,
		"next-3.6":    unknown,
		"3.6-rc":      imsg.Current,
		"3.6":         imsg.Current,
		"3.7c":        imsg.Current,
		"3.10":        imsg.Current,
		"next-3.8":    imsg.Current,
		"4.0":         imsg.Current,
		"openbsd-7.6": imsg.Legacy,
		"openbsd-7.7": imsg.Current,
		"openbsd-8.0": imsg.Current,
		"":            unknown,
		"master":      unknown,
		"3":           unknown,
	} {
		got, err := dialectOf(version)
		if err != nil {
			got = unknown
		}
		if got != want {
			t.Errorf("dialectOf(%q) = %v, %v, want %v", version, got, err, want)
		}
	}
}

func TestDefaultSocket(t *testing.T) {
	t.Setenv("TMUX", "/run/x/s,123,0")
	if s := defaultSocket(); s != "/run/x/s" {
		t.Errorf("inside a pane: %s", s)
	}
	t.Setenv("TMUX", "")
	t.Setenv("TMUX_TMPDIR", "/run/y")
	uid := os.Getuid()
	if s, want := defaultSocket(), fmt.Sprintf("/run/y/tmux-%d/default", uid); s != want {
		t.Errorf("with TMUX_TMPDIR: %s, want %s", s, want)
	}
	t.Setenv("TMUX_TMPDIR", "")
	if s, want := defaultSocket(), fmt.Sprintf("/tmp/tmux-%d/default", uid); s != want {
		t.Errorf("by default: %s, want %s", s, want)
	}
}
