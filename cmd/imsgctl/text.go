package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

// A text is a form for people: a line for each message, in the manner of
// smtpd's, with columns that grow. Nothing that a peer chose gets into it
// unquoted.
type text struct {
	verbose, color bool
	ends, types    int // widths
	named          map[int]bool
}

// Colors, as a terminal is told of them.
const (
	dim    = "2"
	bold   = "1"
	cyan   = "1;36"
	yellow = "33"
	red    = "1;31"
)

const widest = 48 // column that others are aligned to

func (t *text) paint(b []byte, color, s string) []byte {
	if !t.color {
		return append(b, s...)
	}
	b = append(append(append(b, "\x1b["...), color...), 'm')
	return append(append(b, s...), "\x1b[0m"...)
}

// pad makes what begins at b[at:] as wide as the column.
func pad(b []byte, at int, width *int, colored int) []byte {
	n := utf8.RuneCount(b[at:]) - colored
	*width = max(*width, min(n, widest))
	for ; n < *width; n++ {
		b = append(b, ' ')
	}
	return b
}

func (t *text) append(b []byte, r *capture.Record, p *profile.Profile) []byte {
	if !r.Time.IsZero() {
		var at [32]byte
		b = t.paint(b, dim, string(r.Time.Local().AppendFormat(at[:0], "15:04:05.000000")))
		b = append(b, ' ')
	}
	at := len(b)
	b = appendEnds(b, r)
	b = pad(b, at, &t.ends, 0)
	b = append(b, ' ')
	at = len(b)
	plain := len(p.TypeText(r.Header.Type))
	b = t.paint(b, cyan, p.TypeText(r.Header.Type))
	b = pad(b, at, &t.types, len(b)-at-plain)
	b = appendUint(append(b, " id "...), uint64(r.Header.ID))
	b = strconv.AppendInt(append(b, " pid "...), int64(r.Header.PID), 10)
	b = appendUint(append(b, " len "...), uint64(r.Len))
	if r.Dialect == capture.Legacy {
		b = append(b, " legacy"...)
	}
	if r.Channel > 0 {
		b = appendUint(append(b, " #"...), uint64(r.Channel))
	}
	if r.Name != "" && !t.named[r.Channel] || t.verbose && r.Name != "" {
		b = append(append(b, ' '), quote(r.Name)...)
		if len(t.named)%manyChannels == 0 { // then they are told again
			t.named = make(map[int]bool)
		}
		t.named[r.Channel] = true
	}
	for _, f := range r.Files {
		b = t.appendFile(b, f)
	}
	if r.Marked && len(r.Files) == 0 {
		b = t.paint(b, red, " + a file that was not seen")
	}
	if r.Wait >= time.Millisecond || t.verbose && r.Wait > 0 {
		b = append(append(b, " waited "...), r.Wait.Round(time.Microsecond).String()...)
	}
	if s, ok := plainText(r.Payload); ok && !t.verbose {
		b = append(append(b, ' '), s...)
	}
	if r.Note != "" {
		b = t.paint(b, dim, " ("+escape(r.Note)+")")
	}
	b = append(b, '\n')
	if t.verbose {
		b = appendFields(b, r, p)
		b = appendDump(b, r)
	}
	return b
}

// appendEnds appends "bgpd[12] -> rde[13]", or the most that is known.
func appendEnds(b []byte, r *capture.Record) []byte {
	from, to := "", ""
	switch r.Dir {
	case capture.DirOut:
		from, to = "client", "server"
	case capture.DirIn:
		from, to = "server", "client"
	}
	if from == "" && r.From == (capture.Endpoint{}) && r.To == (capture.Endpoint{}) {
		return append(b, '-')
	}
	b = appendEnd(b, r.From, from)
	b = append(b, " -> "...)
	return appendEnd(b, r.To, to)
}

func appendEnd(b []byte, e capture.Endpoint, unknown string) []byte {
	if e.Exe != "" {
		b = append(b, quote(filepath.Base(e.Exe))...)
	} else if e.PID == 0 {
		return append(b, cmp.Or(unknown, "?")...)
	}
	if e.PID != 0 {
		b = append(strconv.AppendInt(append(b, '['), int64(e.PID), 10), ']')
	}
	return b
}

// appendFile appends for example " + pipe 'pipe:[123]' wronly".
func (t *text) appendFile(b []byte, f capture.File) []byte {
	color, s := yellow, " + "+cmp.Or(escape(f.Kind), "file")
	if f.Path != "" {
		s += " " + quote(f.Path)
	}
	if f.Flags != "" {
		s += " " + escape(f.Flags)
	}
	if t.verbose && (f.From >= 0 || f.To >= 0) {
		s += " " + number(f.From) + "->" + number(f.To)
	}
	if f.Lost {
		color, s = red, s+" LOST"
	}
	return t.paint(b, color, s)
}

func number(fd int) string {
	if fd < 0 {
		return "?"
	}
	return strconv.Itoa(fd)
}

// plainText returns the beginning of a payload, quoted, if it is a text.
func plainText(p []byte) (string, bool) {
	const most = 48
	s := p[:min(len(p), 4*most)]
	for len(s) > 0 && s[len(s)-1] == 0 && len(p) == len(s) {
		s, p = s[:len(s)-1], p[:len(p)-1]
	}
	n := 0
	for i := 0; i < len(s) && n < most; n++ {
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) && r != '\n' && r != '\t' {
			return "", false
		}
		i += size
		if n == most-1 && i < len(p) {
			return strconv.Quote(string(s[:i])) + "...", true
		}
	}
	return strconv.Quote(string(s)), len(s) > 0
}

// appendFields appends what the profile knows, a line each.
func appendFields(b []byte, r *capture.Record, p *profile.Profile) []byte {
	f, err := p.Decode(r.Header.Type, r.Payload, r.Order)
	if err != nil && r.Cut() == 0 {
		return append(append(append(b, "    ("...), escape(err.Error())...), ")\n"...)
	}
	return appendValue(b, "", f)
}

// appendValue appends what is in v, named path, a line for each scalar; long
// arrays of scalars are one line.
func appendValue(b []byte, path string, v any) []byte {
	switch v := v.(type) {
	case profile.Fields:
		for _, f := range v {
			b = appendValue(b, strings.TrimPrefix(path+"."+f.Name, "."), f.Value)
		}
		return b
	case []any:
		nested := slices.ContainsFunc(v, func(e any) bool { _, ok := e.(profile.Fields); return ok })
		for i, e := range v {
			if nested {
				b = appendValue(b, path+"["+strconv.Itoa(i)+"]", e)
			}
		}
		if nested {
			return b
		}
	}
	return fmt.Appendf(b, "    %s = %s\n", escape(path), scalar(v))
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, scalar(e))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	return fmt.Sprint(v)
}

// appendDump appends the payload in hex.
func appendDump(b []byte, r *capture.Record) []byte {
	for line := range strings.Lines(hex.Dump(r.Payload)) {
		b = append(append(b, "    "...), line...)
	}
	if n := r.Cut(); n > 0 {
		b = append(append(b, "    ... "...), count(n, "more byte")...)
		b = append(b, " not captured\n"...)
	}
	return b
}

func appendUint(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }

// quote returns s as it is if that is one plain word, and as a Go string
// otherwise.
func quote(s string) string {
	for _, r := range s {
		if r == unicode.ReplacementChar || r == '"' || r == '\\' || r == ' ' || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
