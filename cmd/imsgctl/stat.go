package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

func newStatCommand(a *app) *cobra.Command {
	var in inputFlags
	var choose choiceFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "stat [file]",
		Short: "Count what is in a capture: sizes, latencies, files",
		Long: `Stat counts the messages in a capture, by their type and by their channel, and
measures how long answers took, and how long messages lay in the socket.

An answer is the first message with the same id in the other direction of the
channel. Who spoke first with an id asks with it; only its messages count as
questions. Percentiles are exact to 1 %.

Files are lost that a header announces, or that were sent, but that nobody got;
unclaimed ones came along with a message that does not announce them.`,
		Example: `  imsgctl stat session.pcapng
  imsgctl stat -f 'type == CTL_SHOW_RIB' --json session.pcapng`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ch, err := choose.open()
			if err != nil {
				return err
			}
			i, err := in.open(c.Context(), a, cmp.Or(append(args, "")...))
			if err != nil {
				return err
			}
			defer i.Close()
			s := newStats()
			err = i.each(c.Context(), func(r *capture.Record) error {
				if p, ok := ch.of(r); ok {
					s.add(r, p)
				}
				return nil
			}, func() {})
			show := s.text
			if asJSON {
				show = s.json
			}
			if serr := show(a.stdout); err == nil {
				err = serr
			}
			return err
		},
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	in.add(c)
	choose.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return c
}

// Bounds on what a hostile capture can make us keep.
const (
	maxStatRows = 1 << 10 // types, channels
	maxOpen     = 1 << 16 // questions without an answer
	maxListed   = 20      // files that are told by name
)

type stats struct {
	Messages int             `json:"messages"`
	Bytes    int64           `json:"bytes"`
	First    int64           `json:"first,omitempty"` // nanoseconds since 1970
	Last     int64           `json:"last,omitempty"`
	Cut      int             `json:"cut,omitempty"` // messages that were not captured whole
	Files    fileStats       `json:"files"`
	Types    []*typeStats    `json:"types"`
	Channels []*channelStats `json:"channels"`
	Answers  *latency        `json:"answers,omitempty"` // how long they took, all types
	Waits    *latency        `json:"waits,omitempty"`   // in the socket

	types    map[typeKey]*typeStats
	channels map[int]*channelStats
	open     map[question]*asked
	first    map[question]bool // who spoke first with an id: true for DirOut
	answers  timing
	waits    timing
}

type fileStats struct {
	Passed    int      `json:"passed"`
	Lost      int      `json:"lost"`
	Unclaimed int      `json:"unclaimed"`
	Troubles  []string `json:"troubles,omitempty"` // which were lost or unclaimed
}

type typeKey struct {
	profile *profile.Profile
	typ     uint32
}

type typeStats struct {
	Type     uint32   `json:"type"`
	Name     string   `json:"name,omitempty"`
	Messages int      `json:"messages"`
	Bytes    int64    `json:"bytes"`
	Smallest int      `json:"smallest"`
	Largest  int      `json:"largest"`
	Files    int      `json:"files,omitempty"`
	Answers  *latency `json:"answers,omitempty"`

	text  string
	times timing
}

type channelStats struct {
	Channel int    `json:"channel"`
	Socket  string `json:"socket,omitempty"`
	Ends    string `json:"ends"`
	Out     int    `json:"out"`
	In      int    `json:"in"`
	Unknown int    `json:"unknown,omitempty"`
	Bytes   int64  `json:"bytes"`
	Files   int    `json:"files,omitempty"`
	Dialect string `json:"dialect"`
}

// A question is what answers are found by.
type question struct {
	channel int
	id      uint32
}

// asked is a question without an answer.
type asked struct {
	at  time.Time
	typ *typeStats
}

// A timing collects durations.
type timing struct{ h *hdrhistogram.Histogram }

func (t *timing) add(d time.Duration) {
	if t.h == nil {
		t.h = hdrhistogram.New(1, int64(24*time.Hour), 2)
	}
	t.h.RecordValue(min(max(int64(d), 1), int64(24*time.Hour)))
}

