package main

import "testing"

func TestExitStatus(t *testing.T) {
	for s, want := range map[string]int{"0 \n": 0, "7 \n": 7, " 15\n": 143, "7\n": 7} {
		if got, err := exitStatus(s); got != want || err != nil {
			t.Errorf("exitStatus(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", " \n", "x y\n"} {
		if _, err := exitStatus(s); err == nil {
			t.Errorf("exitStatus(%q) succeeds", s)
		}
	}
}

func TestTrim(t *testing.T) {
	for s, want := range map[string]string{
		"":                             "",
		"\n\n":                         "",
		"out\n\nmore\n\n\n":            "out\n\nmore\n",
		"out\n\n\nPane is dead (st)\n": "out\n",
		"Pane is dead (status 0)\n":    "",
	} {
		if got := string(trim([]byte(s))); got != want {
			t.Errorf("trim(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for s, want := range map[string]bool{"0 2000": false, "1799 2000": false, "1800 2000": true, "2000 2000": true, "0 0": false, "": false} {
		if got := cut(s); got != want {
			t.Errorf("cut(%q) = %v", s, got)
		}
	}
}
