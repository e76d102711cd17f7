package main

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"io"
	"text/template"
	"time"
	"unicode/utf8"
)

//go:embed seq.svg
var seqSVG string

var svgTemplate = template.Must(template.New("svg").Funcs(template.FuncMap{"x": xmlText}).Parse(seqSVG))

// xmlText escapes what is printable already.
func xmlText(v any) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(fmt.Sprint(v)))
	return b.String()
}

const (
	svgTimes   = 96  // width of the column of times
	svgGap     = 210 // between lifelines, if there are many
	svgWide    = 330 // if there are few
	svgRow     = 30
	svgHead    = 46
	svgPage    = 40   // rows between headings
	svgMost    = 4000 // rows
	svgLetter  = 6.6  // width of one
	svgPattern = 4    // longest pattern that is looked for
)

// svgPicture is what the template draws.
type svgPicture struct {
	Title         string
	Width, Height int
	Note          *svgName
	Lines         []svgLine
	Heads         []svgName
	Rows          []svgArrow
	Loops         []svgLoop
	Legend        []svgName
}

type svgLine struct{ X, Y1, Y2 int }

type svgName struct {
	X, Y        int
	Left, Width int // of a box around it
	Text, Tip   string
	Class       string
}

type svgArrow struct {
	X1, X2, Y   int
	Self        bool
	TextX       int
	Time, Label string
	Tip, Class  string
}

type svgLoop struct {
	X, Y, Width int
	Text        string
}

// svg writes the picture.
func (d *diagram) svg(w io.Writer) error {
	p := svgPicture{Title: d.Title, Width: svgTimes + max(len(d.Lines), 2)*d.svgGap() + 20}
	y := 34
	top := y
	rows, i := 0, 0
	for i < len(d.Rows) && rows < svgMost {
		if rows%svgPage == 0 {
			y = d.svgHeads(&p, y)
		}
		k, times := d.pattern(i)
		if times == 1 {
			k = 1
		}
		for j := i; j < i+k; j++ {
			p.Rows = append(p.Rows, d.svgArrow(&d.Rows[j], y, p.Width))
			y += svgRow
			rows++
		}
		if times > 1 {
			bytes := 0
			last := &d.Rows[i+k*times-1]
			for j := i + k; j < i+k*times; j++ {
				bytes += d.Rows[j].Len
			}
			text := fmt.Sprintf("the message above %s more, %d bytes", often(times-1), bytes)
			if k > 1 {
				text = fmt.Sprintf("the %d messages above %s more, %d bytes", k, often(times-1), bytes)
			}
			if last.Time >= 0 {
				text += ", until " + since(last.Time)
			}
			p.Loops = append(p.Loops, svgLoop{svgTimes + 8, y - 16, p.Width - svgTimes - 28, text})
			y += svgRow
			rows++
		}
		i += k * times
	}
	if len(d.Rows) == 0 {
		y = d.svgHeads(&p, y)
	}
	for n := range d.Lines {
		p.Lines = append(p.Lines, svgLine{d.svgX(n), top + svgHead - 12, y})
	}
	if left := d.left + len(d.Rows) - i; left > 0 {
		p.Note = &svgName{X: svgTimes, Y: y, Text: count(left, "message") + " more"}
		y += svgRow
	}
	p.svgLegend(y + svgRow)
	p.Height = y + 2*svgRow
	return svgTemplate.Execute(w, p)
}

func (d *diagram) svgX(line int) int { return svgTimes + line*d.svgGap() + d.svgGap()/2 }

func (d *diagram) svgGap() int {
	if len(d.Lines) < 4 {
		return svgWide
	}
	return svgGap
}

// svgHeads draws the lifelines' names, and returns where the next row is.
func (d *diagram) svgHeads(p *svgPicture, y int) int {
	gap := d.svgGap()
	for n, l := range d.Lines {
		p.Heads = append(p.Heads, svgName{X: d.svgX(n), Y: y, Left: d.svgX(n) - gap/2 + 8, Width: gap - 16, Text: fit(l.Name, gap-20), Tip: l.Note})
	}
	return y + svgHead
}

// svgArrow draws a message. Its label has the whole row: it is above the arrow's
// middle, but inside the picture.
func (d *diagram) svgArrow(r *arrow, y, width int) svgArrow {
	a := svgArrow{X1: d.svgX(r.From), X2: d.svgX(r.To), Y: y, Self: r.From == r.To, Class: "plain"}
	label := fmt.Sprintf("%s id %d len %d", r.Type, r.ID, r.Len)
	a.Tip = fmt.Sprintf("%s pid %d #%d", label, r.PID, r.Channel)
	if r.Wait >= 0 {
		a.Tip += ", waited " + time.Duration(r.Wait).String()
	}
	for _, f := range r.Files {
		label += " + " + f.Text
		a.Tip += "\n+ " + f.Text
		a.Class = f.Class
	}
	if r.Note != "" {
		a.Tip += "\n" + r.Note
	}
	a.Label = fit(label, width-svgTimes-10)
	a.TextX = (a.X1 + a.X2) / 2
	if a.Self {
		a.TextX = a.X1 + d.svgGap()/2 - 10
	}
	half := int(svgLetter*float64(utf8.RuneCountInString(a.Label))) / 2
	a.TextX = max(min(a.TextX, width-10-half), svgTimes+half)
	if r.Time >= 0 {
		a.Time = since(r.Time)
	}
	return a
}

// pattern tells how many messages from i on, and how often in a row, are alike:
// at least three times, or it is one message, once. Messages with files are
// like no others.
func (d *diagram) pattern(i int) (k, times int) {
	k, times = 1, 1
	for n := 1; n <= svgPattern; n++ {
		t := 1
		for d.alike(i, i+n*t, n) {
			t++
		}
		if t > 2 && n*(t-1) > k*(times-1) {
			k, times = n, t
		}
	}
	return k, times
}

func (d *diagram) alike(i, j, n int) bool {
	if j+n > len(d.Rows) {
		return false
	}
	for m := range n {
		a, b := &d.Rows[i+m], &d.Rows[j+m]
		if a.From != b.From || a.To != b.To || a.Type != b.Type || a.Channel != b.Channel || len(a.Files)+len(b.Files) > 0 {
			return false
		}
	}
	return true
}

func (p *svgPicture) svgLegend(y int) {
	x := svgTimes
	for _, l := range [...][2]string{{"plain", "message"}, {"file", "file"}, {"socket", "socket"}, {"pipe", "pipe"}, {"device", "device"}, {"lost", "lost"}} {
		p.Legend = append(p.Legend, svgName{X: x, Y: y, Class: l[0], Text: l[1]})
		x += 90
	}
	p.Width = max(p.Width, x+10)
}

// often returns "once", or for example "12 times".
func often(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// since is a time after the first message, with as many digits as make sense.
func since(ns int64) string { return fmt.Sprintf("%.3f ms", float64(ns)/1e6) }

// fit cuts s to so many units of width.
func fit(s string, width int) string {
	most := max(int(float64(width)/svgLetter), 4)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "\u2026"
}