// latency is what a timing says, in nanoseconds.
type latency struct {
	Count  int64 `json:"count"`
	Median int64 `json:"p50"`
	P90    int64 `json:"p90"`
	P99    int64 `json:"p99"`
	Max    int64 `json:"max"`
}

func (t *timing) latency() *latency {
	if t.h == nil {
		return nil
	}
	return &latency{t.h.TotalCount(), t.h.ValueAtQuantile(50), t.h.ValueAtQuantile(90), t.h.ValueAtQuantile(99), t.h.Max()}
}

func newStats() *stats {
	return &stats{
		Types: []*typeStats{}, Channels: []*channelStats{}, types: make(map[typeKey]*typeStats), channels: make(map[int]*channelStats),
		open: make(map[question]*asked), first: make(map[question]bool),
	}
}

func (s *stats) add(r *capture.Record, p *profile.Profile) {
	s.Messages++
	s.Bytes += int64(r.Len)
	if !r.Time.IsZero() {
		ns := r.Time.UnixNano()
		if s.First == 0 || ns < s.First {
			s.First = ns
		}
		s.Last = max(s.Last, ns)
	}
	if r.Cut() > 0 {
		s.Cut++
	}
	if r.Wait >= 0 {
		s.waits.add(r.Wait)
	}
	t := s.typeOf(r, p)
	t.Messages++
	t.Bytes += int64(r.Len)
	t.Smallest, t.Largest = min(t.Smallest, r.Len), max(t.Largest, r.Len)
	t.Files += len(r.Files)
	s.channel(r)
	s.file(r, t)
	s.answer(r, t)
}

// typeOf returns the row of r's type.
func (s *stats) typeOf(r *capture.Record, p *profile.Profile) *typeStats {
	k := typeKey{p, r.Header.Type}
	t := s.types[k]
	if t == nil {
		t = &typeStats{Type: r.Header.Type, Name: p.TypeName(r.Header.Type), text: p.TypeText(r.Header.Type), Smallest: r.Len}
		if len(s.types) == maxStatRows {
			k = typeKey{}
			if t = s.types[k]; t == nil {
				t = &typeStats{text: "(others)", Smallest: r.Len}
			}
		}
		s.types[k] = t
	}
	return t
}

func (s *stats) channel(r *capture.Record) {
	c := s.channels[r.Channel]
	if c == nil {
		if len(s.channels) == maxStatRows {
			return
		}
		c = &channelStats{Channel: r.Channel, Dialect: capture.Either.String()}
		s.channels[r.Channel] = c
	}
	switch r.Dir {
	case capture.DirOut:
		c.Out++
	case capture.DirIn:
		c.In++
	default:
		c.Unknown++
	}
	c.Bytes += int64(r.Len)
	c.Files += len(r.Files)
	c.Socket = cmp.Or(c.Socket, r.Name)
	if r.Dialect != capture.Either {
		c.Dialect = r.Dialect.String()
	}
	if c.Ends == "" {
		x := *r
		if r.Dir == capture.DirIn {
			x.From, x.To, x.Dir = r.To, r.From, capture.DirOut
		}
		c.Ends = string(appendEnds(nil, &x))
	}
}

func (s *stats) file(r *capture.Record, t *typeStats) {
	if r.Marked && len(r.Files) == 0 {
		return // a raw stream does not show files
	}
	for i, f := range r.Files {
		what := ""
		switch {
		case f.Lost:
			s.Files.Lost++
			what = "lost"
		case !r.Marked || i > 0:
			s.Files.Unclaimed++
			what = "unclaimed"
		default:
			s.Files.Passed++
			continue
		}
		if len(s.Files.Troubles) < maxListed {
			s.Files.Troubles = append(s.Files.Troubles, fmt.Sprintf("%s: %s with %s id %d #%d", what, quote(cmp.Or(f.Path, "a file")), t.text, r.Header.ID, r.Channel))
		}
	}
}

