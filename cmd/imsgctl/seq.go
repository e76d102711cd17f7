package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	html "html/template"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

func newSeqCommand(a *app) *cobra.Command {
	var in inputFlags
	var choose choiceFlags
	var out, listen string
	var live bool
	d := new(diagram)
	c := &cobra.Command{
		Use:   "seq [file] -o FILE.svg|FILE.html",
		Short: "Draw a capture as a sequence diagram",
		Long: `Seq draws a line for each process and an arrow for each message between them.
Messages with a file have arrows in the color of what the file is; a lost one is
red and dashed.

An SVG is for reports: what repeats is drawn once, with how often, and the
headings come again on every page of rows. An HTML file is for looking around:
it needs nothing but itself, shows every message, and searches, filters, zooms,
and tells all about the message that is clicked. It has the payloads in it, up
to --payload bytes each: keep it as you would keep the capture.

With --live, seq serves the page on the loopback interface, at an address that
nobody can guess, while another command records to the file.`,
		Example: `  imsgctl seq session.pcapng -o session.html
  imsgctl seq -f 'chan == 2' session.pcapng -o session.svg
  imsgctl trace -w t.pcapng -- bgpd -d & imsgctl seq --live t.pcapng`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := cmp.Or(append(args, "")...)
			write := map[string]func(io.Writer) error{".svg": d.svg, ".html": d.html, ".htm": d.html}[strings.ToLower(filepath.Ext(out))]
			switch {
			case live && (out != "" || name == "" || name == "-"):
				return usagef("--live shows a growing file, which must be named, and writes none")
			case !live && c.Flags().Changed("listen"):
				return usagef("--listen belongs to --live")
			case !live && write == nil:
				return usagef("-o FILE.svg or -o FILE.html says what is to be drawn")
			case d.limit < 1:
				return usagef("--limit %d: at least 1", d.limit)
			case d.payload < 0:
				return usagef("--payload %d: at least 0", d.payload)
			}
			ch, err := choose.open()
			if err != nil {
				return err
			}
			d.choice = ch
			if live {
				return d.serve(c.Context(), a, &in, name, listen)
			}
			i, err := in.open(c.Context(), a, name)
			if err != nil {
				return err
			}
			defer i.Close()
			if fi, err := os.Stat(out); err == nil && a.isRead(fi) {
				return usagef("-o %s: that is what is read", quote(out))
			}
			d.Title = escape(filepath.Base(i.name))
			if i.name == "" {
				d.Title = "standard input"
			}
			rerr := i.each(c.Context(), d.add, func() {})
			if d.left > 0 {
				a.complain(a.running, fmt.Errorf("%s behind the first %d left out (--limit)", count(d.left, "message"), d.limit))
			}
			var b bytes.Buffer
			if err := write(&b); err != nil {
				return err
			}
			// For the owner only: payloads can be secret.
			if err := os.WriteFile(out, b.Bytes(), 0o600); err != nil {
				return err
			}
			return rerr
		},
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	in.add(c)
	choose.add(c)
	c.Flags().StringVarP(&out, "output", "o", "", "draw to `FILE`, whose name ends in .svg or .html")
	c.Flags().IntVar(&d.limit, "limit", 5000, "draw the first `N` messages")
	c.Flags().IntVar(&d.payload, "payload", 1024, "`BYTES` of each payload in an HTML page")
	c.Flags().BoolVar(&live, "live", false, "serve the page while the file grows")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`ADDRESS` for --live, on the loopback interface")
	return c
}

// A diagram is what seq draws. Every string in it is printable.
type diagram struct {
	Title string
	Lines []lifeline
	Rows  []arrow

	choice         *choice
	limit, payload int
	left           int // messages that were too many
	lines          map[lifeKey]int
	begin          int64 // time of the first message
}

// A lifeline is a process, or an end of a channel of which no process is known.
type lifeline struct {
	Name string `json:"name"`
	Note string `json:"note"` // path of its program
}

type lifeKey struct {
	pid     int
	exe     string
	channel int // of an end without a process
	server  bool
}

// An arrow is a message.
type arrow struct {
	From    int            `json:"from"` // number of its lifeline
	To      int            `json:"to"`
	Time    int64          `json:"time"` // nanoseconds since the first message; -1: not known
	Wait    int64          `json:"wait"` // in the socket; -1: not known
	Type    string         `json:"type"`
	ID      uint32         `json:"id"`
	PID     int32          `json:"pid"`
	Len     int            `json:"len"`
	Channel int            `json:"channel"`
	Socket  string         `json:"socket,omitempty"`
	Dialect string         `json:"dialect"`
	Note    string         `json:"note,omitempty"`
	Files   []drawnFile    `json:"files,omitempty"`
	Payload string         `json:"payload,omitempty"` // hex
	Cut     int            `json:"cut,omitempty"`     // bytes that are not in Payload
	Fields  profile.Fields `json:"fields,omitempty"`
	Send    string         `json:"send,omitempty"`
}

