package main

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

var dirNames = [...]string{"", "out", "in"}

// orderName returns "little" or "big".
func orderName(o binary.ByteOrder) string {
	if o == nil {
		o = binary.NativeEndian
	}
	if o.Uint16([]byte{1, 0}) == 1 {
		return "little"
	}
	return "big"
}

// appendJSON appends one message as --json shows it. What is not known, or what
// the message does not have, is left out. Times are nanoseconds, since 1970 or
// in the socket; the payload is hex.
func appendJSON(b []byte, r *capture.Record, p *profile.Profile) []byte {
	j := jsonText(append(b, '{'))
	if !r.Time.IsZero() {
		j.number("time", r.Time.UnixNano())
		if r.Wait >= 0 {
			j.number("wait", r.Wait.Nanoseconds())
		}
	}
	if r.Channel != 0 {
		j.number("channel", int64(r.Channel))
	}
	j.text("socket", r.Name)
	j.text("dir", dirNames[r.Dir])
	j.end("from", r.From)
	j.end("to", r.To)
	j.number("type", int64(r.Header.Type))
	j.text("name", p.TypeName(r.Header.Type))
	j.number("id", int64(r.Header.ID))
	j.number("pid", int64(r.Header.PID))
	j.number("len", int64(r.Len))
	j.text("dialect", r.Dialect.String())
	j.text("order", orderName(r.Order))
	j.key("marked")
	j = strconv.AppendBool(j, r.Marked)
	j.files(r.Files)
	j.key("payload")
	j = append(hex.AppendEncode(append(j, '"'), r.Payload), '"')
	if n := r.Cut(); n > 0 {
		j.number("cut", int64(n))
	}
	if p != nil {
		j.text("profile", p.Name)
	}
	if f, err := p.Decode(r.Header.Type, r.Payload, r.Order); len(f) > 0 && err == nil {
		if text, err := json.Marshal(f); err == nil {
			j.key("fields")
			j = appendASCII(j, string(text), false)
		}
	}
	j.text("note", r.Note)
	return append(j, "}\n"...)
}

// A jsonText is an object that is being written.
type jsonText []byte

func (j *jsonText) key(k string) {
	if last := (*j)[len(*j)-1]; last != '{' && last != '[' {
		*j = append(*j, ',')
	}
	*j = append(append(append(*j, '"'), k...), '"', ':')
}

func (j *jsonText) number(k string, n int64) {
	j.key(k)
	*j = strconv.AppendInt(*j, n, 10)
}

// text adds a text, if there is one.
func (j *jsonText) text(k, s string) {
	if s != "" {
		j.key(k)
		*j = append(appendASCII(append(*j, '"'), s, true), '"')
	}
}

func (j *jsonText) end(k string, e capture.Endpoint) {
	if e == (capture.Endpoint{}) {
		return
	}
	j.key(k)
	*j = append(*j, '{')
	if e.PID != 0 {
		j.number("pid", int64(e.PID))
	}
	j.text("exe", e.Exe)
	if e.FD != 0 {
		j.number("fd", int64(e.FD))
	}
	*j = append(*j, '}')
}

func (j *jsonText) files(files []capture.File) {
	if len(files) == 0 {
		return
	}
	j.key("files")
	*j = append(*j, '[')
	for i, f := range files {
		if i > 0 {
			*j = append(*j, ',')
		}
		*j = append(*j, '{')
		if f.From >= 0 {
			j.number("from", int64(f.From))
		}
		if f.To >= 0 {
			j.number("to", int64(f.To))
		}
		j.text("kind", f.Kind)
		j.text("path", f.Path)
		j.text("flags", f.Flags)
		if f.Lost {
			j.key("lost")
			*j = append(*j, "true"...)
		}
		*j = append(*j, '}')
	}
	*j = append(*j, ']')
}

// appendASCII escapes what is not ASCII, which a terminal need not understand,
// or understands too well: in a text, also what JSON cannot have in one; in a
// JSON value, whose strings alone can have it, nothing more.
func appendASCII(b []byte, s string, text bool) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		if r >= ' ' && r < 0x7f || !text && r < ' ' {
			if text && (r == '"' || r == '\\') {
				b = append(b, '\\')
			}
			b = append(b, byte(r))
			continue
		}
		for _, u := range utf16.AppendRune(nil, r) {
			b = append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
		}
	}
	return b
}
