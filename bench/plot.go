package main

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart is one plot: cases one below the other.
type chart struct {
	file, title, axis string
	cases             []string
	peers             []string // nil: all, the fastest first
	log               bool
}

func allCharts() []chart {
	return []chart{
		{"stream", "One way, in batches, by payload", "ns per message", []string{"stream-0", "stream-64", "stream-1024", "stream-16368"},
			[]string{"raw", "raw-chunks", "buf", "conn", "conn-send", "c"}, true},
		{"stream-64", "One way, 64 bytes of payload", "ns per message", []string{"stream-64"}, nil, true},
		{"pingpong-64", "There and back, 64 bytes of payload", "ns per round trip", []string{"pingpong-64"}, nil, true},
		{"send", "One way, 64 bytes, one message a write", "ns per message", []string{"send-64", "senders-8"}, nil, false},
		{"file", "A descriptor passed, taken and closed", "ns per file", []string{"file"}, nil, false},
		{"channels", "k busy Conns in one process, 64 bytes", "ns per message", []string{"channels"},
			[]string{"k=1", "k=10", "k=100", "k=1000"}, false},
	}
}

// writePlots writes an SVG file for every chart that has figures.
func writePlots(dir string, rep *report) error {
	for _, c := range allCharts() {
		if b := c.bars(rep); len(b) > 0 {
			if err := c.write(filepath.Join(dir, c.file+".svg"), b); err != nil {
				return err
			}
		}
	}
	return nil
}

// bars returns the chart's bars from top to bottom; empty ones part the cases.
func (c chart) bars(rep *report) bars {
	var all bars
	for _, name := range c.cases {
		var group bars
		for peer, m := range rep.Cases[name] {
			if c.peers == nil || slices.Contains(c.peers, peer) {
				label := peer
				if len(c.cases) > 1 {
					label = name + "  " + peer
				}
				group = append(group, bar{label, peer, m.Median})
			}
		}
		slices.SortFunc(group, func(a, b bar) int {
			if c.peers != nil {
				return slices.Index(c.peers, a.peer) - slices.Index(c.peers, b.peer)
			}
			return int(math.Copysign(1, a.value-b.value))
		})
		if len(all) > 0 && len(group) > 0 {
			all = append(all, bar{})
		}
		all = append(all, group...)
	}
	return all
}

func (c chart) write(file string, b bars) error {
	p := plot.New()
	sans := func(f *font.Font, size vg.Length) { f.Variant, f.Size = "Sans", size }
	p.Title.Text, p.X.Label.Text = c.title, c.axis+", shorter is better"
	sans(&p.Title.TextStyle.Font, 14)
	sans(&p.X.Label.TextStyle.Font, 11)
	sans(&p.X.Tick.Label.Font, 10)
	sans(&p.Y.Tick.Label.Font, 11)
	p.Title.Padding, p.X.Padding, p.Y.Padding = 8, 4, 4
	slices.Reverse(b) // the axis begins at the bottom
	p.Add(b)
	var names []string
	for _, x := range b {
		names = append(names, x.label)
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.7, float64(len(b))-0.3
	largest, smallest := b.extremes()
	p.X.Min, p.X.Max = 0, largest*1.12
	p.X.Tick.Marker = ticks{plot.DefaultTicks{}}
	if c.log {
		p.X.Label.Text += " (logarithmic)"
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks{plot.LogTicks{Prec: -1}}
		p.X.Min, p.X.Max = math.Pow(10, math.Floor(math.Log10(smallest*0.8))), largest*2.2
	}
	canvas := vgsvg.New(680, vg.Length(85+19*len(b)))
	p.Draw(draw.Crop(draw.New(canvas), 12, -12, 6, -6))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	// Who has not this very font should see one that is like it.
	text := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	return os.WriteFile(file, text, 0o666)
}

// ticks have their labels written out: 1000000, not 1e+06.
type ticks struct{ plot.Ticker }

func (t ticks) Ticks(least, most float64) []plot.Tick {
	all := t.Ticker.Ticks(least, most)
	for i, tick := range all {
		if !tick.IsMinor() {
			all[i].Label = strconv.FormatFloat(tick.Value, 'f', -1, 64)
		}
	}
	return all
}

// bars are horizontal, at 0, 1, 2 and so on, with their figures behind them.
type bars []bar

type bar struct {
	label, peer string
	value       float64
}

func (b bars) extremes() (largest, smallest float64) {
	smallest = math.Inf(1)
	for _, x := range b {
		if x.value > 0 {
			largest, smallest = max(largest, x.value), min(smallest, x.value)
		}
	}
	return largest, smallest
}

// Plot draws the bars; it makes bars a plot.Plotter.
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	text := p.X.Tick.Label
	text.XAlign, text.YAlign = draw.XLeft, draw.YCenter
	for i, v := range b {
		if v.value <= 0 {
			continue
		}
		left, right := c.Min.X, x(v.value)
		low, high := y(float64(i)-0.38), y(float64(i)+0.38)
		c.FillPolygon(colorOf(v.peer), []vg.Point{{X: left, Y: low}, {X: right, Y: low}, {X: right, Y: high}, {X: left, Y: high}})
		c.FillText(text, vg.Point{X: right + 4, Y: (low + high) / 2}, figure(v.value))
	}
}

// colorOf is blue for this library, orange for C, dark for the bare kernel.
func colorOf(peer string) color.Color {
	switch {
	case strings.HasPrefix(peer, "conn"), peer == "buf", strings.HasPrefix(peer, "k="):
		return color.RGBA{0x2b, 0x6c, 0xb0, 0xff}
	case peer == "c", peer == "c-block":
		return color.RGBA{0xdd, 0x7a, 0x1e, 0xff}
	case strings.HasPrefix(peer, "raw"), peer == "net.UnixConn":
		return color.RGBA{0x55, 0x5b, 0x66, 0xff}
	default:
		return color.RGBA{0xb4, 0xbc, 0xc8, 0xff}
	}
}