type drawnFile struct {
	Text  string `json:"text"`
	Class string `json:"class"` // of its color
}

// add draws a message.
func (d *diagram) add(r *capture.Record) error {
	p, ok := d.choice.of(r)
	if !ok {
		return nil
	}
	if len(d.Rows) >= d.limit {
		d.left++
		return nil
	}
	if d.lines == nil {
		d.lines = make(map[lifeKey]int)
	}
	if d.begin == 0 && !r.Time.IsZero() {
		d.begin = r.Time.UnixNano()
	}
	x := arrow{
		From: d.line(r.From, r.Channel, r.Dir == capture.DirIn), To: d.line(r.To, r.Channel, r.Dir != capture.DirIn),
		Time: -1, Wait: max(int64(r.Wait), -1), Type: p.TypeText(r.Header.Type), ID: r.Header.ID, PID: r.Header.PID, Len: r.Len,
		Channel: r.Channel, Socket: escape(r.Name), Dialect: r.Dialect.String(), Note: escape(r.Note),
	}
	if !r.Time.IsZero() {
		x.Time = max(r.Time.UnixNano()-d.begin, 0)
	}
	for _, f := range r.Files {
		x.Files = append(x.Files, drawFile(f, r.Marked))
	}
	if r.Marked && len(r.Files) == 0 {
		x.Files = append(x.Files, drawnFile{"a file that was not seen", "file"})
	}
	shown := r.Payload[:min(len(r.Payload), d.payload)]
	x.Payload, x.Cut = hex.EncodeToString(shown), max(r.Len-16-len(shown), 0)
	if fields, err := p.Decode(r.Header.Type, r.Payload, r.Order); err == nil && len(r.Payload) <= d.payload {
		x.Fields = fields
		x.Send = string(bytes.TrimSpace(appendSend(nil, r, p)))
	}
	d.Rows = append(d.Rows, x)
	return nil
}

// line returns the number of an end's lifeline.
func (d *diagram) line(e capture.Endpoint, channel int, server bool) int {
	k := lifeKey{pid: e.PID, exe: e.Exe}
	l := lifeline{Note: escape(e.Exe)}
	if e.PID == 0 && e.Exe == "" {
		k = lifeKey{channel: channel, server: server}
		l.Name = "client"
		if server {
			l.Name = "server"
		}
		if channel > 0 {
			l.Name += fmt.Sprintf(" #%d", channel)
		}
	} else {
		l.Name = string(appendEnd(nil, e, ""))
	}
	n, ok := d.lines[k]
	if !ok {
		n = len(d.Lines)
		d.lines[k] = n
		d.Lines = append(d.Lines, l)
	}
	return n
}

// drawFile says what a file is, in words and by a color.
func drawFile(f capture.File, marked bool) drawnFile {
	text := cmp.Or(escape(f.Kind), "file")
	if f.Path != "" {
		text += " " + escape(f.Path)
	}
	if f.Flags != "" {
		text += " " + escape(f.Flags)
	}
	if f.From >= 0 || f.To >= 0 {
		text += fmt.Sprintf(" (%s -> %s)", number(f.From), number(f.To))
	}
	class := map[string]string{"socket": "socket", "pipe": "pipe", "char": "device", "block": "device"}[f.Kind]
	switch {
	case f.Lost:
		return drawnFile{text + ", lost", "lost"}
	case !marked:
		text += ", unclaimed"
	}
	return drawnFile{text, cmp.Or(class, "file")}
}

//go:embed seq.html
var seqHTML string

var seqPage = html.Must(html.New("seq").Parse(seqHTML))

// html writes the page for a browser.
func (d *diagram) html(w io.Writer) error { return d.page(w, "") }

// page writes the page, with the messages if it asks no live address for them.
// The template makes JSON of the values, in which nothing ends the script.
func (d *diagram) page(w io.Writer, live string) error {
	data := map[string]any{"title": d.Title, "lines": d.Lines, "rows": d.Rows, "left": d.left}
	if live != "" || len(d.Rows) == 0 {
		data["lines"], data["rows"] = []lifeline{}, []arrow{}
	}
	if _, err := json.Marshal(data); err != nil { // which html/template would only hide
		return err
	}
	return seqPage.Execute(w, map[string]any{"Title": d.Title, "Data": data, "Live": live})
}
