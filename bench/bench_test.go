package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The workers are this binary again.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// short is a run of a few milliseconds.
func short(args ...string) []string {
	return append([]string{"-rounds=2", "-slice=2ms"}, args...)
}

func TestQuick(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	args := short("-quick", "-json", "-svg", dir, "-case", "^(stream-64|pingpong-64-1core)$", "-peer", "^(raw|buf-batch|conn|net.UnixConn)$")
	if err := run(args, &out, &errs); err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	var rep report
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rep); err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Errorf("more than one object: %v", err)
	}
	if m := rep.Machine; m.CPU == "" || m.Cores == 0 || m.Kernel == "" || m.Go == "" || m.Date == "" {
		t.Errorf("machine: %+v", m)
	}
	for name, peers := range map[string]int{"stream-64": 3, "pingpong-64-1core": 2} {
		if len(rep.Cases[name]) != peers {
			t.Errorf("%s: %v, want %d peers", name, rep.Cases[name], peers)
		}
		for peer, m := range rep.Cases[name] {
			if m.Rounds != 2 || m.Min <= 0 || m.Min > m.Median || m.Median > m.Max || m.Unit != "ns" {
				t.Errorf("%s, %s: %+v", name, peer, m)
			}
		}
	}
	if rep.Ratios["stream-64"]["buf-batch/raw"] <= 0 || rep.Ratios["pingpong-64-1core"]["conn/net.UnixConn"] <= 0 {
		t.Errorf("ratios: %v", rep.Ratios)
	}
	measured := 0
	for _, v := range rep.Targets {
		if (v.Value == nil) != (v.Met == nil) || v.Target == "" {
			t.Errorf("target %+v", v)
		}
		if v.Met != nil {
			measured++
		}
	}
	if measured != 2 { // buf-batch / raw, conn / net.UnixConn
		t.Errorf("%d targets measured, want 2", measured)
	}
	for _, name := range []string{"stream.svg", "pingpong-cores.svg"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(data, []byte("</svg>")) {
			t.Errorf("%s: %v, %d bytes", name, err, len(data))
		}
	}
}

func TestTables(t *testing.T) {
	var out bytes.Buffer
	if err := run(short("-case", "^file$|allocs", "-peer", "^(raw|conn)$"), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nfile: ", "\nallocs: ", "/ raw", "\ntargets\n", "not measured"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestErrors(t *testing.T) {
	for name, args := range map[string][]string{
		"no C program":        short("-c-peer", filepath.Join(t.TempDir(), "none")),
		"C program that ends": short("-c-peer", "false", "-case", "^send", "-peer", "^c$"),
		"nothing to run":      short("-case", "^no such case$"),
		"bad regexp":          {"-peer", "("},
		"argument":            {"stream"},
	} {
		var out bytes.Buffer
		if err := run(args, &out, io.Discard); err == nil {
			t.Errorf("%s: no error, %s", name, &out)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestTargets(t *testing.T) {
	rep := newReport()
	rep.Cases["a"] = map[string]measurement{"x": {Median: 8}}
	rep.Ratios["a"] = map[string]float64{"x/y": 0.25}
	for _, tt := range []struct {
		target
		value float64
		met   bool
	}{
		{target{"a", "x", "y", atMostTime, 0.25}, 0.25, true},
		{target{"a", "x", "y", atMostTime, 0.2}, 0.25, false},
		{target{"a", "x", "y", atLeastRate, 4}, 4, true},
		{target{"a", "x", "y", atLeastRate, 5}, 4, false},
		{target{"a", "x", "", atLeastPerSec, 100}, 125, true},
		{target{"a", "x", "", atLeastPerSec, 200}, 125, false},
		{target{"a", "x", "", atMost, 8}, 8, true},
		{target{"a", "x", "", atMost, 7}, 8, false},
	} {
		v := tt.judge(rep)
		if v.Value == nil || *v.Value != tt.value || *v.Met != tt.met {
			t.Errorf("%+v: %+v", tt.target, v)
		}
	}
	if v := (target{"b", "x", "y", atMostTime, 1}).judge(rep); v.Value != nil || v.Met != nil {
		t.Errorf("a target that was not measured: %+v", v)
	}
}

// Every figure is within its plot, and every tick too.
func TestAxis(t *testing.T) {
	for _, log := range []bool{false, true} {
		for _, m := range []measurement{{Median: 3, Min: 2, Max: 4}, {Median: 5, Min: 5, Max: 5}, {Median: 20, Min: 1, Max: 1e7}, {Median: 7e6, Min: 6e5, Max: 8e8}} {
			a := newAxis([]row{{label: "case"}, {"x", &m}, {"y", &measurement{Median: 2 * m.Median, Min: m.Min, Max: 2 * m.Max}}}, log)
			last := a.at(m.Min)
			for _, x := range []float64{m.Min, m.Median, 2 * m.Median, 2 * m.Max} {
				at := a.at(x)
				if at < last || at < plotLeft || at > plotRight {
					t.Errorf("log %v, %+v: %g is at %g, behind %g", log, m, x, at, last)
				}
				last = at
			}
			if a.at(2*m.Median) >= plotRight {
				t.Errorf("log %v, %+v: a median is cut off", log, m)
			}
			ticks := a.ticks()
			if len(ticks) < 2 || len(ticks) > 12 {
				t.Errorf("log %v, %+v: ticks %v", log, m, ticks)
			}
		}
	}
}
