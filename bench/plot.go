package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A chart is one plot: cases one below the other.
type chart struct {
	file, title string
	cases       []string
	peers       []string // nil: all, the fastest first
	log         bool     // a logarithmic axis, on which a bar would have no length
}

func allCharts() []chart {
	return []chart{
		{"stream", "One way, in batches, by payload", []string{"stream-0", "stream-64", "stream-1024", "stream-16368"},
			[]string{"raw", "raw-64k", "raw-chunks", "buf-batch", "buf", "conn-batch", "conn", "conn-send", "c"}, true},
		{"stream-64", "One way, 64 bytes of payload", []string{"stream-64"}, nil, true},
		{"pingpong-64", "There and back, 64 bytes of payload", []string{"pingpong-64"}, nil, true},
		{"pingpong-cores", "There and back, 64 bytes: with a core each, on one core, and beside busy loops",
			[]string{"pingpong-64", "pingpong-64-1core", "pingpong-64-loaded"},
			[]string{"net.UnixConn", "raw-block", "buf", "conn", "conn-busy", "c", "c-block"}, true},
		{"stream-cores", "One way, 64 bytes: with a core each, on one core, and beside busy loops",
			[]string{"stream-64", "stream-64-1core", "stream-64-loaded"},
			[]string{"raw", "raw-64k", "buf", "buf-batch", "conn", "conn-batch", "c"}, true},
		{"send", "One way, 64 bytes, one message a write", []string{"send-64", "senders"}, nil, true},
		{"file", "A descriptor passed, taken and closed", []string{"file"}, nil, false},
		{"channels", "k busy Conns in one process, and k goroutines that receive from one, 64 bytes", []string{"channels", "receivers"},
			[]string{"k=1", "k=10", "k=100", "k=1000"}, true},
	}
}

