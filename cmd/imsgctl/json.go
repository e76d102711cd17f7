package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"

	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/profile"
)

// jsonRecord is one message as --json shows it. A number that is not known is
// left out, as is what a message does not have.
type jsonRecord struct {
	Time    int64          `json:"time,omitempty"` // nanoseconds since 1970
	Wait    *int64         `json:"wait,omitempty"` // nanoseconds in the socket
	Channel int            `json:"channel,omitempty"`
	Socket  string         `json:"socket,omitempty"`
	Dir     string         `json:"dir,omitempty"`
	From    *jsonEnd       `json:"from,omitempty"`
	To      *jsonEnd       `json:"to,omitempty"`
	Type    uint32         `json:"type"`
	Name    string         `json:"name,omitempty"`
	ID      uint32         `json:"id"`
	PID     int32          `json:"pid"`
	Len     int            `json:"len"`
	Dialect string         `json:"dialect"`
	Order   string         `json:"order"`
	Marked  bool           `json:"marked"`
	Files   []jsonFile     `json:"files,omitempty"`
	Payload string         `json:"payload"` // hex
	Cut     int            `json:"cut,omitempty"`
	Profile string         `json:"profile,omitempty"`
	Fields  profile.Fields `json:"fields,omitempty"`
	Note    string         `json:"note,omitempty"`
}

type jsonEnd struct {
	PID int    `json:"pid,omitempty"`
	Exe string `json:"exe,omitempty"`
	FD  int    `json:"fd,omitempty"`
}

type jsonFile struct {
	From  *int   `json:"from,omitempty"`
	To    *int   `json:"to,omitempty"`
	Kind  string `json:"kind,omitempty"`
	Path  string `json:"path,omitempty"`
	Flags string `json:"flags,omitempty"`
	Lost  bool   `json:"lost,omitempty"`
}

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

func appendJSON(b []byte, r *capture.Record, p *profile.Profile) []byte {
	known := func(n int) *int {
		if n < 0 {
			return nil
		}
		return &n
	}
	end := func(e capture.Endpoint) *jsonEnd {
		if e == (capture.Endpoint{}) {
			return nil
		}
		return &jsonEnd{e.PID, e.Exe, e.FD}
	}
	j := jsonRecord{
		Channel: r.Channel, Socket: r.Name, Dir: dirNames[r.Dir], From: end(r.From), To: end(r.To),
		Type: r.Header.Type, Name: p.TypeName(r.Header.Type), ID: r.Header.ID, PID: r.Header.PID, Len: r.Len,
		Dialect: r.Dialect.String(), Order: orderName(r.Order), Marked: r.Marked,
		Payload: hex.EncodeToString(r.Payload), Cut: r.Cut(), Note: r.Note,
	}
	if !r.Time.IsZero() {
		j.Time = r.Time.UnixNano()
		if r.Wait >= 0 {
			wait := r.Wait.Nanoseconds()
			j.Wait = &wait
		}
	}
	for _, f := range r.Files {
		j.Files = append(j.Files, jsonFile{known(f.From), known(f.To), f.Kind, f.Path, f.Flags, f.Lost})
	}
	if p != nil {
		j.Profile = p.Name
	}
	if f, err := p.Decode(r.Header.Type, r.Payload, r.Order); len(f) > 0 && err == nil {
		j.Fields = f
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.Encode(j) // nothing in it can fail
	return appendASCII(b, out.Bytes())
}

// appendASCII escapes in a JSON text what is not ASCII, which can only be in
// its strings: a terminal need not understand it, or too well.
func appendASCII(b, text []byte) []byte {
	const digits = "0123456789abcdef"
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		if r < 0x7f {
			b = append(b, byte(r))
			continue
		}
		for _, u := range utf16.AppendRune(nil, r) {
			b = append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
		}
	}
	return b
}
