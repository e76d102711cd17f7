package main

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"
)

// A report is everything that was measured, and the JSON object.
type report struct {
	Machine machine                           `json:"machine"`
	Cases   map[string]map[string]measurement `json:"cases"`
	Ratios  map[string]map[string]float64     `json:"ratios"` // times, "peer/base"
	Targets []verdict                         `json:"targets"`
}

// A measurement is what one operation took, in all rounds.
type measurement struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	CPU    float64 `json:"cpu"` // ns for an operation, both processes together
	Rounds int     `json:"rounds"`
	Unit   string  `json:"unit"`
	Ops    int     `json:"ops"` // operations a round
}

func newReport() *report {
	return &report{
		Machine: thisMachine(),
		Cases:   map[string]map[string]measurement{},
		Ratios:  map[string]map[string]float64{},
	}
}

// bases are the peers that others are compared with.
var bases = []string{"c", "raw", "raw-chunks", "buf-batch", "net.UnixConn", "conn-1", "conn-100", "k=1", "grpc", "ttrpc", "net/rpc", "godbus", "memcpy"}

// add takes a case's results. A ratio is the median of the ratios of every
// round, whose two slices followed one another closely.
func (rep *report) add(c benchCase, pairs []*pair) {
	figures, ratios := map[string]measurement{}, map[string]float64{}
	for _, q := range pairs {
		figures[q.peer.name] = q.measurement(c)
		for _, base := range pairs {
			if base == q || !slices.Contains(bases, base.peer.name) {
				continue
			}
			var each []float64
			for i := range q.perOp {
				each = append(each, q.perOp[i]/base.perOp[i])
			}
			ratios[q.peer.name+"/"+base.peer.name] = round(median(each))
		}
	}
	rep.Cases[c.name] = figures
	if len(ratios) > 0 {
		rep.Ratios[c.name] = ratios
	}
}

func (q *pair) measurement(c benchCase) measurement {
	m := measurement{
		Median: round(median(q.perOp)),
		Min:    round(slices.Min(q.perOp)),
		Max:    round(slices.Max(q.perOp)),
		Rounds: len(q.perOp),
		Unit:   c.unit,
		Ops:    q.ops,
	}
	if c.fixed == 0 {
		m.CPU = round(max(0, float64(q.cpu-q.startup)) / float64(q.done))
	}
	if c.unit == "allocs" { // as package testing does it: the runtime's own are no one's
		m.Median, m.Min, m.Max = math.Floor(m.Median), math.Floor(m.Min), math.Floor(m.Max)
	}
	return m
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// round returns x with four significant digits.
func round(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	if err != nil {
		return x
	}
	return y
}

func (rep *report) judge(targets []target) {
	for _, t := range targets {
		rep.Targets = append(rep.Targets, t.judge(rep))
	}
}

func (rep *report) printJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "\t")
	enc.SetEscapeHTML(false)
	return enc.Encode(rep)
}