// writePlots writes an SVG file for every chart that has figures.
func writePlots(dir string, rep *report) error {
	for _, c := range allCharts() {
		if svg := c.svg(rep); svg != "" {
			if err := os.WriteFile(filepath.Join(dir, c.file+".svg"), []byte(svg), 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}

// A row is a peer's line of a chart, or a case's heading.
type row struct {
	label string
	m     *measurement // nil: a heading
}

// rows returns the chart's lines from top to bottom.
func (c chart) rows(rep *report) (all []row) {
	for _, name := range c.cases {
		var group []row
		for peer, m := range rep.Cases[name] {
			if c.peers == nil || slices.Contains(c.peers, peer) {
				group = append(group, row{peer, &m})
			}
		}
		slices.SortFunc(group, func(a, b row) int {
			if c.peers != nil {
				return slices.Index(c.peers, a.label) - slices.Index(c.peers, b.label)
			}
			return cmp.Compare(a.m.Median, b.m.Median)
		})
		if len(group) > 0 {
			if len(c.cases) > 1 {
				all = append(all, row{label: name})
			}
			all = append(all, group...)
		}
	}
	return all
}

// Where things are, in pixels. Labels end at the left of the plot and figures at
// the right of the image: no font, however wide, makes them run into it.
const (
	chartWidth = 760
	plotLeft   = 150
	plotRight  = 620
	figures    = 748
	rowHeight  = 20
	headHeight = 62
	footHeight = 44
)

func (c chart) svg(rep *report) string {
	rows := c.rows(rep)
	if len(rows) == 0 {
		return ""
	}
	a := newAxis(rows, c.log)
	bottom := headHeight + rowHeight*len(rows)
	var s strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	text := func(x, y float64, anchor, more, t string) {
		put(`<text x="%.0f" y="%.0f" text-anchor="%s"%s>%s</text>`, x, y, anchor, more, html.EscapeString(t))
	}
	put(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`, chartWidth, bottom+footHeight)
	put(`<rect width="100%%" height="100%%" fill="white"/>`)
	text(chartWidth/2, 22, "middle", ` font-size="15"`, c.title)
	for i, k := range kinds {
		x := plotLeft + 115*float64(i)
		put(`<circle cx="%.0f" cy="42" r="5" fill="%s"/>`, x, k.color)
		text(x+9, 46, "start", "", k.name)
	}
	for _, tick := range a.ticks() {
		x := a.at(tick)
		put(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`, x, headHeight, x, bottom)
		text(x, float64(bottom+15), "middle", "", strconv.FormatFloat(tick, 'f', -1, 64))
	}
	shape, unit := "dot", rows[len(rows)-1].m.Unit
	if !c.log {
		shape = "bar"
	}
	foot := fmt.Sprintf("%s for one operation, less is better; %s: median, line: from the least to the most", unit, shape)
	if c.log {
		foot += "; logarithmic"
	}
	text((plotLeft+plotRight)/2, float64(bottom+34), "middle", ` font-size="11" fill="#444"`, foot)
	for i, r := range rows {
		y := headHeight + rowHeight*(float64(i)+0.5)
		if r.m == nil {
			text(10, y+4, "start", ` font-weight="bold"`, r.label)
			continue
		}
		text(plotLeft-8, y+4, "end", "", r.label)
		text(figures, y+4, "end", "", figure(r.m.Median))
		low, mid, high := a.at(r.m.Min), a.at(r.m.Median), a.at(r.m.Max)
		color := kindOf(r.label).color
		if !c.log {
			put(`<rect x="%d" y="%.0f" width="%.1f" height="12" fill="%s"/>`, plotLeft, y-6, mid-plotLeft, color)
		}
		put(`<line x1="%.1f" y1="%.0f" x2="%.1f" y2="%.0f" stroke="#222"/>`, low, y, high, y)
		for _, x := range []float64{low, high} {
			if x < plotRight { // the line goes on where it is cut off
				put(`<line x1="%.1f" y1="%.0f" x2="%.1f" y2="%.0f" stroke="#222"/>`, x, y-4, x, y+4)
			}
		}
		if c.log {
			put(`<circle cx="%.1f" cy="%.0f" r="5" fill="%s"/>`, mid, y, color)
		}
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// An axis maps figures to pixels.
type axis struct {
	log         bool
	least, most float64
}

// newAxis makes room for every median, and for what is not much more.
func newAxis(rows []row, log bool) axis {
	a := axis{log: log, least: math.Inf(1)}
	largest := 0.0
	for _, r := range rows {
		if r.m != nil && r.m.Min > 0 {
			a.least, a.most = min(a.least, r.m.Min), max(a.most, r.m.Max)
			largest = max(largest, r.m.Median)
		}
	}
	if log {
		a.most = min(a.most, largest*4) * 1.1
		a.least = min(a.least*0.8, a.most/10) // for a few ticks
	} else {
		a.least, a.most = 0, min(a.most, largest*1.8)*1.05
	}
	return a
}

// at returns where x is, or the end of the axis.
func (a axis) at(x float64) float64 {
	f := (x - a.least) / (a.most - a.least)
	if a.log {
		f = math.Log(x/a.least) / math.Log(a.most/a.least)
	}
	return plotLeft + (plotRight-plotLeft)*min(1, max(0, f))
}

// ticks returns round numbers: on a logarithmic axis powers of ten, and their
// halves and fifths if there are few.
func (a axis) ticks() (all []float64) {
	unit := math.Pow(10, math.Floor(math.Log10(a.most-a.least)))
	if !a.log {
		for _, part := range []float64{1, 0.5, 0.2} {
			if unit*part*4 < a.most {
				unit *= part
				break
			}
		}
		for x := 0.0; x < a.most; x += unit {
			all = append(all, x)
		}
		return all
	}
	wide := math.Log10(a.most/a.least) > 2.5
	for x := math.Pow(10, math.Floor(math.Log10(a.least))); x < a.most; x *= 10 {
		for _, k := range []float64{1, 2, 5} {
			if k*x >= a.least && k*x < a.most && (k == 1 || !wide) {
				all = append(all, k*x)
			}
		}
	}
	return all
}

// A kindOfPeer has a colour of its own.
type kindOfPeer struct{ name, color string }

var kinds = []kindOfPeer{
	{"this library", "#2b6cb0"},
	{"C's libutil", "#dd7a1e"},
	{"bare kernel", "#555b66"},
	{"others", "#b4bcc8"},
}

func kindOf(peer string) kindOfPeer {
	switch {
	case strings.HasPrefix(peer, "conn"), strings.HasPrefix(peer, "buf"), strings.HasPrefix(peer, "framer"), strings.HasPrefix(peer, "k="):
		return kinds[0]
	case peer == "c", peer == "c-block":
		return kinds[1]
	case strings.HasPrefix(peer, "raw"), peer == "net.UnixConn", peer == "memcpy":
		return kinds[2]
	}
	return kinds[3]
}