// answer measures the time to the first answer.
func (s *stats) answer(r *capture.Record, t *typeStats) {
	if r.Dir == capture.DirUnknown || r.Time.IsZero() {
		return
	}
	q := question{r.Channel, r.Header.ID}
	out := r.Dir == capture.DirOut
	asker, known := s.first[q]
	if !known {
		if len(s.first) >= maxOpen {
			clear(s.first)
			clear(s.open)
		}
		s.first[q], asker = out, out
	}
	if out == asker {
		if s.open[q] == nil {
			s.open[q] = &asked{r.Time, t}
		}
		return
	}
	if o := s.open[q]; o != nil {
		d := r.Time.Sub(o.at)
		o.typ.times.add(d)
		s.answers.add(d)
		delete(s.open, q)
	}
}

// finish makes the rows of what was collected.
func (s *stats) finish() {
	s.Types = append([]*typeStats{}, slices.SortedFunc(maps.Values(s.types), func(a, b *typeStats) int { // none is [] in JSON
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Type, b.Type), cmp.Compare(a.text, b.text))
	})...)
	for _, t := range s.Types {
		t.Answers = t.times.latency()
	}
	s.Channels = append([]*channelStats{}, slices.SortedFunc(maps.Values(s.channels), func(a, b *channelStats) int {
		return cmp.Compare(a.Channel, b.Channel)
	})...)
	s.Answers, s.Waits = s.answers.latency(), s.waits.latency()
}

func (s *stats) json(w io.Writer) error {
	s.finish()
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(s)
}

func (s *stats) text(w io.Writer) error {
	s.finish()
	fmt.Fprintf(w, "%s, %d bytes, %s", count(s.Messages, "message"), s.Bytes, count(len(s.Channels), "channel"))
	if s.Last > s.First {
		d := time.Duration(s.Last - s.First)
		fmt.Fprintf(w, ", %v, %.3g messages/s", round(d), float64(s.Messages)/d.Seconds())
	}
	fmt.Fprintf(w, "\nfiles: %d passed, %d lost, %d unclaimed\n", s.Files.Passed, s.Files.Lost, s.Files.Unclaimed)
	for _, t := range s.Files.Troubles {
		fmt.Fprintf(w, "  %s\n", t)
	}
	if s.Cut > 0 {
		fmt.Fprintf(w, "cut: %s not captured whole\n", count(s.Cut, "message"))
	}
	if s.Messages == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\nmessages\tbytes\tsmallest\tlargest\tfiles\tanswered\tp50\tp90\tp99\tmax\t  type")
	for _, t := range s.Types {
		fmt.Fprintf(tw, "%d\t%d\t%d\t%d\t%d\t%s  %s\n", t.Messages, t.Bytes, t.Smallest, t.Largest, t.Files, t.Answers.cells(), t.text)
	}
	fmt.Fprintf(tw, "%d\t%d\t\t\t%d\t%s  all\n", s.Messages, s.Bytes, s.Files.Passed+s.Files.Lost+s.Files.Unclaimed, s.Answers.cells())
	if s.Waits != nil {
		fmt.Fprintf(tw, "\t\t\t\t\t%s  time in the socket\n", s.Waits.cells())
	}
	fmt.Fprintln(tw, "\nout\tin\tbytes\tfiles\tdialect\tchannel\t  ends")
	for _, c := range s.Channels {
		fmt.Fprintf(tw, "%d\t%d\t%d\t%d\t%s\t#%d\t  %s", c.Out, c.In+c.Unknown, c.Bytes, c.Files, c.Dialect, c.Channel, c.Ends)
		if c.Socket != "" {
			fmt.Fprintf(tw, " %s", quote(c.Socket))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// cells are the columns of a latency, each with its tab.
func (l *latency) cells() string {
	if l == nil {
		return "\t\t\t\t\t"
	}
	d := func(ns int64) time.Duration { return round(time.Duration(ns)) }
	return fmt.Sprintf("%d\t%v\t%v\t%v\t%v\t", l.Count, d(l.Median), d(l.P90), d(l.P99), d(l.Max))
}

// round leaves three digits or so of d.
func round(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
