package main

import "fmt"

// A target is a figure that this library has to reach in one run.
type target struct {
	bench, peer string
	base        string // what it is compared with; "": nothing
	kind        kind
	limit       float64
}

type kind int

const (
	atMostTime    kind = iota // time of peer / time of base
	atLeastRate               // rate of peer / rate of base
	atLeastPerSec             // million operations in a second
	atMost                    // the figure itself
)

func allTargets() []target {
	return []target{
		{"stream-64", "buf-batch", "raw", atMostTime, 1.3},
		{"stream-64", "buf-batch", "c", atLeastRate, 4},
		{"stream-64", "conn-batch", "buf-batch", atMostTime, 1.1},
		{"stream-64", "conn", "c", atLeastRate, 3},
		{"decode", "framer-batch", "", atLeastPerSec, 100},
		{"stream-16368", "buf", "raw-chunks", atLeastRate, 0.97},
		{"stream-16368", "conn-send", "raw", atMostTime, 1.05},
		{"send-64", "conn", "raw", atMostTime, 1.08},
		{"file", "buf", "c", atLeastRate, 1.2},
		{"file", "conn", "c", atLeastRate, 1.2},
		{"pingpong-64", "conn", "c", atMostTime, 0.32},
		{"pingpong-64", "conn-busy", "c", atMostTime, 0.3},
		{"pingpong-64-1core", "conn", "net.UnixConn", atMostTime, 1},
		{"pingpong-64-1core", "conn", "c", atMostTime, 1.3},
		{"pingpong-64-loaded", "conn", "net.UnixConn", atMostTime, 1},
		{"channels", "k=1000", "k=1", atMostTime, 1.3},
		{"receivers", "k=1000", "k=1", atMostTime, 2},
		{"senders", "conn-4000", "conn-100", atMostTime, 2},
		{"idle", "conn", "", atMost, 1536},
		{"burst", "conn", "", atMost, 1536},
		{"allocs", "conn", "", atMost, 0},
		{"allocs", "buf", "", atMost, 0},
		{"allocs", "framer", "", atMost, 0},
		{"pingpong-64", "conn", "grpc", atLeastRate, 16},
		{"pingpong-64", "conn", "ttrpc", atLeastRate, 7.7},
		{"pingpong-64", "conn", "net/rpc", atLeastRate, 6.9},
		{"pingpong-64", "conn", "godbus", atLeastRate, 26},
	}
}

// A verdict is a target and what became of it.
type verdict struct {
	Name   string   `json:"name"`
	Value  *float64 `json:"value"` // nil: not measured
	Target string   `json:"target"`
	Met    *bool    `json:"met"`
}

func (t target) name() string {
	switch t.kind {
	case atMostTime:
		return fmt.Sprintf("%s: time of %s / %s", t.bench, t.peer, t.base)
	case atLeastRate:
		return fmt.Sprintf("%s: rate of %s / %s", t.bench, t.peer, t.base)
	case atLeastPerSec:
		return fmt.Sprintf("%s: %s, million messages a second", t.bench, t.peer)
	default:
		return fmt.Sprintf("%s: %s", t.bench, t.peer)
	}
}

// judge compares the target with what rep has measured.
func (t target) judge(rep *report) verdict {
	atLeast := t.kind == atLeastRate || t.kind == atLeastPerSec
	v := verdict{Name: t.name(), Target: fmt.Sprintf("<= %g", t.limit)}
	if atLeast {
		v.Target = fmt.Sprintf(">= %g", t.limit)
	}
	value, ok := t.value(rep)
	if !ok {
		return v
	}
	met := value <= t.limit
	if atLeast {
		met = value >= t.limit
	}
	v.Value, v.Met = &value, &met
	return v
}

func (t target) value(rep *report) (float64, bool) {
	if t.base != "" {
		ratio, ok := rep.Ratios[t.bench][t.peer+"/"+t.base]
		if ok && t.kind == atLeastRate {
			ratio = 1 / ratio
		}
		return round(ratio), ok
	}
	m, ok := rep.Cases[t.bench][t.peer]
	if ok && t.kind == atLeastPerSec {
		return round(1000 / m.Median), ok
	}
	return m.Median, ok
}
